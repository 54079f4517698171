// Factor, norm and whether that is finite, from sums of squares: one workgroup, WG lanes stride the sums.
// Prelude: u32 WG.

struct Params { count: u32, max_norm: f32 }

@group(0) @binding(0) var<storage, read> sums: array<f32>;     // (count)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (3)
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if wg.y * wgs.x + wg.x > 0u {
        return;
    }
    var sum = 0.0;
    for (var i = lane; i < p.count; i += WG) {
        sum += sums[i];
    }
    let norm = sqrt(row_sum(lane, sum));
    if lane == 0u {
        let fine = finite(norm);
        var factor = 1.0;
        if p.max_norm != 0.0 {
            factor = min(1.0, p.max_norm / (norm + 1e-6));
        }
        y[0] = select(0.0, factor, fine);
        y[1] = norm;
        y[2] = select(0.0, 1.0, fine);
    }
}
