// Attention for software adapters: one query a lane, q and the result in registers, keys and
// values the same for the whole workgroup (read as scalars), no workgroup memory and no barrier.
// Online softmax in steps of KEYS keys: the running maximum moves at most once a step.

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
    let blocks = (p.queries + WG - 1u) / WG;
    let bh = group / blocks;
    let first = (group % blocks) * WG;
    let t = min(first + lane, p.queries - 1u);
    let begin = first_visible(bh, t);
    let seen = visible(bh, t);
    let first_seen = first_visible(bh, first);
    let last_seen = visible(bh, min(first + WG, p.queries) - 1u);
    let h = bh % p.heads;
    let head = bh * p.keys * D;

    var query: array<vec4<f32>, QUADS>;
    var acc: array<vec4<f32>, QUADS>;
    for (var i = 0u; i < QUADS; i++) {
        query[i] = quad_of_q((bh * p.queries + t) * D, i) * p.scale;
        acc[i] = vec4<f32>();
    }
    var top = LOWEST;
    var sum = 0.0;
    for (var s0 = first_seen; s0 < last_seen; s0 += KEYS) {
        // Not a constant, so that drivers do not unroll keys times quads.
        let count = min(KEYS, last_seen - s0);
        var score: array<f32, KEYS>;
        var step_top = top;
        for (var j = 0u; j < count; j++) {
            let s = s0 + j;
            let at = p.k_start + head + s * D;
            var dots = vec4<f32>();
            for (var i = 0u; i < QUADS; i++) {
                dots = fma(query[i], quad_of_k(at, i), dots);
            }
            var e = (dots.x + dots.y) + (dots.z + dots.w);
            if BIAS {
                e += bias[biases(h, t) + s];
            }
            score[j] = select(LOWEST, e, s0 + j >= begin && s0 + j < seen);
            step_top = max(step_top, score[j]);
        }
        let shrink = exp(top - step_top);
        top = step_top;
        sum *= shrink;
        for (var i = 0u; i < QUADS; i++) {
            acc[i] *= shrink;
        }
        for (var j = 0u; j < count; j++) {
            let s = s0 + j;
            let at = p.v_start + head + s * D;
            let weight = select(0.0, exp(score[j] - top), s0 + j >= begin && s0 + j < seen);
            sum += weight;
            // What a query does not see may be NaN, and so may 0 times it. Without CAUSAL and WINDOW all see the same.
            if (!CAUSAL && !WINDOW) || (s >= begin && s < seen) {
                for (var i = 0u; i < QUADS; i++) {
                    acc[i] = fma(vec4<f32>(weight), quad_of_v(at, i), acc[i]);
                }
            }
        }
    }
    if first + lane < p.queries {
        let inverse = 1.0 / sum;
        let out = (((bh / p.heads) * p.queries + t) * p.heads + h) * D;
        for (var i = 0u; i < QUADS; i++) {
            store_quad(out, i, acc[i] * inverse);
        }
    }
}
