// Sums of rows: one workgroup adds up `chunk` rows of WG columns, a column a lane.
// Prelude: type X; u32 WG.

struct Params { rows: u32, cols: u32, chunk: u32, blocks: u32, groups: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (rows, cols)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (rows / chunk, cols)
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wg.y * wgs.x + wg.x;
    let column = group % p.blocks * WG + lane;
    if group >= p.groups || column >= p.cols {
        return;
    }
    let first = group / p.blocks * p.chunk;
    var sum = 0.0;
    for (var row = first; row < min(first + p.chunk, p.rows); row++) {
        sum += f32(x[row * p.cols + column]);
    }
    y[group / p.blocks * p.cols + column] = sum;
}
