// Gated linear unit: y = act(first half of the row) · second half, one element a lane.
// Prelude: types X, Y; u32 ACT, WG.

struct Params { count: u32, period: u32, factor: f32 }

@group(0) @binding(0) var<storage, read> x: array<X>;        // (rows, 2·period)
@group(0) @binding(1) var<storage, read_write> y: array<Y>;  // (rows, period)
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i < p.count {
        let at = (i / p.period) * 2u * p.period + i % p.period;
        y[i] = Y(activate(ACT, f32(x[at])) * f32(x[at + p.period]));
    }
}
