// What a convolution reads and writes, and its epilogue; the names are those of `matmul_io.wgsl`, so
// that the kernels of linear layers compute it. `conv_params.wgsl` comes before.
// Prelude: types XV (activations, one or four), W (weight), R (residual), Y (result); u32 ACT; bool
// BIAS, RESIDUAL, IN_PLACE (the residual is what y holds). An operand that is off is bound to x and
// never read.

@group(0) @binding(0) var<storage, read> x: array<XV>;            // (B, H, W, C), XV being X or four of X
@group(0) @binding(1) var<storage, read> weight: array<vec4<W>>;  // see matmul_weight.wgsl
@group(0) @binding(2) var<storage, read> bias: array<f32>;        // (N)
@group(0) @binding(3) var<storage, read> residual: array<R>;      // (residual_rows, N)
@group(0) @binding(4) var<storage, read_write> y: array<Y>;       // (B, Ho, Wo, N)
@group(0) @binding(5) var<uniform> p: Params;

// Finishes and stores one element; `col` counts within this weight part.
fn finish(row: u32, col: u32, sum: f32) {
    if row >= p.rows || col >= p.cols {
        return;
    }
    let n = p.first_col + col;
    var v = sum;
    if BIAS {
        v += bias[n];
    }
    v = activate(ACT, v);
    let at = row * p.total_cols + n;
    if IN_PLACE {
        v += f32(y[at]);
    } else if RESIDUAL {
        v += f32(residual[(row % p.residual_rows) * p.total_cols + n]);
    }
    y[at] = Y(v);
}

fn finish4(row: u32, quad: u32, sum: vec4<f32>) {
    finish(row, quad * 4u, sum.x);
    finish(row, quad * 4u + 1u, sum.y);
    finish(row, quad * 4u + 2u, sum.z);
    finish(row, quad * 4u + 3u, sum.w);
}
