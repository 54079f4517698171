// Max pooling, one element of the result a lane; windows are cut at the border of the picture.
// Prelude: types X, Y; u32 WG.

struct Params {
    count: u32,
    channels: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    size_y: u32,
    size_x: u32,
    stride_y: u32,
    stride_x: u32,
    pad_top: u32,
    pad_left: u32,
}

@group(0) @binding(0) var<storage, read> x: array<X>;        // (B, H, W, C)
@group(0) @binding(1) var<storage, read_write> y: array<Y>;  // (B, Ho, Wo, C)
@group(0) @binding(2) var<uniform> p: Params;

const LOWEST: f32 = -3.0e38;

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
    let c = i % p.channels;
    let pixel = i / p.channels;
    let out_column = pixel % p.out_width;
    let out_row = pixel / p.out_width % p.out_height;
    let b = pixel / (p.out_width * p.out_height);
    var most = LOWEST;
    for (var ky = 0u; ky < p.size_y; ky++) {
        // Above the picture this wraps, and is past its end.
        let row = out_row * p.stride_y + ky - p.pad_top;
        for (var kx = 0u; kx < p.size_x; kx++) {
            let column = out_column * p.stride_x + kx - p.pad_left;
            if row < p.height && column < p.width {
                most = max_kept(most, f32(x[((b * p.height + row) * p.width + column) * p.channels + c]));
            }
        }
    }
    y[i] = Y(most);
}
