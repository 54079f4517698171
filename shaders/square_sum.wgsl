// Sum of squares, in two launches where one workgroup is not enough: each sums up a tile, WG lanes striding it;
// then a single one sums up what those came to. Prelude: type X; bool SQUARED (the former); u32 WG.

struct Params {
    count: u32,
    tile: u32,    // elements of a workgroup
    groups: u32,  // workgroups that have work
    at: u32,      // where in y the first of them writes
}

@group(0) @binding(0) var<storage, read> x: array<X>;          // (count)
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (at + groups), or more
@group(0) @binding(2) var<uniform> p: Params;

// Additions to one sum before it joins the sum of such: the error of a long sum grows with its length.
const RUN: u32 = 64u;

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
    let start = group * p.tile;
    let length = min(p.tile, p.count - start);
    var sum = 0.0;
    for (var first = lane; first < length; first += RUN * WG) {
        let end = min(first + RUN * WG, length);
        var run = 0.0;
        for (var i = first; i < end; i += WG) {
            let v = f32(x[start + i]);
            run = select(run + v, fma(v, v, run), SQUARED);
        }
        sum += run;
    }
    sum = row_sum(lane, sum);
    if lane == 0u {
        y[p.at + group] = sum;
    }
}
