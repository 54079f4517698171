// What every matmul kernel reads and writes, and the epilogue they share.
// Prelude: types XV (activations, one or four), W (weight), R (residual), Y (result); u32 ACT; bool BIAS, SCALE,
// RESIDUAL, IN_PLACE (the residual is what y holds), HEADS (with u32 H and D: the result is split into
// heads), GATED (two columns are gate and value of one element of a result of N/2; nothing else is on but
// ACT then). An operand that is off is bound to x and never read.

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
}

@group(0) @binding(0) var<storage, read> x: array<XV>;              // (rows, K), XV being X or four of X
@group(0) @binding(1) var<storage, read> weight: array<vec4<W>>;    // see matmul_weight.wgsl
@group(0) @binding(2) var<storage, read> bias: array<f32>;          // (N)
@group(0) @binding(3) var<storage, read> scale: array<f32>;         // (N)
@group(0) @binding(4) var<storage, read> residual: array<R>;        // (residual_rows, N)
@group(0) @binding(5) var<storage, read_write> y: array<Y>;         // (rows, N) or (ways·B, H, T, D)
@group(0) @binding(6) var<uniform> p: Params;

// Where element (row, col) of the result lies.
fn result_index(row: u32, col: u32) -> u32 {
    if HEADS {
        let width = H * D;
        let way = col / width;
        let h = (col % width) / D;
        let d = col % D;
        let b = row / p.tokens;
        let t = row % p.tokens;
        return (((way * p.batch + b) * H + h) * p.tokens + t) * D + d;
    }
    return row * p.total_cols + col;
}

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
    if SCALE {
        v *= scale[n];
    }
    let at = result_index(row, n);
    if IN_PLACE {
        v += f32(y[at]);
    } else if RESIDUAL {
        v += f32(residual[(row % p.residual_rows) * p.total_cols + n]);
    }
    y[at] = Y(v);
}

fn finish_gated(row: u32, col: u32, gate: f32, value: f32) {
    if row < p.rows && col < p.cols {
        y[(row * p.total_cols + p.first_col + col) / 2u] = Y(activate(ACT, gate) * value);
    }
}

fn finish4(row: u32, quad: u32, sum: vec4<f32>) {
    if GATED {
        finish_gated(row, quad * 4u, sum.x, sum.y);
        finish_gated(row, quad * 4u + 2u, sum.z, sum.w);
        return;
    }
    finish(row, quad * 4u, sum.x);
    finish(row, quad * 4u + 1u, sum.y);
    finish(row, quad * 4u + 2u, sum.z);
    finish(row, quad * 4u + 3u, sum.w);
}
