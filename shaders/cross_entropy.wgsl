// Cross entropy of rows of scores with one class each, by the row's maximum: one workgroup a row, WG lanes
// stride it. A label past the row's end is ignored, and its row counts 0.
// Prelude: type X; bool SMOOTHED (`smoothing` of the target is spread over all classes); u32 WG.

struct Params { rows: u32, width: u32, smoothing: f32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (rows, width)
@group(0) @binding(1) var<storage, read> labels: array<u32>;   // (rows)
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
    var below = 0.0;
    for (var i = lane; i < width; i += WG) {
        let d = f32(x[start + i]) - top;
        sum += exp(d);
        below -= d;
    }
    sum = row_sum(lane, sum);
    if SMOOTHED {
        below = row_sum(lane, below);
    }
    if lane != 0u {
        return;
    }
    if width == 0u {
        y[row] = 0.0;
        return;
    }
    let rest = log(sum);
    var loss = rest - (f32(x[start + label]) - top);
    if SMOOTHED {
        loss = (1.0 - p.smoothing) * loss + p.smoothing * (rest + below / f32(width));
    }
    y[row] = loss;
}
