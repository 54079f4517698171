// Gradient of attention's queries: one query of one head a lane, WG of them a workgroup, which walks the keys
// that they see in steps of STEP. Weights are made anew from the log-sum-exp of each query's scores. A lane
// reads its own rows again for each step: its registers are for the sums.
// Prelude beside that of `attention_back_io.wgsl`: u32 WG, STEP; CHUNK, CHUNKS: quads of the head that one
// workgroup sums up, and workgroups that share a head, each of which makes all weights.

fn walked() -> u32 {
    return p.keys;
}

fn first_of(bh: u32, s: u32, i: u32) -> vec4<f32> {
    return quad_of_k(key_at(bh, s), i);
}

fn second_of(bh: u32, s: u32, i: u32) -> vec4<f32> {
    return quad_of_v(key_at(bh, s), i);
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
    let blocks = (p.queries + WG - 1u) / WG;
    let i0 = (group % CHUNKS) * CHUNK;
    let bh = group / CHUNKS / blocks;
    let t0 = (group / CHUNKS % blocks) * WG;
    let t = min(t0 + lane, p.queries - 1u);
    let seen = seen_by(bh, t);
    let last_seen = seen_by(bh, min(t0 + WG, p.queries) - 1u);

    var dq: array<vec4<f32>, CHUNK>;
    for (var i = 0u; i < CHUNK; i++) {
        dq[i] = vec4<f32>();
    }
    for (var s0 = 0u; s0 < last_seen; s0 += STEP) {
        bring(lane, bh, s0);
        var product: array<f32, STEP>;
        var dp: array<f32, STEP>;
        for (var j = 0u; j < STEP; j++) {
            product[j] = 0.0;
            dp[j] = 0.0;
        }
        for (var i = 0u; i < p.quads; i++) {
            let own_q = quad_of_q(query_at(bh, t), i);
            let own_dy = quad_of_dy(dy_at(bh, t), i);
            for (var j = 0u; j < STEP; j++) {
                product[j] += dot(own_q, first(bh, s0, j, i));
                dp[j] += dot(own_dy, second(bh, s0, j, i));
            }
        }
        var ds: array<f32, STEP>;
        for (var j = 0u; j < STEP; j++) {
            let s = min(s0 + j, p.keys - 1u);
            let weight = weight_of(product[j], bias_of(bh, t, s), bh, t);
            ds[j] = score_gradient(weight, dp[j], bh, t);
        }
        // Not a constant, so that drivers do not unroll keys times quads.
        let count = min(STEP, last_seen - s0);
        for (var j = 0u; j < count; j++) {
            // What a query does not see may be NaN, and so may 0 times it.
            if s0 + j < seen {
                for (var i = 0u; i < CHUNK; i++) {
                    dq[i] = fma(vec4<f32>(ds[j]), first(bh, s0, j, min(i0 + i, QUADS - 1u)), dq[i]);
                }
            }
        }
    }
    if t0 + lane < p.queries {
        for (var i = 0u; i < CHUNK; i++) {
            if i0 + i < QUADS {
                store_quad(query_at(bh, t), i0 + i, dq[i] * p.scale);
            }
        }
    }
}
