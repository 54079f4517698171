// What a norm passes back to its factors: one workgroup takes `chunk` rows, one after the other, and adds up
// dy·x̂, and for a layer norm dy below it, by column; each lane has its own columns. Sums of the workgroups
// lie one after the other in `y`. Prelude: types X, DY; bool LAYER (else RMS); u32 WG.

struct Params { rows: u32, width: u32, chunk: u32, groups: u32, eps: f32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (rows, width)
@group(0) @binding(1) var<storage, read> dy: array<DY>;        // (rows, width)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (groups, 2 or 1, width)
@group(0) @binding(3) var<uniform> p: Params;

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
    let width = f32(p.width);
    let out = group * p.width * select(1u, 2u, LAYER);
    let first = group * p.chunk;
    for (var row = first; row < min(first + p.chunk, p.rows); row++) {
        let start = row * p.width;
        var mean = 0.0;
        if LAYER {
            var sum = 0.0;
            for (var i = lane; i < p.width; i += WG) {
                sum += f32(x[start + i]);
            }
            mean = row_sum(lane, sum) / width;
        }
        var square = 0.0;
        for (var i = lane; i < p.width; i += WG) {
            let d = f32(x[start + i]) - mean;
            square = fma(d, d, square);
        }
        let inverse = 1.0 / sqrt(row_sum(lane, square) / width + p.eps);
        for (var i = lane; i < p.width; i += WG) {
            let g = f32(dy[start + i]);
            var gain = g * (f32(x[start + i]) - mean) * inverse;
            var bias = g;
            if row > first {
                gain += y[out + i];
                if LAYER {
                    bias += y[out + p.width + i];
                }
            }
            y[out + i] = gain;
            if LAYER {
                y[out + p.width + i] = bias;
            }
        }
    }
}
