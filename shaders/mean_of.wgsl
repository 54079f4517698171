// Mean of the first tokens of each sequence, as many as its length says (1 to all), one (sequence, column)
// a lane.
// Prelude: types X, Y; u32 WG.

struct Params { count: u32, width: u32, tokens: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (B, tokens, width)
@group(0) @binding(1) var<storage, read> lengths: array<u32>;  // (B)
@group(0) @binding(2) var<storage, read_write> y: array<Y>;    // (B, width)
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
    let b = i / p.width;
    let start = b * p.tokens * p.width + i % p.width;
    let length = clamp(lengths[b], 1u, p.tokens);
    var sum = 0.0;
    for (var t = 0u; t < length; t++) {
        sum += f32(x[start + t * p.width]);
    }
    y[i] = Y(sum / f32(length));
}
