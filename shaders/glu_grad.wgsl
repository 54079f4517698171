// What a gated linear unit passes back, one element of dy a lane, which makes one of the gate and one of the
// value; `period` is F. Prelude: types X, DY, Y; u32 ACT, WG.

struct Params { count: u32, period: u32, factor: f32 }

@group(0) @binding(0) var<storage, read> x: array<X>;        // (rows, 2F)
@group(0) @binding(1) var<storage, read> dy: array<DY>;      // (rows, F)
@group(0) @binding(2) var<storage, read_write> y: array<Y>;  // (rows, 2F)
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i >= p.count {
        return;
    }
    let at = i / p.period * 2u * p.period + i % p.period;
    let gate = f32(x[at]);
    let d = f32(dy[i]);
    y[at] = Y(slope(ACT, gate) * f32(x[at + p.period]) * d);
    y[at + p.period] = Y(activate(ACT, gate) * d);
}
