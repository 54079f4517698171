// The epilogue of a decode step's projection to q, k and v: bias, or rotation of q and k by their place
// in the sequence, and k and v to their places in the cache. The result holds q, k and v, too.
// Prelude: type KV (cache); bool BIAS, ROTARY; u32 H, D. With ROTARY there is no bias, and the rotary table
// (P, D), cos and sin of each pair, is bound in its place: one binding more would be too many for Metal.

@group(0) @binding(4) var<storage, read> step: array<u32>;    // the first row's place in the sequence
@group(0) @binding(5) var<storage, read_write> kv: array<KV>; // k (B, H, D/4, P, 4), then v (B, H, P, D)
@group(0) @binding(6) var<storage, read_write> y: array<Y>;   // (3·B, H, T, D)
@group(0) @binding(7) var<uniform> p: Params;

fn biased(col: u32, sum: f32) -> f32 {
    if BIAS && col < p.cols {
        return sum + bias[p.first_col + col];
    }
    return sum;
}

// Turns a pair of neighbouring columns of q or k.
fn turned(row: u32, col: u32, pair: vec2<f32>) -> vec2<f32> {
    let n = p.first_col + col;
    if !ROTARY || col >= p.cols || row >= p.rows || n >= 2u * H * D {
        return pair;
    }
    let at = min(step[0] + row % p.tokens, p.positions - 1u) * D + n % D;
    let c = bias[at];
    let s = bias[at + 1u];
    return vec2<f32>(pair.x * c - pair.y * s, pair.y * c + pair.x * s);
}

fn finish(row: u32, col: u32, v: f32) {
    if row >= p.rows || col >= p.cols {
        return;
    }
    let n = p.first_col + col;
    let width = H * D;
    let way = n / width;
    let d = n % D;
    let t = row % p.tokens;
    let bh = row / p.tokens * H + (n % width) / D;
    y[((way * p.batch * H + bh) * p.tokens + t) * D + d] = Y(v);
    let place = step[0] + t;
    let quads = (D + 3u) / 4u;
    if place >= p.positions {
        return;
    }
    if way == 1u {
        kv[((bh * quads + d / 4u) * p.positions + place) * 4u + d % 4u] = KV(v);
    } else if way == 2u {
        kv[((p.batch * H + bh) * p.positions + place) * quads * 4u + d] = KV(v);
    }
}

fn finish4(row: u32, quad: u32, sum: vec4<f32>) {
    let col = quad * 4u;
    let a = turned(row, col, vec2<f32>(biased(col, sum.x), biased(col + 1u, sum.y)));
    let b = turned(row, col + 2u, vec2<f32>(biased(col + 2u, sum.z), biased(col + 3u, sum.w)));
    finish(row, col, a.x);
    finish(row, col + 1u, a.y);
    finish(row, col + 2u, b.x);
    finish(row, col + 3u, b.y);
}
