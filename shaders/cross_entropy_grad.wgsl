// Gradient of the cross entropy of rows with regard to the scores, softmax less target: one workgroup a row,
// WG lanes stride it. A label past the row's end is ignored, and its row is zeros.
// Prelude: types X, D; u32 WG.

struct Params { rows: u32, width: u32, smoothing: f32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (rows, width)
@group(0) @binding(1) var<storage, read> labels: array<u32>;   // (rows)
@group(0) @binding(2) var<storage, read> dy: array<D>;         // (rows)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // (rows, width)
@group(0) @binding(4) var<uniform> p: Params;

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
    let label = labels[row];
    let start = row * p.width;
    // Nothing of an ignored row is read, but its lanes meet at the barriers, too.
    let width = select(0u, p.width, label < p.width);
    var top = -3.0e38;
    for (var i = lane; i < width; i += WG) {
        top = max(top, f32(x[start + i]));
    }
    top = row_max(lane, top);
    var sum = 0.0;
    for (var i = lane; i < width; i += WG) {
        sum += exp(f32(x[start + i]) - top);
    }
    sum = row_sum(lane, sum);
    if width == 0u {
        for (var i = lane; i < p.width; i += WG) {
            y[start + i] = 0.0;
        }
        return;
    }
    let inverse = 1.0 / sum;
    let factor = f32(dy[row]);
    let spread = p.smoothing / f32(width);
    for (var i = lane; i < width; i += WG) {
        let wanted = select(0.0, 1.0 - p.smoothing, i == label) + spread;
        y[start + i] = (exp(f32(x[start + i]) - top) * inverse - wanted) * factor;
    }
}
