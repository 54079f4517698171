// Mean of the squared difference of rows: one workgroup a row, WG lanes stride it.
// Prelude: types X, T; u32 WG.

struct Params { rows: u32, width: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (rows, width)
@group(0) @binding(1) var<storage, read> wanted: array<T>;     // (rows, width)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (rows)
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wg.y * wgs.x + wg.x;
    if row >= p.rows {
        return;
    }
    let start = row * p.width;
    var sum = 0.0;
    for (var i = lane; i < p.width; i += WG) {
        let d = f32(x[start + i]) - f32(wanted[start + i]);
        sum = fma(d, d, sum);
    }
    sum = row_sum(lane, sum);
    if lane == 0u {
        y[row] = sum / f32(p.width);
    }
}
