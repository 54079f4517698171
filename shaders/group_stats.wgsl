// Mean and sum of squared deviations of every channel in every slice of pixels: one channel (or four)
// of one slice a lane, which goes over it twice. Prelude: types X, Y; u32 ACT (unused), WG.

struct Params {
    count: u32,         // B·S·channels
    pixels: u32,        // of a picture
    channels: u32,      // or fours of them
    slices: u32,        // S
    slice_pixels: u32,  // of a slice; the last may have fewer
}

@group(0) @binding(0) var<storage, read> x: array<X>;        // (B, pixels, channels)
@group(0) @binding(1) var<storage, read_write> y: array<Y>;  // (B, S, 2, channels)
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
    let c = i % p.channels;
    let part = i / p.channels;
    let first = part % p.slices * p.slice_pixels;
    let pixels = min(p.slice_pixels, p.pixels - first);
    let start = (part / p.slices * p.pixels + first) * p.channels + c;

    var sum = V();
    for (var n = 0u; n < pixels; n++) {
        sum += V(x[start + n * p.channels]);
    }
    let mean = sum / f32(pixels);
    var square = V();
    for (var n = 0u; n < pixels; n++) {
        let d = V(x[start + n * p.channels]) - mean;
        square = fma(d, d, square);
    }
    y[part * 2u * p.channels + c] = Y(mean);
    y[(part * 2u + 1u) * p.channels + c] = Y(square);
}
