// Some tokens of each sequence, each sequence its own: one element a lane. A place beyond the last token
// is the last.
// Prelude: types X, Y; u32 WG.

struct Params { count: u32, width: u32, tokens: u32, taken: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (B, tokens, width)
@group(0) @binding(1) var<storage, read> places: array<u32>;   // (B, taken)
@group(0) @binding(2) var<storage, read_write> y: array<Y>;    // (B, taken, width)
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
    let row = i / p.width;
    let t = min(places[row], p.tokens - 1u);
    y[i] = Y(x[(row / p.taken * p.tokens + t) * p.width + i % p.width]);
}
