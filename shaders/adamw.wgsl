// A step of AdamW, an element a lane. Prelude: type G; u32 WG.

struct Params { count: u32, beta1: f32, beta2: f32, eps: f32, decay: f32, scale: f32 }

@group(0) @binding(0) var<storage, read> gradient: array<G>;           // (count)
@group(0) @binding(1) var<storage, read> clip: array<f32>;             // factor, norm, whether that is finite
@group(0) @binding(2) var<storage, read> rates: array<f32>;            // learning rate, 1 - beta1^t, 1 - beta2^t
@group(0) @binding(3) var<storage, read_write> parameter: array<f32>;  // (count)
@group(0) @binding(4) var<storage, read_write> first: array<f32>;      // (count)
@group(0) @binding(5) var<storage, read_write> second: array<f32>;     // (count)
@group(0) @binding(6) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i >= p.count || clip[2] == 0.0 {
        return;
    }
    let g = f32(gradient[i]) * clip[0];
    let m = p.beta1 * first[i] + (1.0 - p.beta1) * g;
    let v = p.beta2 * second[i] + (1.0 - p.beta2) * g * g;
    let rate = rates[0] * p.scale;
    let root = sqrt(v) / sqrt(rates[2]) + p.eps;
    first[i] = m;
    second[i] = v;
    parameter[i] = parameter[i] * (1.0 - rate * p.decay) - rate / rates[1] * m / root;
}
