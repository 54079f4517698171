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

// Finishes and stores four elements; `quad` counts within this weight part.
fn finish4(row: u32, quad: u32, sum: vec4<f32>) {
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
    let at = row * (p.total_cols / 4u) + n;
    if IN_PLACE {
        v += vec4<f32>(y[at]);
    } else if RESIDUAL {
        v += vec4<f32>(residual[(row % p.residual_rows) * (p.total_cols / 4u) + n]);
    }
    y[at] = vec4<Y>(v);
}
