// Layer norm or RMS norm: one workgroup a row, WG lanes stride it; mean and variance in two passes.
// Prelude: types X, Y; bool LAYER (else RMS, where `bias` is bound to the gain and not read); u32 WG.

struct Params { rows: u32, width: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<X>;        // (rows, width)
@group(0) @binding(1) var<storage, read> gain: array<f32>;   // (width)
@group(0) @binding(2) var<storage, read> bias: array<f32>;   // (width)
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
    var mean = 0.0;
    if LAYER {
        var sum = 0.0;
        for (var i = lane; i < p.width; i += WG) {
            sum += f32(x[start + i]);
        }
        mean = row_sum(lane, sum) / f32(p.width);
    }
    var square = 0.0;
    for (var i = lane; i < p.width; i += WG) {
        let d = f32(x[start + i]) - mean;
        square = fma(d, d, square);
    }
    let inverse = 1.0 / sqrt(row_sum(lane, square) / f32(p.width) + p.eps);
    for (var i = lane; i < p.width; i += WG) {
        var v = (f32(x[start + i]) - mean) * inverse * gain[i];
        if LAYER {
            v += bias[i];
        }
        y[start + i] = Y(v);
    }
}
