// The way back of a mean over tokens: one element of (B, tokens, width) a lane, dy / n where token lies in
// first..first+n, else zero. With LENGTHS (else bound to x and not read) the first so many tokens count.
// Prelude: types X, Y; bool LENGTHS; u32 WG.

struct Params { count: u32, width: u32, tokens: u32, first: u32, length: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (B, width)
@group(0) @binding(1) var<storage, read> lengths: array<u32>;  // (B)
@group(0) @binding(2) var<storage, read_write> y: array<Y>;    // (B, tokens, width)
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
    let b = i / (p.width * p.tokens);
    let t = i / p.width % p.tokens;
    var first = p.first;
    var length = p.length;
    if LENGTHS {
        first = 0u;
        length = clamp(lengths[b], 1u, p.tokens);
    }
    var v = 0.0;
    if t >= first && t - first < length {
        v = f32(x[b * p.width + i % p.width]) / f32(length);
    }
    y[i] = Y(v);
}
