// Linear layer of a decode step for software adapters: one lane makes all rows x 4 columns, x is the
// same for the whole workgroup (so it is read as scalars), no workgroup memory and no barrier. Every
// workgroup finds mean and deviation anew: that is little beside the columns it reads.
// Prelude adds u32 WG.

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
    let quad = group * WG + lane;
    let at = min(quad, p.stride4 - 1u);
    var acc: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        acc[r] = vec4<f32>();
    }
    for (var k = 0u; k < p.inner; k += 4u) {
        let w0 = columns_of_w(0u, k, at);
        let w1 = columns_of_w(0u, k + 1u, at);
        let w2 = columns_of_w(0u, k + 2u, at);
        let w3 = columns_of_w(0u, k + 3u, at);
        for (var r = 0u; r < ROWS; r++) {
            acc[r] = four_steps(acc[r], four_of_row(r, k), w0, w1, w2, w3);
        }
    }
    if quad < p.stride4 {
        // The sums move down to the first place one by one: with a variable index drivers keep all
        // of them in memory, and unrolled, the epilogue would be most of the code.
        for (var r = 0u; r < p.rows; r++) {
            finish4(r, quad, acc[0]);
            for (var j = 0u; j + 1u < ROWS; j++) {
                acc[j] = acc[j + 1u];
            }
        }
    }
}
