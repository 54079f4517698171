// Pixels from planes (B, channels, H, W) of floats. Prelude: type X.

@group(0) @binding(0) var<storage, read> image: array<X>;

fn pixel(b: u32, channel: u32, row: u32, column: u32) -> f32 {
    return f32(image[((b * p.channels + channel) * p.height + row) * p.width + column]);
}
