// Joins the parts of attention over a split cache: one workgroup makes one head of one query, a lane
// four elements of it. Prelude: type Y; u32 D, WG.

struct Params {
    heads: u32,
    queries: u32,
    positions: u32,
    v_start: u32,
    groups: u32,
    splits: u32,
    biases: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> parts: array<f32>;    // (rows, splits, 4·QUADS + 4)
@group(0) @binding(1) var<storage, read_write> y: array<Y>;    // (B, T, H·D)
@group(0) @binding(2) var<uniform> p: Params;

const QUADS: u32 = (D + 3u) / 4u;
const STRIDE: u32 = QUADS * 4u + 4u;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wg.y * wgs.x + wg.x;
    if row >= p.groups || lane >= QUADS {
        return;
    }
    let start = row * p.splits * STRIDE;
    var top = parts[start];
    for (var i = 1u; i < p.splits; i++) {
        top = max(top, parts[start + i * STRIDE]);
    }
    var total = 0.0;
    var acc = vec4<f32>();
    for (var i = 0u; i < p.splits; i++) {
        let at = start + i * STRIDE;
        let weight = exp(parts[at] - top);
        total += weight * parts[at + 1u];
        let begin = at + 4u + lane * 4u;
        acc += weight * vec4<f32>(parts[begin], parts[begin + 1u], parts[begin + 2u], parts[begin + 3u]);
    }
    let v = acc / total;
    let bh = row / p.queries;
    let out = ((bh / p.heads * p.queries + row % p.queries) * p.heads + bh % p.heads) * D;
    let d = lane * 4u;
    y[out + d] = Y(v.x);
    if d + 1u < D { y[out + d + 1u] = Y(v.y); }
    if d + 2u < D { y[out + d + 2u] = Y(v.z); }
    if d + 3u < D { y[out + d + 3u] = Y(v.w); }
}
