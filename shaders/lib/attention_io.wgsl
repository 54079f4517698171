// What every attention kernel reads and writes. q, k and v may be one packed buffer; then k_start
// and v_start say where k and v begin. Prelude: types QV, KV, VV (q, k, v, one or four elements, as
// `attention_scalars.wgsl` or `attention_quads.wgsl` reads them), Y; u32 D (head width), WG (queries
// a workgroup), KEYS (keys a step); bool BIAS and LENGTHS (else bound to q and not read), CAUSAL, WINDOW.

struct Params {
    heads: u32,       // H
    queries: u32,     // T
    keys: u32,        // S
    k_start: u32,     // element where k begins in its binding
    v_start: u32,
    bias_start: u32,  // bias of head h, query t and key s: bias_start + h·bias_head + t·bias_row + s,
    bias_head: u32,
    bias_row: u32,    // all modulo 2^32, so that it may be -1
    window: u32,      // keys that a query sees to each side of its place
    groups: u32,      // workgroups that have work
    scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<QV>;        // (B, H, T, D)
@group(0) @binding(1) var<storage, read> k: array<KV>;        // (B, H, S, D)
@group(0) @binding(2) var<storage, read> v: array<VV>;        // (B, H, S, D)
@group(0) @binding(3) var<storage, read> bias: array<f32>;     // (H, T, S), or (H, R) by key - query
@group(0) @binding(4) var<storage, read> lengths: array<u32>;  // (B), keys that count
@group(0) @binding(5) var<storage, read_write> y: array<Y>;   // (B, T, H·D)
@group(0) @binding(6) var<uniform> p: Params;

const QUADS: u32 = (D + 3u) / 4u;
const LOWEST: f32 = -3.0e38;

fn store_quad(start: u32, i: u32, r: vec4<f32>) {
    let c = i * 4u;
    y[start + c] = Y(r.x);
    if c + 1u < D { y[start + c + 1u] = Y(r.y); }
    if c + 2u < D { y[start + c + 2u] = Y(r.z); }
    if c + 3u < D { y[start + c + 3u] = Y(r.w); }
}

// How many keys of head bh (of all heads of the batch) count.
fn counted(bh: u32) -> u32 {
    if LENGTHS {
        return clamp(lengths[bh / p.heads], 1u, p.keys);
    }
    return p.keys;
}

// The key behind the last that query t sees; a later query sees no fewer.
fn visible(bh: u32, t: u32) -> u32 {
    var keys = counted(bh);
    let own = t + p.keys - p.queries;
    if WINDOW {
        keys = min(keys, min(own, keys - 1u) + 1u + p.window);
    }
    if CAUSAL {
        keys = min(keys, own + 1u);
    }
    return keys;
}

// The first key that query t sees; a later query's is no earlier one.
fn first_visible(bh: u32, t: u32) -> u32 {
    if !WINDOW {
        return 0u;
    }
    let own = min(t + p.keys - p.queries, counted(bh) - 1u);
    return own - min(own, p.window);
}

// Where the biases of query t of head h begin.
fn biases(h: u32, t: u32) -> u32 {
    return p.bias_start + h * p.bias_head + t * p.bias_row;
}
