// Gradient of the squared error of rows with regard to x, an element a lane. Prelude: types X, T, D; u32 WG.

struct Params {
    count: u32,
    width: u32,
    factor: f32,  // 2 / width
}

@group(0) @binding(0) var<storage, read> x: array<X>;          // (count/width, width)
@group(0) @binding(1) var<storage, read> wanted: array<T>;     // as x
@group(0) @binding(2) var<storage, read> dy: array<D>;         // (count/width)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // as x
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i < p.count {
        y[i] = p.factor * (f32(x[i]) - f32(wanted[i])) * f32(dy[i / p.width]);
    }
}
