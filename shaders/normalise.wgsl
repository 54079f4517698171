// Bytes to normalised planes, one element a lane. Prelude: type Y; u32 WG.

struct Params {
    count: u32,
    channels: u32,
    height: u32,
    width: u32,
    patch_height: u32,
    patch_width: u32,
    scale0: f32,
    scale1: f32,
    scale2: f32,
    offset0: f32,
    offset1: f32,
    offset2: f32,
}

@group(0) @binding(1) var<storage, read_write> y: array<Y>;  // (B, 3, H, W)
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i < p.count {
        let area = p.height * p.width;
        let b = i / (3u * area);
        y[i] = Y(pixel(b, i / area % 3u, i % area / p.width, i % p.width));
    }
}
