// y = a + b or a · b, one element a lane; b repeats every `period` elements.
// Prelude: types A, B, Y; bool MUL; u32 WG.

struct Params { count: u32, period: u32, factor: f32 }

@group(0) @binding(0) var<storage, read> a: array<A>;        // (count)
@group(0) @binding(1) var<storage, read> b: array<B>;        // (period)
@group(0) @binding(2) var<storage, read_write> y: array<Y>;  // (count)
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
    let u = f32(a[i]);
    let v = f32(b[i % p.period]);
    y[i] = Y(select(u + v, u * v, MUL));
}
