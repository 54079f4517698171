// Linear layer of a decode step, where reading the weight once is what counts: one workgroup makes all
// rows x 4·LINE columns; LINE lanes side by side take four columns each, and 256/LINE such lines of lanes
// share K and add up in workgroup memory. Prelude adds u32 LINE, WG (256: for row.wgsl).

const LINES: u32 = WG / LINE;

var<workgroup> sums: array<vec4<f32>, WG>;  // (LINES, LINE)

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
                for (var k = lane * 4u; k < p.inner; k += WG * 4u) {
                    sum += four_of_x(start, k);
                }
                mean = row_sum(lane, dot(sum, vec4<f32>(1.0))) / f32(p.inner);
            }
            var square = 0.0;
            for (var k = lane * 4u; k < p.inner; k += WG * 4u) {
                let d = inside(four_of_x(start, k) - mean, k);
                square += dot(d, d);
            }
            row_mean[r] = mean;
            row_inverse[r] = 1.0 / sqrt(row_sum(lane, square) / f32(p.inner) + p.eps);
        }
    }
    let quad = group * LINE + lane % LINE;
    let at = min(quad, p.stride4 - 1u);
    var acc: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        acc[r] = vec4<f32>();
    }
    for (var k = lane / LINE * 4u; k < p.inner; k += LINES * 4u) {
        let w0 = columns_of_w(0u, k, at);
        let w1 = columns_of_w(0u, k + 1u, at);
        let w2 = columns_of_w(0u, k + 2u, at);
        let w3 = columns_of_w(0u, k + 3u, at);
        for (var r = 0u; r < ROWS; r++) {
            acc[r] = four_steps(acc[r], four_of_row(r, k), w0, w1, w2, w3);
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        sums[lane] = acc[r];
        workgroupBarrier();
        for (var half = WG / 2u; half >= LINE; half /= 2u) {
            if lane < half {
                sums[lane] += sums[lane + half];
            }
            workgroupBarrier();
        }
        if lane < LINE && quad < p.stride4 {
            finish4(r, quad, sums[lane]);
        }
        workgroupBarrier();
    }
}
