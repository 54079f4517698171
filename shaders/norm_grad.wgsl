// What a norm passes back to x: one workgroup a row, WG lanes stride it (ops/norm_grad.rs has the formula).
// Prelude: types X, DY, Y; bool LAYER (else RMS); u32 WG.

struct Params { rows: u32, width: u32, chunk: u32, groups: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<X>;        // (rows, width)
@group(0) @binding(1) var<storage, read> gain: array<f32>;   // (width)
@group(0) @binding(2) var<storage, read> dy: array<DY>;      // (rows, width)
@group(0) @binding(3) var<storage, read_write> y: array<Y>;  // (rows, width)
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
    let start = row * p.width;
    let width = f32(p.width);
    var mean = 0.0;
    if LAYER {
        var sum = 0.0;
        for (var i = lane; i < p.width; i += WG) {
            sum += f32(x[start + i]);
        }
        mean = row_sum(lane, sum) / width;
    }
    var square = 0.0;
    var along = 0.0;
    var total = 0.0;
    for (var i = lane; i < p.width; i += WG) {
        let d = f32(x[start + i]) - mean;
        let g = f32(dy[start + i]) * gain[i];
        square = fma(d, d, square);
        along = fma(g, d, along);
        total += g;
    }
    let inverse = 1.0 / sqrt(row_sum(lane, square) / width + p.eps);
    along = row_sum(lane, along) / width * inverse;
    var shift = 0.0;
    if LAYER {
        shift = row_sum(lane, total) / width;
    }
    for (var i = lane; i < p.width; i += WG) {
        let hat = (f32(x[start + i]) - mean) * inverse;
        y[start + i] = Y((f32(dy[start + i]) * gain[i] - shift - hat * along) * inverse);
    }
}
