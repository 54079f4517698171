// Logarithm of the probability that a row of scores gives one token, by the row's maximum: one workgroup a
// row, WG lanes stride it.
// Prelude: types X, Y; u32 WG.

struct Params { rows: u32, width: u32, first: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;        // (rows, width)
@group(0) @binding(1) var<storage, read> ids: array<u32>;    // those from `first` on are of the rows
@group(0) @binding(2) var<storage, read_write> y: array<Y>;  // (rows)
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
    var top = -3.0e38;
    for (var i = lane; i < p.width; i += WG) {
        top = max(top, f32(x[start + i]));
    }
    top = row_max(lane, top);
    var sum = 0.0;
    for (var i = lane; i < p.width; i += WG) {
        sum += exp(f32(x[start + i]) - top);
    }
    sum = row_sum(lane, sum);
    if lane == 0u {
        let id = min(ids[p.first + row], p.width - 1u);
        y[row] = Y(f32(x[start + id]) - top - log(sum));
    }
}
