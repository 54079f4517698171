// y = act(x · factor + offset), channel by channel: one channel (or four) of PIXELS pixels a lane, so
// that neighbouring lanes read neighbouring words and divide once.
// Prelude: types X, Y, F (factors); u32 ACT, PIXELS, WG.

struct Params {
    count: u32,     // B·ceil(pixels / PIXELS)·channels
    pixels: u32,    // of a picture
    channels: u32,  // or fours of them
    slices: u32,    // ceil(pixels / PIXELS)
}

@group(0) @binding(0) var<storage, read> x: array<X>;        // (B, pixels, channels)
@group(0) @binding(1) var<storage, read> factors: array<F>;  // (B, 2, channels): factors, offsets
@group(0) @binding(2) var<storage, read_write> y: array<Y>;  // (B, pixels, channels)
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
    let c = i % p.channels;
    let part = i / p.channels;
    let b = part / p.slices;
    let first = part % p.slices * PIXELS;
    let pixels = min(PIXELS, p.pixels - first);
    let start = (b * p.pixels + first) * p.channels + c;
    let factor = V(factors[b * 2u * p.channels + c]);
    let offset = V(factors[(b * 2u + 1u) * p.channels + c]);
    for (var n = 0u; n < pixels; n++) {
        let at = start + n * p.channels;
        y[at] = Y(activate_all(fma(V(x[at]), factor, offset)));
    }
}
