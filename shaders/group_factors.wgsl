// Merges the statistics of a group of channels and gives each channel its factor and offset: one
// workgroup a group of one picture, WG lanes stride the statistics; first the mean of all, then the
// squared deviations about it. Prelude: u32 WG.

struct Params {
    rows: u32,          // B·groups
    groups: u32,
    channels: u32,      // C
    pixels: u32,        // of a picture
    slices: u32,        // S
    slice_pixels: u32,  // of a slice; the last may have fewer
    eps: f32,
}

@group(0) @binding(0) var<storage, read> stats: array<f32>;    // (B, S, 2, C): means, squared deviations
@group(0) @binding(1) var<storage, read> gain: array<f32>;     // (C)
@group(0) @binding(2) var<storage, read> bias: array<f32>;     // (C)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // (B, 2, C): factors, offsets
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wg.y * wgs.x + wg.x;
    if row >= p.rows {
        return;
    }
    let width = p.channels / p.groups;
    let b = row / p.groups;
    let c0 = row % p.groups * width;
    let parts = p.slices * width;
    let total = f32(p.pixels) * f32(width);

    var sum = 0.0;
    for (var i = lane; i < parts; i += WG) {
        let s = i / width;
        let n = f32(min(p.slice_pixels, p.pixels - s * p.slice_pixels));
        sum += n * stats[(b * p.slices + s) * 2u * p.channels + c0 + i % width];
    }
    let mean = row_sum(lane, sum) / total;
    var square = 0.0;
    for (var i = lane; i < parts; i += WG) {
        let s = i / width;
        let n = f32(min(p.slice_pixels, p.pixels - s * p.slice_pixels));
        let at = (b * p.slices + s) * 2u * p.channels + c0 + i % width;
        let d = stats[at] - mean;
        square += fma(n * d, d, stats[at + p.channels]);
    }
    let inverse = 1.0 / sqrt(row_sum(lane, square) / total + p.eps);
    for (var i = lane; i < width; i += WG) {
        let c = c0 + i;
        let factor = inverse * gain[c];
        y[b * 2u * p.channels + c] = factor;
        y[(b * 2u + 1u) * p.channels + c] = bias[c] - mean * factor;
    }
}
