// factor · act'(x) · dy, one element a lane. Prelude: types X, DY, Y; u32 ACT, WG.

struct Params { count: u32, period: u32, factor: f32 }

@group(0) @binding(0) var<storage, read> x: array<X>;        // (count)
@group(0) @binding(1) var<storage, read> dy: array<DY>;      // (count)
@group(0) @binding(2) var<storage, read_write> y: array<Y>;  // (count)
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i < p.count {
        y[i] = Y(p.factor * slope(ACT, f32(x[i])) * f32(dy[i]));
    }
}
