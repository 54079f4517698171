// What `attention_rows.wgsl` finds, for software adapters with subgroups of eight: one workgroup is one
// subgroup and owns ROWS queries of one head. A lane holds GROUPS keys at a time, and has a running maximum and
// a sum of its own keys for every query, which meet at the end.
// Prelude: as `attention_rows_io.wgsl` and `lib/attention_cast.wgsl`.

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

    var own: array<u32, OCTETS>;
    for (var i = 0u; i < OCTETS; i++) {
        own[i] = (bh * p.queries + min(first + i * 8u + lane, p.queries - 1u)) * D;
    }
    var top: array<f32, ROWS>;
    var sum: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        top[r] = LOWEST;
        sum[r] = 0.0;
    }
    for (var s0 = 0u; s0 < last_seen; s0 += STEP) {
        var key: array<u32, GROUPS>;
        for (var c = 0u; c < GROUPS; c++) {
            key[c] = (bh * p.keys + min(s0 + c * 8u + lane, p.keys - 1u)) * D;
        }
        var e = products(false, own, key, p.quads);
        for (var r = 0u; r < ROWS; r++) {
            let t = min(first + r, p.queries - 1u);
            let seen = visible(bh, t);
            var step_top = top[r];
            for (var c = 0u; c < GROUPS; c++) {
                let s = s0 + c * 8u + lane;
                var score = e[r][c] * p.scale;
                if BIAS {
                    score += bias[biases(bh, t) + min(s, p.keys - 1u)];
                }
                // What a query does not see may be NaN.
                e[r][c] = select(LOWEST, score, s < seen);
                step_top = max(step_top, e[r][c]);
            }
            var total = sum[r] * exp(top[r] - step_top);
            for (var c = 0u; c < GROUPS; c++) {
                total += select(0.0, exp(e[r][c] - step_top), s0 + c * 8u + lane < seen);
            }
            sum[r] = total;
            top[r] = step_top;
        }
    }

    // Each lane keeps those of its own queries.
    var lse: array<f32, OCTETS>;
    for (var r = 0u; r < ROWS; r++) {
        let most = subgroupMax(top[r]);
        let total = subgroupAdd(sum[r] * exp(top[r] - most));
        lse[r / 8u] = select(lse[r / 8u], most + log(total), r % 8u == lane);
    }
    for (var i = 0u; i < OCTETS; i++) {
        let t = first + i * 8u + lane;
        if t < p.queries {
            store_row(bh, t, lse[i]);
        }
    }
}
