// Sum of elements by weight: one workgroup, WG lanes stride all. A weight of 0 leaves its element out, even a
// NaN. Prelude: types X, W; u32 WG.

struct Params { rows: u32, width: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (width)
@group(0) @binding(1) var<storage, read> weights: array<W>;    // (width)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (1)
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if wg.y * wgs.x + wg.x >= p.rows {
        return;
    }
    var sum = 0.0;
    for (var i = lane; i < p.width; i += WG) {
        let weight = f32(weights[i]);
        // By its bits, either sign: what compares with a NaN is left open.
        if (bitcast<u32>(weight) & 0x7fffffffu) != 0u {
            sum = fma(f32(x[i]), weight, sum);
        }
    }
    sum = row_sum(lane, sum);
    if lane == 0u {
        y[0] = sum;
    }
}
