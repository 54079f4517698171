// Blends a value into a state, an element a lane. Prelude: type V; u32 WG.

struct Params { count: u32 }

@group(0) @binding(0) var<storage, read> value: array<V>;          // (count)
@group(0) @binding(1) var<storage, read> shares: array<f32>;       // of what was there, of the value
@group(0) @binding(2) var<storage, read_write> state: array<f32>;  // (count)
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
    var kept = 0.0;
    if shares[0] != 0.0 {
        kept = shares[0] * state[i];
    }
    state[i] = kept + shares[1] * f32(value[i]);
}
