// What the gradients of attention need to know of each query: log-sum-exp of the scores of the keys it sees,
// sum of y·dy over the head's columns, and how many keys it sees. One query a lane, WG of one head a
// workgroup, which walks the keys in steps of STEP, read the same for all lanes: no workgroup memory.
// Prelude: as `attention_rows_io.wgsl`; u32 WG, STEP.

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
    let t0 = (group % blocks) * WG;
    let t = min(t0 + lane, p.queries - 1u);
    let seen = visible(bh, t);
    let last_seen = visible(bh, min(t0 + WG, p.queries) - 1u);
    let own = (bh * p.queries + t) * D;

    var top = LOWEST;
    var sum = 0.0;
    for (var s0 = 0u; s0 < last_seen; s0 += STEP) {
        var score: array<f32, STEP>;
        for (var j = 0u; j < STEP; j++) {
            score[j] = 0.0;
        }
        for (var i = 0u; i < p.quads; i++) {
            let own_q = quad_of_q(own, i);
            for (var j = 0u; j < STEP; j++) {
                score[j] += dot(own_q, quad_of_k((bh * p.keys + min(s0 + j, p.keys - 1u)) * D, i));
            }
        }
        var step_top = top;
        for (var j = 0u; j < STEP; j++) {
            score[j] *= p.scale;
            if BIAS {
                score[j] += bias[biases(bh, t) + min(s0 + j, p.keys - 1u)];
            }
            // What a query does not see may be NaN.
            score[j] = select(LOWEST, score[j], s0 + j < seen);
            step_top = max(step_top, score[j]);
        }
        sum *= exp(top - step_top);
        top = step_top;
        for (var j = 0u; j < STEP; j++) {
            sum += select(0.0, exp(score[j] - top), s0 + j < seen);
        }
    }
    if t0 + lane < p.queries {
        store_row(bh, t, top + log(sum));
    }
}
