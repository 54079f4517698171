// What an attention kernel reads and writes, four elements at a time: for kernels that are only
// asked for a head width D that is a multiple of four. The bindings are those of `attention_io.wgsl`.
// Prelude: types QV, KV, VV (four of q, k, v), Y; u32 D; bool BIAS and LENGTHS (else bound to q and
// not read), CAUSAL, WINDOW.

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

@group(0) @binding(0) var<storage, read> q: array<QV>;             // (B, H, T, D/4)
@group(0) @binding(1) var<storage, read> k: array<KV>;             // (B, H, S, D/4)
@group(0) @binding(2) var<storage, read> v: array<VV>;             // (B, H, S, D/4)
@group(0) @binding(3) var<storage, read> bias: array<f32>;     // (H, T, S), or (H, R) by key - query
@group(0) @binding(4) var<storage, read> lengths: array<u32>;  // (B), keys that count
@group(0) @binding(5) var<storage, read_write> y: array<vec4<Y>>;  // (B, T, H·D/4)
@group(0) @binding(6) var<uniform> p: Params;

const LOWEST: f32 = -3.0e38;

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
