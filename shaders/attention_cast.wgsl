// Attention for software adapters with subgroups of eight: one workgroup is one subgroup and makes
// ROWS queries of one head. First q·kᵀ: a lane holds GROUPS keys, q is read by
// the lane of its query and handed out by subgroupBroadcast. Then p·v: a lane holds CHUNK quads of the
// head at a time, the softmax weights are handed out. The scores lie in workgroup memory meanwhile, each
// read only by the lane that wrote it, so that there is no barrier. All keys are scored before the
// first weight is made: an online softmax would rescale the sums at every step, since such drivers
// cannot skip a branch.
// Prelude adds what `lib/attention_cast.wgsl` has; u32 CAP (keys there is room for, a multiple of 8·GROUPS), CHUNK.

const LANE_QUADS: u32 = (QUADS + 7u) / 8u;
const CHUNKS: u32 = (LANE_QUADS + CHUNK - 1u) / CHUNK;

var<workgroup> scores: array<f32, CAP * ROWS>;  // (keys / 8, ROWS, 8)

fn quad_of_own(second: bool, start: u32, i: u32) -> vec4<f32> {
    return quad_of_q(start, i);
}

fn quad_of_other(second: bool, start: u32, i: u32) -> vec4<f32> {
    return quad_of_k(start, i);
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
    // The first key that one of the queries sees: keys are counted from there.
    let base = first_visible(bh, first);
    // Keys from the base on that all see; with a window, which moves, none are taken to be.
    let all_seen = select(visible(bh, first) / 8u * 8u, base, WINDOW);
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
    for (var s0 = base; s0 < last_seen; s0 += STEP) {
        var k_start: array<u32, GROUPS>;
        for (var c = 0u; c < GROUPS; c++) {
            k_start[c] = p.k_start + head + min(s0 + c * 8u + lane, p.keys - 1u) * D;
        }
        let e = products(false, q_start, k_start, min(QUADS, last_seen * QUADS));
        for (var c = 0u; c < GROUPS; c++) {
            let s = s0 + c * 8u + lane;
            for (var r = 0u; r < ROWS; r++) {
                let t = min(first + r, p.queries - 1u);
                var score = e[r][c] * p.scale;
                if BIAS {
                    score += bias[biases(h, t) + min(s, p.keys - 1u)];
                }
                score = select(LOWEST, score, s >= first_visible(bh, t) && s < visible(bh, t));
                top[r] = max(top[r], score);
                scores[(((s0 - base) / 8u + c) * ROWS + r) * 8u + lane] = score;
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
        // Keys that all queries see, eight at a time; and the others too, if their values are numbers: what is
        // not seen may be NaN, and so may 0 times it.
        var end = all_seen;
        var largest = vec4<u32>();
        for (var s = all_seen; s < last_seen; s++) {
            for (var c = 0u; c < CHUNK; c++) {
                let quad = min((first_quad + c) * 8u + lane, QUADS - 1u);
                largest = max(largest, exponents(quad_of_v(p.v_start + head + s * D, quad)));
            }
        }
        if subgroupAll(all(largest < vec4<u32>(INFINITE))) {
            end = last_seen;
        }
        for (var s0 = base; s0 < end; s0 += 8u) {
            var w: array<f32, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                w[r] = exp(scores[((s0 - base) / 8u * ROWS + r) * 8u + lane] - top[r]);
                sum[r] += w[r];
            }
            for (var c = 0u; c < CHUNK; c++) {
                let quad = min((first_quad + c) * 8u + lane, QUADS - 1u);
                var x: array<vec4<f32>, 8>;
                for (var j = 0u; j < 8u; j++) {
                    x[j] = quad_of_v(p.v_start + head + min(s0 + j, last_seen - 1u) * D, quad);
                }
                for (var r = 0u; r < ROWS; r++) {
                    acc[r][c] = eight_rows(acc[r][c], w[r], x);
                }
            }
        }
        // The others one by one.
        for (var s = end; s < last_seen; s++) {
            var x: array<vec4<f32>, CHUNK>;
            for (var c = 0u; c < CHUNK; c++) {
                let quad = min((first_quad + c) * 8u + lane, QUADS - 1u);
                x[c] = quad_of_v(p.v_start + head + s * D, quad);
            }
            for (var r = 0u; r < ROWS; r++) {
                let score = subgroupShuffle(scores[((s - base) / 8u * ROWS + r) * 8u + lane], (s - base) % 8u);
                let weight = exp(score - top[r]);
                sum[r] += select(0.0, weight, lane == 0u);
                // Without CAUSAL and WINDOW all see the same.
                let t = min(first + r, p.queries - 1u);
                let seen = (!CAUSAL && !WINDOW) || (s >= first_visible(bh, t) && s < visible(bh, t));
                for (var c = 0u; c < CHUNK; c++) {
                    acc[r][c] = select(acc[r][c], fma(vec4<f32>(weight), x[c], acc[r][c]), seen);
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
