// Attention for software adapters with subgroups of eight: one workgroup is one subgroup and makes
// ROWS queries of one head (a multiple of eight). First q·kᵀ: a lane holds GROUPS keys, q is read by
// the lane of its query and handed out by subgroupBroadcast. Then p·v: a lane holds CHUNK quads of the
// head at a time, the softmax weights are handed out. The scores lie in workgroup memory meanwhile, each
// read only by the lane that wrote it, so that there is no barrier. All keys are scored before the
// first weight is made: an online softmax would rescale the sums at every step, since such drivers
// cannot skip a branch.
// Prelude adds u32 ROWS, GROUPS, CAP (keys there is room for, a multiple of 8·GROUPS) and CHUNK.

const OCTETS: u32 = ROWS / 8u;
const LANE_QUADS: u32 = (QUADS + 7u) / 8u;
const CHUNKS: u32 = (LANE_QUADS + CHUNK - 1u) / CHUNK;
const STEP: u32 = GROUPS * 8u;

var<workgroup> scores: array<f32, CAP * ROWS>;  // (keys / 8, ROWS, 8)

// Four elements of a dot product.
fn dot4(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wg.y * wgs.x + wg.x;
    if group >= p.groups {
        return;
    }
    let blocks = (p.queries + ROWS - 1u) / ROWS;
    let bh = group / blocks;
    let first = (group % blocks) * ROWS;
    let last_seen = visible(bh, min(first + ROWS, p.queries) - 1u);
    let h = bh % p.heads;
    let head = bh * p.keys * D;

    var q_start: array<u32, OCTETS>;
    for (var i = 0u; i < OCTETS; i++) {
        q_start[i] = (bh * p.queries + min(first + i * 8u + lane, p.queries - 1u)) * D;
    }
    var top: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        top[r] = LOWEST;
    }
    for (var s0 = 0u; s0 < last_seen; s0 += STEP) {
        var k_start: array<u32, GROUPS>;
        for (var c = 0u; c < GROUPS; c++) {
            k_start[c] = p.k_start + head + min(s0 + c * 8u + lane, p.keys - 1u) * D;
        }
        var e: array<array<f32, GROUPS>, ROWS>;
        // Not a constant, so that drivers do not unroll quads times rows.
        let quads = min(QUADS, last_seen * QUADS);
        for (var quad = 0u; quad < quads; quad++) {
            var kq: array<vec4<f32>, GROUPS>;
            for (var c = 0u; c < GROUPS; c++) {
                kq[c] = quad_of_k(k_start[c], quad);
            }
            for (var i = 0u; i < OCTETS; i++) {
                let mine = quad_of_q(q_start[i], quad);
                let q0 = subgroupBroadcast(mine, 0u);
                let q1 = subgroupBroadcast(mine, 1u);
                let q2 = subgroupBroadcast(mine, 2u);
                let q3 = subgroupBroadcast(mine, 3u);
                let q4 = subgroupBroadcast(mine, 4u);
                let q5 = subgroupBroadcast(mine, 5u);
                let q6 = subgroupBroadcast(mine, 6u);
                let q7 = subgroupBroadcast(mine, 7u);
                for (var c = 0u; c < GROUPS; c++) {
                    e[i * 8u][c] = dot4(e[i * 8u][c], q0, kq[c]);
                    e[i * 8u + 1u][c] = dot4(e[i * 8u + 1u][c], q1, kq[c]);
                    e[i * 8u + 2u][c] = dot4(e[i * 8u + 2u][c], q2, kq[c]);
                    e[i * 8u + 3u][c] = dot4(e[i * 8u + 3u][c], q3, kq[c]);
                    e[i * 8u + 4u][c] = dot4(e[i * 8u + 4u][c], q4, kq[c]);
                    e[i * 8u + 5u][c] = dot4(e[i * 8u + 5u][c], q5, kq[c]);
                    e[i * 8u + 6u][c] = dot4(e[i * 8u + 6u][c], q6, kq[c]);
                    e[i * 8u + 7u][c] = dot4(e[i * 8u + 7u][c], q7, kq[c]);
                }
            }
        }
        for (var c = 0u; c < GROUPS; c++) {
            let s = s0 + c * 8u + lane;
            for (var r = 0u; r < ROWS; r++) {
                let t = min(first + r, p.queries - 1u);
                var score = e[r][c] * p.scale;
                if BIAS {
                    score += bias[biases(h, t) + min(s, p.keys - 1u)];
                }
                score = select(LOWEST, score, s < visible(bh, t));
                top[r] = max(top[r], score);
                scores[((s0 / 8u + c) * ROWS + r) * 8u + lane] = score;
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        top[r] = subgroupMax(top[r]);
    }

    // Weights are made anew for every chunk: that is little beside the products.
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
        let first_quad = chunk * CHUNK;
        var sum: array<f32, ROWS>;
        var acc: array<array<vec4<f32>, CHUNK>, ROWS>;
        for (var s0 = 0u; s0 < last_seen; s0 += 8u) {
            var w: array<f32, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                w[r] = exp(scores[(s0 / 8u * ROWS + r) * 8u + lane] - top[r]);
                sum[r] += w[r];
            }
            // The weights of keys past the last are zero, so any key will do.
            let last = p.keys - 1u;
            let at = p.v_start + head;
            let v0 = at + min(s0, last) * D;
            let v1 = at + min(s0 + 1u, last) * D;
            let v2 = at + min(s0 + 2u, last) * D;
            let v3 = at + min(s0 + 3u, last) * D;
            let v4 = at + min(s0 + 4u, last) * D;
            let v5 = at + min(s0 + 5u, last) * D;
            let v6 = at + min(s0 + 6u, last) * D;
            let v7 = at + min(s0 + 7u, last) * D;
            for (var c = 0u; c < CHUNK; c++) {
                let quad = min((first_quad + c) * 8u + lane, QUADS - 1u);
                let x0 = quad_of_v(v0, quad);
                let x1 = quad_of_v(v1, quad);
                let x2 = quad_of_v(v2, quad);
                let x3 = quad_of_v(v3, quad);
                let x4 = quad_of_v(v4, quad);
                let x5 = quad_of_v(v5, quad);
                let x6 = quad_of_v(v6, quad);
                let x7 = quad_of_v(v7, quad);
                for (var r = 0u; r < ROWS; r++) {
                    var a = acc[r][c];
                    a = fma(vec4<f32>(subgroupBroadcast(w[r], 0u)), x0, a);
                    a = fma(vec4<f32>(subgroupBroadcast(w[r], 1u)), x1, a);
                    a = fma(vec4<f32>(subgroupBroadcast(w[r], 2u)), x2, a);
                    a = fma(vec4<f32>(subgroupBroadcast(w[r], 3u)), x3, a);
                    a = fma(vec4<f32>(subgroupBroadcast(w[r], 4u)), x4, a);
                    a = fma(vec4<f32>(subgroupBroadcast(w[r], 5u)), x5, a);
                    a = fma(vec4<f32>(subgroupBroadcast(w[r], 6u)), x6, a);
                    a = fma(vec4<f32>(subgroupBroadcast(w[r], 7u)), x7, a);
                    acc[r][c] = a;
                }
            }
        }
        // Sums move down to the first place one by one: with a variable index drivers keep all of them
        // in memory, and unrolled, this would be most of the code.
        let left = min(ROWS, p.queries - first);
        for (var done = 0u; done < left; done += 8u) {
            let rows = min(8u, left - done);
            for (var r = 0u; r < rows; r++) {
                let inverse = 1.0 / subgroupAdd(sum[0]);
                let out = (((bh / p.heads) * p.queries + first + done + r) * p.heads + h) * D;
                for (var c = 0u; c < CHUNK; c++) {
                    let quad = (first_quad + c) * 8u + lane;
                    if quad < QUADS {
                        store_quad(out, quad, acc[0][c] * inverse);
                    }
                }
                for (var j = 0u; j < 7u; j++) {
                    sum[j] = sum[j + 1u];
                    acc[j] = acc[j + 1u];
                }
            }
            for (var i = 0u; i + 1u < OCTETS; i++) {
                for (var j = 0u; j < 8u; j++) {
                    sum[i * 8u + j] = sum[i * 8u + 8u + j];
                    acc[i * 8u + j] = acc[i * 8u + 8u + j];
                }
            }
        }
    }
}
