// Enters k and v of new tokens into a cache, one element of each a lane.
// Of fewer sequences than the cache has rows, each is entered once for every B rows.
// Prelude: types K, V, KV; u32 WG; bool STEP (else all begins at place 0, and k is bound for step).

struct Params {
    count: u32,      // elements of k that the cache takes
    heads: u32,      // R·H, heads of the cache
    sources: u32,    // B·H, heads of k
    tokens: u32,     // T
    width: u32,      // D
    positions: u32,  // P
    k_start: u32,    // element where k begins in its binding
    v_start: u32,
}

@group(0) @binding(0) var<storage, read> k: array<K>;           // (B, H, T, D)
@group(0) @binding(1) var<storage, read> v: array<V>;           // (B, H, T, D)
@group(0) @binding(2) var<storage, read> step: array<u32>;      // the first token's place
@group(0) @binding(3) var<storage, read_write> kv: array<KV>;   // k (B, H, D/4, P, 4), then v (B, H, P, D)
@group(0) @binding(4) var<uniform> p: Params;

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
    let d = i % p.width;
    let token = i / p.width % p.tokens;
    var place = token;
    if STEP {
        place += step[0];
    }
    let bh = i / (p.width * p.tokens);
    let source = (bh % p.sources * p.tokens + token) * p.width + d;
    let quads = (p.width + 3u) / 4u;
    if place >= p.positions {
        return;
    }
    kv[((bh * quads + d / 4u) * p.positions + place) * 4u + d % 4u] = KV(k[p.k_start + source]);
    kv[((p.heads + bh) * p.positions + place) * quads * 4u + d] = KV(v[p.v_start + source]);
}
