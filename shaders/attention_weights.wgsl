// Softmax weights of attention: one workgroup a query, WG lanes stride the keys. For pictures of
// attention, not for speed: scores are written, then normalised in place by the lane that wrote them.
// Prelude: types Q, K, Y; u32 D, WG; bool BIAS and LENGTHS (else bound to q and
// not read), CAUSAL, WINDOW.

struct Params {
    heads: u32,
    queries: u32,
    keys: u32,
    k_start: u32,
    v_start: u32,
    bias_start: u32,
    bias_head: u32,
    bias_row: u32,
    window: u32,
    groups: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> q: array<Q>;          // (B, H, T, D)
@group(0) @binding(1) var<storage, read> k: array<K>;          // (B, H, S, D)
@group(0) @binding(2) var<storage, read> bias: array<f32>;     // (H, T, S), or (H, R) by key - query
@group(0) @binding(3) var<storage, read> lengths: array<u32>;  // (B), keys that count
@group(0) @binding(4) var<storage, read_write> y: array<Y>;    // (B, H, T, S)
@group(0) @binding(5) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wg.y * wgs.x + wg.x;
    if row >= p.groups {
        return;
    }
    let bh = row / p.queries;
    let t = row % p.queries;
    var seen = p.keys;
    if LENGTHS {
        seen = clamp(lengths[bh / p.heads], 1u, p.keys);
    }
    let own = min(t + p.keys - p.queries, seen - 1u);
    var begin = 0u;
    if WINDOW {
        begin = own - min(own, p.window);
        seen = min(seen, own + 1u + p.window);
    }
    if CAUSAL {
        seen = min(seen, t + 1u + p.keys - p.queries);
    }
    var top = -3.0e38;
    for (var s = begin + lane; s < seen; s += WG) {
        var e = 0.0;
        for (var i = 0u; i < D; i++) {
            e = fma(f32(q[row * D + i]), f32(k[(bh * p.keys + s) * D + i]), e);
        }
        e *= p.scale;
        if BIAS {
            e += bias[p.bias_start + (bh % p.heads) * p.bias_head + t * p.bias_row + s];
        }
        y[row * p.keys + s] = Y(e);
        top = max(top, e);
    }
    top = row_max(lane, top);
    var sum = 0.0;
    for (var s = begin + lane; s < seen; s += WG) {
        sum += exp(f32(y[row * p.keys + s]) - top);
    }
    let inverse = 1.0 / row_sum(lane, sum);
    for (var s = lane; s < p.keys; s += WG) {
        if s >= begin && s < seen {
            y[row * p.keys + s] = Y(exp(f32(y[row * p.keys + s]) - top) * inverse);
        } else {
            y[row * p.keys + s] = Y(0.0);
        }
    }
}
