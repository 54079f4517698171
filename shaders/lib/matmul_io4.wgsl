// What a matmul kernel reads and writes, four columns at a time, and the epilogue for that: for
// kernels that are only asked for N and D (where heads are split) that are multiples of four. The
// bindings are those of `matmul_io.wgsl`, the prelude too; R and Y are always read and written in
// fours. An operand that is off is bound to x and never read.

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

@group(0) @binding(0) var<storage, read> x: array<XV>;              // (rows, K/4), XV being four of X
@group(0) @binding(1) var<storage, read> weight: array<vec4<W>>;    // see matmul_weight.wgsl
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;    // (N/4)
@group(0) @binding(3) var<storage, read> scale: array<vec4<f32>>;   // (N/4)
@group(0) @binding(4) var<storage, read> residual: array<vec4<R>>;  // (residual_rows, N/4)
@group(0) @binding(5) var<storage, read_write> y: array<vec4<Y>>;   // (rows, N/4) or (ways·B, H, T, D/4)
@group(0) @binding(6) var<uniform> p: Params;

// Where four elements of the result lie, counted in fours; `quad` counts among all columns.
fn result_quad(row: u32, quad: u32) -> u32 {
    if HEADS {
        let depth = D / 4u;
        let head = quad / depth;
        let way = head / H;
        let h = head - way * H;
        let b = row / p.tokens;
        let t = row - b * p.tokens;
        return (((way * p.batch + b) * H + h) * p.tokens + t) * depth + (quad - head * depth);
    }
    return row * (p.total_cols / 4u) + quad;
}

// What is added to four elements at the end; past the last row and column, what is added to those.
fn addend4(row: u32, quad: u32) -> vec4<f32> {
    let r = min(row, p.rows - 1u);
    let n = p.first_col / 4u + min(quad, p.stride4 - 1u);
    if IN_PLACE {
        return vec4<f32>(y[result_quad(r, n)]);
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
    if SCALE {
        v *= scale[n];
    }
    if IN_PLACE || RESIDUAL {
        v += addend;
    }
    y[result_quad(row, n)] = vec4<Y>(v);
}
