// What the kernels of `attention_rows` read and write. Prelude: types QV, KV, VV, DV (q, k, y, dy, one or four
// elements, as `attention_scalars.wgsl` or `attention_quads.wgsl` reads them); u32 D (head width); bool BIAS and
// LENGTHS (else bound to q and not read), CAUSAL.

struct Params {
    batch: u32,       // B
    heads: u32,       // H
    queries: u32,     // T
    keys: u32,        // S
    quads: u32,       // QUADS: no constant, so that drivers do not unroll loops of it
    bias_start: u32,  // bias of head h, query t and key s: bias_start + h·bias_head + t·bias_row + s,
    bias_head: u32,
    bias_row: u32,    // all modulo 2^32, so that it may be -1
    groups: u32,      // workgroups that have work
    scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<QV>;           // (B, H, T, D)
@group(0) @binding(1) var<storage, read> k: array<KV>;           // (B, H, S, D)
@group(0) @binding(2) var<storage, read> v: array<VV>;           // (B, T, H·D): y, and not v
@group(0) @binding(3) var<storage, read> dy: array<DV>;          // (B, T, H·D)
@group(0) @binding(4) var<storage, read> bias: array<f32>;       // (H, T, S), or (H, R) by key - query
@group(0) @binding(5) var<storage, read> lengths: array<u32>;    // (B), keys that count
@group(0) @binding(6) var<storage, read_write> rows: array<f32>; // (B, H, T, 3)
@group(0) @binding(7) var<uniform> p: Params;

const QUADS: u32 = (D + 3u) / 4u;
const LOWEST: f32 = -3.0e38;

// How many keys query t of head bh (of all heads of the batch) sees.
fn visible(bh: u32, t: u32) -> u32 {
    var keys = p.keys;
    if LENGTHS {
        keys = clamp(lengths[bh / p.heads], 1u, p.keys);
    }
    if CAUSAL {
        keys = min(keys, t + 1u + p.keys - p.queries);
    }
    return keys;
}

// Where the biases of query t begin.
fn biases(bh: u32, t: u32) -> u32 {
    return p.bias_start + (bh % p.heads) * p.bias_head + t * p.bias_row;
}

// Writes the log-sum-exp of query t's scores, and what else there is to know of it.
fn store_row(bh: u32, t: u32, lse: f32) {
    let merged = (((bh / p.heads) * p.queries + t) * p.heads + bh % p.heads) * D;
    var delta = vec4<f32>();
    for (var i = 0u; i < p.quads; i++) {
        delta = fma(quad_of_v(merged, i), quad_of_dy(merged, i), delta);
    }
    let at = (bh * p.queries + t) * 3u;
    rows[at] = lse;
    rows[at + 1u] = (delta.x + delta.y) + (delta.z + delta.w);
    rows[at + 2u] = f32(visible(bh, t));
}
