// One number everywhere, an element a lane. Prelude: type Y; u32 WG.

struct Params { count: u32, value: f32 }

@group(0) @binding(0) var<storage, read_write> y: array<Y>;
@group(0) @binding(1) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i < p.count {
        y[i] = Y(p.value);
    }
}
