// The epilogue of a decode step's linear layer: bias, activation or gated unit, residual.
// Prelude: type R (residual); bool BIAS, GATED, RESIDUAL, IN_PLACE, HEADS (with u32 H and D). An operand
// that is off is bound to x and never read.

@group(0) @binding(4) var<storage, read> residual: array<R>;  // (residual_rows, N)
@group(0) @binding(5) var<storage, read_write> y: array<Y>;   // (rows, N), (rows, N/2) or (ways·B, H, T, D)
@group(0) @binding(6) var<uniform> p: Params;

fn result_index(row: u32, col: u32) -> u32 {
    if HEADS {
        let width = H * D;
        let h = (col % width) / D;
        let b = col / width * p.batch + row / p.tokens;
        return ((b * H + h) * p.tokens + row % p.tokens) * D + col % D;
    }
    return row * p.total_cols + col;
}

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
    let at = result_index(row, n);
    if IN_PLACE {
        v += f32(y[at]);
    } else if RESIDUAL {
        v += f32(residual[(row % p.residual_rows) * p.total_cols + n]);
    }
    y[at] = Y(v);
}

// Two columns are gate and value of one element.
fn finish_gated(row: u32, col: u32, gate: f32, value: f32) {
    if row < p.rows && col < p.cols {
        y[(row * p.total_cols + p.first_col + col) / 2u] = Y(activate(ACT, gate) * value);
    }
}

fn finish4(row: u32, quad: u32, sum: vec4<f32>) {
    if GATED {
        finish_gated(row, quad * 4u, sum.x, sum.y);
        finish_gated(row, quad * 4u + 2u, sum.z, sum.w);
    } else {
        finish(row, quad * 4u, sum.x);
        finish(row, quad * 4u + 1u, sum.y);
        finish(row, quad * 4u + 2u, sum.z);
        finish(row, quad * 4u + 3u, sum.w);
    }
}
