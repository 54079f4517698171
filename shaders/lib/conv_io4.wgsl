// What a convolution reads and writes, four columns at a time, and the epilogue for that: for kernels
// that are only asked for numbers of channels that are multiples of four. The bindings are those of
// `conv_io.wgsl`, the prelude too; R and Y are always read and written in fours. `conv_params.wgsl`
// comes before.

@group(0) @binding(0) var<storage, read> x: array<XV>;              // (B, H, W, C/4), XV being four of X
@group(0) @binding(1) var<storage, read> weight: array<vec4<W>>;    // see matmul_weight.wgsl
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;    // (N/4)
@group(0) @binding(3) var<storage, read> residual: array<vec4<R>>;  // (residual_rows, N/4)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<Y>>;   // (B, Ho, Wo, N/4)
@group(0) @binding(5) var<uniform> p: Params;

// What is added to four elements at the end; past the last row and column, what is added to those.
fn addend4(row: u32, quad: u32) -> vec4<f32> {
    let r = min(row, p.rows - 1u);
    let n = p.first_col / 4u + min(quad, p.stride4 - 1u);
    if IN_PLACE {
        return vec4<f32>(y[r * (p.total_cols / 4u) + n]);
    }
    if RESIDUAL {
        return vec4<f32>(residual[(r % p.residual_rows) * (p.total_cols / 4u) + n]);
    }
    return vec4<f32>();
}

// Finishes and stores four elements; `quad` counts within this weight part.
fn finish4(row: u32, quad: u32, sum: vec4<f32>, addend: vec4<f32>) {
    if row >= p.rows || quad >= p.stride4 {
        return;
    }
    let n = p.first_col / 4u + quad;
    var v = sum;
    if BIAS {
        v += bias[n];
    }
    if ACT != 0u {
        v = vec4<f32>(activate(ACT, v.x), activate(ACT, v.y), activate(ACT, v.z), activate(ACT, v.w));
    }
    if IN_PLACE || RESIDUAL {
        v += addend;
    }
    y[row * (p.total_cols / 4u) + n] = vec4<Y>(v);
}
