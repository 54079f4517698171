// What the kernels of attention's gradients read and write. Prelude: types QV, KV, VV, DV (q, k, v, dy, one
// or four elements, as `attention_scalars.wgsl` or `attention_quads.wgsl` reads them); u32 D (head width);
// bool BIAS (else bound to q and not read).

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

@group(0) @binding(0) var<storage, read> q: array<QV>;       // (B, H, T, D)
@group(0) @binding(1) var<storage, read> k: array<KV>;       // (B, H, S, D)
@group(0) @binding(2) var<storage, read> v: array<VV>;       // (B, H, S, D)
@group(0) @binding(3) var<storage, read> dy: array<DV>;      // (B, T, H·D)
@group(0) @binding(4) var<storage, read> rows: array<f32>;   // (B, H, T, 3), of `attention_rows.wgsl`
@group(0) @binding(5) var<storage, read> bias: array<f32>;   // (H, T, S), or (H, R) by key - query
@group(0) @binding(6) var<storage, read_write> result: array<f32>;
@group(0) @binding(7) var<uniform> p: Params;

const QUADS: u32 = (D + 3u) / 4u;

// Where query t of head bh (of all heads of the batch) begins in q.
fn query_at(bh: u32, t: u32) -> u32 {
    return (bh * p.queries + t) * D;
}

// Where key s begins in k, and its value in v.
fn key_at(bh: u32, s: u32) -> u32 {
    return (bh * p.keys + s) * D;
}

// Where the gradient of query t begins in dy.
fn dy_at(bh: u32, t: u32) -> u32 {
    return (((bh / p.heads) * p.queries + t) * p.heads + bh % p.heads) * D;
}

// How many keys query t sees; a later query sees no fewer.
fn seen_by(bh: u32, t: u32) -> u32 {
    return min(u32(rows[(bh * p.queries + t) * 3u + 2u]), p.keys);
}

// Weight of a key for query t, by the product of both and their bias.
fn weight_of(product: f32, biased: f32, bh: u32, t: u32) -> f32 {
    return exp(fma(product, p.scale, biased) - rows[(bh * p.queries + t) * 3u]);
}

// Gradient of the score, by the weight and that of the weight.
fn score_gradient(weight: f32, dp: f32, bh: u32, t: u32) -> f32 {
    return weight * (dp - rows[(bh * p.queries + t) * 3u + 1u]);
}

// Bias of query t and key s, 0 if there is none.
fn bias_of(bh: u32, t: u32, s: u32) -> f32 {
    if BIAS {
        return bias[p.bias_start + (bh % p.heads) * p.bias_head + t * p.bias_row + s];
    }
    return 0.0;
}

fn sum_of(r: vec4<f32>) -> f32 {
    return (r.x + r.y) + (r.z + r.w);
}

fn store_quad(start: u32, i: u32, r: vec4<f32>) {
    let c = i * 4u;
    result[start + c] = r.x;
    if c + 1u < D { result[start + c + 1u] = r.y; }
    if c + 2u < D { result[start + c + 2u] = r.z; }
    if c + 3u < D { result[start + c + 3u] = r.w; }
}
