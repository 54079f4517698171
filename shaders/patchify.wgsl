// Image to patch vectors, one element a lane: patches in raster order, inside a patch channel, row,
// column. Where the pixels come from is the joined lib file's business. Prelude: type Y; u32 WG.

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

@group(0) @binding(1) var<storage, read_write> y: array<Y>;  // (B, N, channels·Ph·Pw)
@group(0) @binding(2) var<uniform> p: Params;

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
    let area = p.patch_height * p.patch_width;
    let across = p.width / p.patch_width;
    let patches = across * (p.height / p.patch_height);
    let size = p.channels * area;
    let element = i % size;
    let patch_index = i / size % patches;
    let b = i / (size * patches);
    let row = patch_index / across * p.patch_height + element % area / p.patch_width;
    let column = patch_index % across * p.patch_width + element % p.patch_width;
    y[i] = Y(pixel(b, element / area, row, column));
}
