// Tokens added up at their places, one element of (B, tokens, width) a lane; past the end is the last place.
// Prelude: type DY; u32 WG.

struct Params {
    rows: u32,    // elements of the result
    width: u32,
    count: u32,   // tokens of dy a sequence
    tokens: u32,
    padding: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<DY>;        // (B, count, width)
@group(0) @binding(1) var<storage, read> places: array<u32>;   // (B, count)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (B, tokens, width)
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i >= p.rows {
        return;
    }
    let first = i / (p.width * p.tokens) * p.count;
    let token = i / p.width % p.tokens;
    var sum = 0.0;
    for (var m = 0u; m < p.count; m++) {
        if min(places[first + m], p.tokens - 1u) == token {
            sum += f32(dy[(first + m) * p.width + i % p.width]);
        }
    }
    y[i] = sum;
}
