// Pixels from bytes (B, H, W, 3), four bytes a word, normalised as they are read.

@group(0) @binding(0) var<storage, read> image: array<u32>;

fn pixel(b: u32, channel: u32, row: u32, column: u32) -> f32 {
    let i = ((b * p.height + row) * p.width + column) * 3u + channel;
    let byte = f32((image[i / 4u] >> (8u * (i % 4u))) & 255u);
    switch channel {
        case 0u: { return byte * p.scale0 + p.offset0; }
        case 1u: { return byte * p.scale1 + p.offset1; }
        default: { return byte * p.scale2 + p.offset2; }
    }
}
