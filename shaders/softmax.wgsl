// Softmax of rows: one workgroup a row, WG lanes stride it; by the row's maximum.
// Prelude: types X, Y; u32 WG.

struct Params { rows: u32, width: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;        // (rows, width)
@group(0) @binding(1) var<storage, read_write> y: array<Y>;  // (rows, width)
@group(0) @binding(2) var<uniform> p: Params;

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
    var top = -3.0e38;
    for (var i = lane; i < p.width; i += WG) {
        top = max(top, f32(x[start + i]));
    }
    top = row_max(lane, top);
    var sum = 0.0;
    for (var i = lane; i < p.width; i += WG) {
        sum += exp(f32(x[start + i]) - top);
    }
    let inverse = 1.0 / row_sum(lane, sum);
    for (var i = lane; i < p.width; i += WG) {
        y[start + i] = Y(exp(f32(x[start + i]) - top) * inverse);
    }
}
