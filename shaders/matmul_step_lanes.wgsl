// Linear layer of a decode step for software adapters: one lane makes all rows x 4·SPAN columns, no
// workgroup memory and no barrier. x is the same for the whole workgroup, and read as scalars; even so
// each read costs such drivers some cycles, so the more columns share it the better. Every workgroup
// finds mean and deviation anew: that is little beside the columns it reads.
// Prelude adds u32 WG, SPAN (quads of a lane).

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wg.y * wgs.x + wg.x;
    if group >= p.groups {
        return;
    }
    if NORM != 0u {
        for (var r = 0u; r < ROWS; r++) {
            let start = min(r, p.rows - 1u) * p.inner;
            var mean = 0.0;
            if NORM == 2u {
                var sum = vec4<f32>();
                for (var k = 0u; k < p.inner; k += 4u) {
                    sum += four_of_x(start, k);
                }
                mean = dot(sum, vec4<f32>(1.0)) / f32(p.inner);
            }
            var squares = vec4<f32>();
            for (var k = 0u; k < p.inner; k += 4u) {
                let d = inside(four_of_x(start, k) - mean, k);
                squares = fma(d, d, squares);
            }
            row_mean[r] = mean;
            row_inverse[r] = 1.0 / sqrt(dot(squares, vec4<f32>(1.0)) / f32(p.inner) + p.eps);
        }
    }
    // Quads of a lane lie WG apart, so that neighbouring lanes read neighbouring words.
    let first = group * WG * SPAN + lane;
    var at: array<u32, SPAN>;
    var acc: array<vec4<f32>, ROWS * SPAN>;
    for (var j = 0u; j < SPAN; j++) {
        at[j] = min(first + j * WG, p.stride4 - 1u);
        for (var r = 0u; r < ROWS; r++) {
            acc[j * ROWS + r] = vec4<f32>();
        }
    }
    for (var k = 0u; k < p.inner; k += 4u) {
        var v: array<vec4<f32>, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            v[r] = four_of_row(r, k);
        }
        for (var j = 0u; j < SPAN; j++) {
            let w0 = columns_of_w(0u, k, at[j]);
            let w1 = columns_of_w(0u, k + 1u, at[j]);
            let w2 = columns_of_w(0u, k + 2u, at[j]);
            let w3 = columns_of_w(0u, k + 3u, at[j]);
            for (var r = 0u; r < ROWS; r++) {
                acc[j * ROWS + r] = four_steps(acc[j * ROWS + r], v[r], w0, w1, w2, w3);
            }
        }
    }
    // The sums move down to the first place one by one: with a variable index drivers keep all of them
    // in memory, and unrolled, the epilogue would be most of the code.
    for (var i = 0u; i < ROWS * SPAN; i++) {
        let quad = first + i / ROWS * WG;
        if quad < p.stride4 && i % ROWS < p.rows {
            finish4(i % ROWS, quad, acc[0]);
        }
        for (var j = 0u; j + 1u < ROWS * SPAN; j++) {
            acc[j] = acc[j + 1u];
        }
    }
}
