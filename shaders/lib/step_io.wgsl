// What the linear layers of a decode step read: a few rows of x, normalised on the way if asked.
// Prelude: types XV, X (activations), W (weight), Y (result); bool QUADS (XV is four of X); u32 ACT,
// NORM (0 none, 1 RMS, 2 layer norm), ROWS (rows a workgroup makes; p.rows or more).

struct Params {
    rows: u32,           // rows of x
    inner: u32,          // K
    cols: u32,           // columns of this weight part
    first_col: u32,      // its first column among all
    total_cols: u32,     // N
    stride4: u32,        // vec4s of columns of this weight part
    residual_rows: u32,  // rows of the residual, repeated
    tokens: u32,         // T, where the result is head-split
    batch: u32,          // B, likewise
    groups: u32,         // workgroups that have work
    positions: u32,      // rows of a cached head
    eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<XV>;              // (rows, K)
@group(0) @binding(1) var<storage, read> weight: array<vec4<W>>;    // see matmul_weight.wgsl
@group(0) @binding(2) var<storage, read> bias: array<f32>;          // (N); see step_cache.wgsl
@group(0) @binding(3) var<storage, read> norm: array<f32>;          // gain (K), and bias (K) of a layer norm

// Mean and inverse deviation of each row.
var<private> row_mean: array<f32, ROWS>;
var<private> row_inverse: array<f32, ROWS>;

// Four elements of row `r` from k on, as the product takes them.
fn four_of_row(r: u32, k: u32) -> vec4<f32> {
    let v = four_of_x(min(r, p.rows - 1u) * p.inner, k);
    if NORM == 0u {
        return v;
    }
    var y = (v - row_mean[r]) * row_inverse[r] * four_of_norm(0u, k);
    if NORM == 2u {
        y += four_of_norm(p.inner, k);
    }
    return y;
}

// Four elements of gain or bias, zero past K.
fn four_of_norm(start: u32, k: u32) -> vec4<f32> {
    let at = start + k;
    if QUADS {
        return vec4<f32>(norm[at], norm[at + 1u], norm[at + 2u], norm[at + 3u]);
    }
    var v = vec4<f32>(norm[at], 0.0, 0.0, 0.0);
    if k + 1u < p.inner { v.y = norm[at + 1u]; }
    if k + 2u < p.inner { v.z = norm[at + 2u]; }
    if k + 3u < p.inner { v.w = norm[at + 3u]; }
    return v;
}

// What counts in four elements from k on: zero past K.
fn inside(v: vec4<f32>, k: u32) -> vec4<f32> {
    if QUADS {
        return v;
    }
    return select(vec4<f32>(), v, vec4<u32>(k, k + 1u, k + 2u, k + 3u) < vec4<u32>(p.inner));
}
