// Attention of one query over a cache: one workgroup takes one head of one query and at most KEYS keys.
// A lane scores a key at a time (neighbouring lanes neighbouring keys), the scores lie in workgroup
// memory; then ACROSS lanes side by side sum a quad of the values each, and WG/ACROSS such lines of
// lanes share the keys. With SPLIT the sums, their maximum and their weight go to `attention_merge`.
// A query sees the keys up to its own place, or with CROSS the first so many that `step` says for its
// sequence.
// Prelude: types Q (scalar), KV (four), Y; u32 D, WG, ACROSS (quads of a head, a power of two), KEYS;
// bool SPLIT, CROSS, BIAS and TREE (else q is bound for them). With TREE, `rows` says for each sequence and
// place whose row of the cache holds it: sequences that have split share what they had in common.

struct Params {
    heads: u32,      // H
    queries: u32,    // T
    positions: u32,  // P
    v_start: u32,    // quad where the values begin
    groups: u32,     // workgroups that have work
    splits: u32,     // workgroups that share a head
    biases: u32,     // columns R of the bias
    scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<Q>;          // (B, H, T, D), what follows is not read
@group(0) @binding(1) var<storage, read> kv: array<KV>;        // k (B, H, D/4, P), then v (B, H, P, D/4)
@group(0) @binding(2) var<storage, read> step: array<u32>;     // the first query's place, or (B) keys
@group(0) @binding(3) var<storage, read> bias: array<f32>;     // (H, R), the last column of a query's own place
@group(0) @binding(4) var<storage, read> rows: array<u32>;     // (B, P)
@group(0) @binding(5) var<storage, read_write> y: array<Y>;    // (B, T, H·D), or (rows, splits, 4·QUADS + 4)
@group(0) @binding(6) var<uniform> p: Params;

const QUADS: u32 = (D + 3u) / 4u;
const LINES: u32 = WG / ACROSS;
const LOWEST: f32 = -3.0e38;

var<workgroup> query: array<vec4<f32>, QUADS>;
var<workgroup> weights: array<f32, KEYS>;
var<workgroup> sums: array<vec4<f32>, WG>;

fn one_of_q(start: u32, d: u32) -> f32 {
    if d < D {
        return f32(q[start + d]) * p.scale;
    }
    return 0.0;
}

// The head of the cache that holds a key of head bh.
fn head_of(bh: u32, key: u32) -> u32 {
    if TREE {
        return rows[bh / p.heads * p.positions + key] * p.heads + bh % p.heads;
    }
    return bh;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wg.y * wgs.x + wg.x;
    if group >= p.groups {
        return;
    }
    let row = group / p.splits;
    let bh = row / p.queries;
    let t = row % p.queries;
    let h = bh % p.heads;
    var seen = p.positions;
    if CROSS {
        seen = clamp(step[bh / p.heads], 1u, p.positions);
    } else {
        seen = min(step[0] + t + 1u, p.positions);
    }
    let first = min(group % p.splits * KEYS, seen);
    let count = min(seen - first, KEYS);

    for (var i = lane; i < QUADS; i += WG) {
        let start = row * D;
        let d = i * 4u;
        query[i] = vec4<f32>(
            one_of_q(start, d), one_of_q(start, d + 1u), one_of_q(start, d + 2u), one_of_q(start, d + 3u),
        );
    }
    workgroupBarrier();

    var top = LOWEST;
    for (var s = lane; s < count; s += WG) {
        var dots = vec4<f32>();
        let head = head_of(bh, first + s) * QUADS;
        for (var i = 0u; i < QUADS; i++) {
            dots = fma(query[i], vec4<f32>(kv[(head + i) * p.positions + first + s]), dots);
        }
        var score = (dots.x + dots.y) + (dots.z + dots.w);
        if BIAS {
            score += bias[h * p.biases + (p.biases - seen) + first + s];
        }
        weights[s] = score;
        top = max(top, score);
    }
    top = row_max(lane, top);
    var total = 0.0;
    for (var s = lane; s < count; s += WG) {
        let weight = exp(weights[s] - top);
        weights[s] = weight;
        total += weight;
    }
    total = row_sum(lane, total);

    let quad = lane % ACROSS;
    var acc = vec4<f32>();
    if quad < QUADS {
        for (var s = lane / ACROSS; s < count; s += LINES) {
            let head = head_of(bh, first + s);
            let at = p.v_start + (head * p.positions + first + s) * QUADS + quad;
            acc = fma(vec4<f32>(weights[s]), vec4<f32>(kv[at]), acc);
        }
    }
    sums[lane] = acc;
    workgroupBarrier();
    for (var half = WG / 2u; half >= ACROSS; half /= 2u) {
        if lane < half {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    if lane >= QUADS {
        return;
    }
    if SPLIT {
        let start = group * (QUADS * 4u + 4u);
        if lane == 0u {
            y[start] = Y(top);
            y[start + 1u] = Y(total);
        }
        store(start + 4u, lane, QUADS * 4u, sums[lane]);
    } else {
        let b = bh / p.heads;
        store(((b * p.queries + t) * p.heads + h) * D, lane, D, sums[lane] / total);
    }
}

fn store(start: u32, quad: u32, width: u32, v: vec4<f32>) {
    let d = quad * 4u;
    y[start + d] = Y(v.x);
    if d + 1u < width { y[start + d + 1u] = Y(v.y); }
    if d + 2u < width { y[start + d + 2u] = Y(v.z); }
    if d + 3u < width { y[start + d + 3u] = Y(v.w); }
}
