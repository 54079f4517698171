// Gradients of attention's keys and values: one key of one head a lane, WG of them a workgroup, which walks
// the queries that see one of them in steps of STEP, so that every sum is one lane's and in order. All dk,
// then all dv. Prelude: as `attention_grad_q.wgsl`.

fn walked() -> u32 {
    return p.queries;
}

fn first_of(bh: u32, t: u32, i: u32) -> vec4<f32> {
    return quad_of_q(query_at(bh, t), i);
}

fn second_of(bh: u32, t: u32, i: u32) -> vec4<f32> {
    return quad_of_dy(dy_at(bh, t), i);
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
    let blocks = (p.keys + WG - 1u) / WG;
    let i0 = (group % CHUNKS) * CHUNK;
    let bh = group / CHUNKS / blocks;
    let s0 = (group / CHUNKS % blocks) * WG;
    let s = min(s0 + lane, p.keys - 1u);

    var dk: array<vec4<f32>, CHUNK>;
    var dv: array<vec4<f32>, CHUNK>;
    for (var i = 0u; i < CHUNK; i++) {
        dk[i] = vec4<f32>();
        dv[i] = vec4<f32>();
    }
    // Where the last query of a step sees none of these keys, the others do not either.
    var start = 0u;
    while start < p.queries && seen_by(bh, min(start + STEP, p.queries) - 1u) <= s0 {
        start += STEP;
    }
    for (var t0 = start; t0 < p.queries; t0 += STEP) {
        bring(lane, bh, t0);
        var product: array<f32, STEP>;
        var dp: array<f32, STEP>;
        for (var j = 0u; j < STEP; j++) {
            product[j] = 0.0;
            dp[j] = 0.0;
        }
        for (var i = 0u; i < p.quads; i++) {
            let own_k = quad_of_k(key_at(bh, s), i);
            let own_v = quad_of_v(key_at(bh, s), i);
            for (var j = 0u; j < STEP; j++) {
                product[j] += dot(own_k, first(bh, t0, j, i));
                dp[j] += dot(own_v, second(bh, t0, j, i));
            }
        }
        var weight: array<f32, STEP>;
        var ds: array<f32, STEP>;
        for (var j = 0u; j < STEP; j++) {
            let t = min(t0 + j, p.queries - 1u);
            weight[j] = weight_of(product[j], bias_of(bh, t, s), bh, t);
            ds[j] = score_gradient(weight[j], dp[j], bh, t);
        }
        // Not a constant, so that drivers do not unroll queries times quads.
        let count = min(STEP, p.queries - t0);
        for (var j = 0u; j < count; j++) {
            // What does not see this key may be NaN, and so may 0 times it.
            if s < seen_by(bh, t0 + j) {
                for (var i = 0u; i < CHUNK; i++) {
                    let at = min(i0 + i, QUADS - 1u);
                    dk[i] = fma(vec4<f32>(ds[j]), first(bh, t0, j, at), dk[i]);
                    dv[i] = fma(vec4<f32>(weight[j]), second(bh, t0, j, at), dv[i]);
                }
            }
        }
    }
    if s0 + lane < p.keys {
        let values = p.batch * p.heads * p.keys * D;
        for (var i = 0u; i < CHUNK; i++) {
            if i0 + i < QUADS {
                store_quad(key_at(bh, s), i0 + i, dk[i] * p.scale);
                store_quad(values + key_at(bh, s), i0 + i, dv[i]);
            }
        }
    }
}
