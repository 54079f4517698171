// Gradients of attention's queries, or of its keys and values, for software adapters with subgroups of eight:
// one workgroup is one subgroup and owns ROWS rows of one head (a multiple of eight): queries, or with two
// RESULTS keys. It walks the rows of the other side BLOCK at a time. First q·kᵀ and dy·vᵀ of the block: a lane
// holds GROUPS walked rows, owned ones are read by one lane each and handed out by subgroupBroadcast. Then the
// sums: a lane holds CHUNK quads of the head, and the gradients of the scores (and the weights) are handed out.
// They lie in workgroup memory meanwhile, each read only by the lane that wrote it, so that there is no barrier.
// Blocks are long, since such drivers run the body of a loop once more than it asks for, for no lane.
// Prelude beside those of `attention_back_io.wgsl` and `lib/attention_cast.wgsl`: u32 RESULTS; BLOCK,
// a multiple of 8·GROUPS; CHUNK, CHUNKS: quads of the head
// that a lane sums up, and workgroups that share a head, each of which makes all weights.

const OF_KEYS: bool = RESULTS == 2u;
const WEIGHTS: u32 = (RESULTS - 1u) * BLOCK * ROWS;

// Gradients of scores, then if two RESULTS weights: (RESULTS, BLOCK / 8, ROWS, 8).
var<workgroup> pairs: array<f32, RESULTS * BLOCK * ROWS>;

fn owned() -> u32 {
    return select(p.queries, p.keys, OF_KEYS);
}

fn walked() -> u32 {
    return select(p.keys, p.queries, OF_KEYS);
}

// Where row r begins in q or k, and in dy or v.
fn first_at(of_keys: bool, bh: u32, r: u32) -> u32 {
    if of_keys {
        return key_at(bh, r);
    }
    return query_at(bh, r);
}

fn second_at(of_keys: bool, bh: u32, r: u32) -> u32 {
    if of_keys {
        return key_at(bh, r);
    }
    return dy_at(bh, r);
}

// Quad i of a row of k or v, or of q or dy.
fn quad_of(second: bool, of_keys: bool, start: u32, i: u32) -> vec4<f32> {
    if of_keys {
        if second {
            return quad_of_v(start, i);
        }
        return quad_of_k(start, i);
    }
    if second {
        return quad_of_dy(start, i);
    }
    return quad_of_q(start, i);
}

fn quad_of_own(second: bool, start: u32, i: u32) -> vec4<f32> {
    return quad_of(second, OF_KEYS, start, i);
}

fn quad_of_other(second: bool, start: u32, i: u32) -> vec4<f32> {
    return quad_of(second, !OF_KEYS, start, i);
}

// The first query that sees key s, or the number of queries.
fn first_to_see(bh: u32, s: u32) -> u32 {
    var low = 0u;
    var high = p.queries;
    while low < high {
        let middle = (low + high) / 2u;
        if seen_by(bh, middle) > s {
            high = middle;
        } else {
            low = middle + 1u;
        }
    }
    return low;
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
    let blocks = (owned() + ROWS - 1u) / ROWS;
    let first_quad = (group % CHUNKS) * CHUNK * 8u + lane;
    let bh = group / CHUNKS / blocks;
    let own0 = (group / CHUNKS % blocks) * ROWS;
    let own_end = min(own0 + ROWS, owned());

    // What one of the owned rows has to do with, and where all of them have.
    var begin = 0u;
    var end = p.queries;
    var full_begin = 0u;
    var full_end = p.queries;
    if OF_KEYS {
        begin = first_to_see(bh, own0);
        full_begin = first_to_see(bh, own_end - 1u);
    } else {
        end = seen_by(bh, own_end - 1u);
        full_end = seen_by(bh, own0);
    }

    var own_first: array<u32, OCTETS>;
    var own_second: array<u32, OCTETS>;
    for (var i = 0u; i < OCTETS; i++) {
        let r = min(own0 + i * 8u + lane, owned() - 1u);
        own_first[i] = first_at(OF_KEYS, bh, r);
        own_second[i] = second_at(OF_KEYS, bh, r);
    }
    // Rows of the other side that a row has to do with are those before this one.
    var own_seen: array<u32, ROWS>;
    if !OF_KEYS {
        for (var r = 0u; r < ROWS; r++) {
            own_seen[r] = seen_by(bh, min(own0 + r, owned() - 1u));
        }
    }
    var acc: array<array<vec4<f32>, CHUNK>, ROWS>;
    var values: array<array<vec4<f32>, CHUNK>, ROWS>;
    for (var b0 = begin; b0 < end; b0 += BLOCK) {
        let count = min(BLOCK, end - b0);
        for (var n = 0u; n < count; n += STEP) {
            var other: array<u32, GROUPS>;
            var other_seen: array<u32, GROUPS>;
            var other_first: array<u32, GROUPS>;
            var other_second: array<u32, GROUPS>;
            for (var c = 0u; c < GROUPS; c++) {
                other[c] = min(b0 + n + c * 8u + lane, walked() - 1u);
                if OF_KEYS {
                    other_seen[c] = select(0u, seen_by(bh, other[c]), b0 + n + c * 8u + lane < end);
                }
                other_first[c] = first_at(!OF_KEYS, bh, other[c]);
                other_second[c] = second_at(!OF_KEYS, bh, other[c]);
            }
            let product = products(false, own_first, other_first, p.quads);
            let dp = products(true, own_second, other_second, p.quads);
            for (var c = 0u; c < GROUPS; c++) {
                for (var r = 0u; r < ROWS; r++) {
                    let own = min(own0 + r, owned() - 1u);
                    let t = select(own, other[c], OF_KEYS);
                    let s = select(other[c], own, OF_KEYS);
                    let weight = weight_of(product[r][c], bias_of(bh, t, s), bh, t);
                    let seen = select(b0 + n + c * 8u + lane < own_seen[r], s < other_seen[c], OF_KEYS);
                    let at = ((n / 8u + c) * ROWS + r) * 8u + lane;
                    pairs[at] = select(0.0, score_gradient(weight, dp[r][c], bh, t), seen);
                    if OF_KEYS {
                        pairs[WEIGHTS + at] = select(0.0, weight, seen);
                    }
                }
            }
        }

        // Eights of which all have to do with all owned rows; and the others too, if they are numbers: what is
        // not seen may be NaN, and so may 0 times it.
        var full1 = min(count, max(full_end, b0) - b0) / 8u;
        var full0 = min((max(full_begin, b0) - b0 + 7u) / 8u, full1);
        var left = count - (full1 - full0) * 8u;
        var largest = vec4<u32>();
        for (var n = 0u; n < left; n++) {
            let o = b0 + select(n + (full1 - full0) * 8u, n, n < full0 * 8u);
            for (var c = 0u; c < CHUNK; c++) {
                let quad = min(first_quad + c * 8u, QUADS - 1u);
                largest = max(largest, exponents(quad_of_other(false, first_at(!OF_KEYS, bh, o), quad)));
                if OF_KEYS {
                    largest = max(largest, exponents(quad_of_other(true, second_at(!OF_KEYS, bh, o), quad)));
                }
            }
        }
        if subgroupAll(all(largest < vec4<u32>(INFINITE))) {
            full0 = 0u;
            full1 = (count + 7u) / 8u;
            left = 0u;
        }
        for (var g = full0; g < full1; g++) {
            var factor: array<f32, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                factor[r] = pairs[(g * ROWS + r) * 8u + lane];
            }
            for (var c = 0u; c < CHUNK; c++) {
                let quad = min(first_quad + c * 8u, QUADS - 1u);
                var x: array<vec4<f32>, 8>;
                for (var j = 0u; j < 8u; j++) {
                    x[j] = quad_of_other(false, first_at(!OF_KEYS, bh, min(b0 + g * 8u + j, end - 1u)), quad);
                }
                for (var r = 0u; r < ROWS; r++) {
                    acc[r][c] = eight_rows(acc[r][c], factor[r], x);
                }
            }
            if OF_KEYS {
                for (var r = 0u; r < ROWS; r++) {
                    factor[r] = pairs[WEIGHTS + (g * ROWS + r) * 8u + lane];
                }
                for (var c = 0u; c < CHUNK; c++) {
                    let quad = min(first_quad + c * 8u, QUADS - 1u);
                    var x: array<vec4<f32>, 8>;
                    for (var j = 0u; j < 8u; j++) {
                        x[j] = quad_of_other(true, second_at(!OF_KEYS, bh, min(b0 + g * 8u + j, end - 1u)), quad);
                    }
                    for (var r = 0u; r < ROWS; r++) {
                        values[r][c] = eight_rows(values[r][c], factor[r], x);
                    }
                }
            }
        }
        // The others one by one.
        for (var n = 0u; n < left; n++) {
            let j = select(n + (full1 - full0) * 8u, n, n < full0 * 8u);
            let o = b0 + j;
            var x: array<vec4<f32>, CHUNK>;
            var x2: array<vec4<f32>, CHUNK>;
            for (var c = 0u; c < CHUNK; c++) {
                let quad = min(first_quad + c * 8u, QUADS - 1u);
                x[c] = quad_of_other(false, first_at(!OF_KEYS, bh, o), quad);
                if OF_KEYS {
                    x2[c] = quad_of_other(true, second_at(!OF_KEYS, bh, o), quad);
                }
            }
            for (var r = 0u; r < ROWS; r++) {
                let own = min(own0 + r, owned() - 1u);
                let seen = select(o < own_seen[r], own < seen_by(bh, o), OF_KEYS);
                let at = (j / 8u * ROWS + r) * 8u + lane;
                let factor = subgroupShuffle(pairs[at], j % 8u);
                for (var c = 0u; c < CHUNK; c++) {
                    acc[r][c] = select(acc[r][c], fma(vec4<f32>(factor), x[c], acc[r][c]), seen);
                }
                if OF_KEYS {
                    let weight = subgroupShuffle(pairs[WEIGHTS + at], j % 8u);
                    for (var c = 0u; c < CHUNK; c++) {
                        values[r][c] = select(values[r][c], fma(vec4<f32>(weight), x2[c], values[r][c]), seen);
                    }
                }
            }
        }
    }

    // Sums move down to the first place one by one: with a variable index drivers keep all of them in memory,
    // and unrolled, this would be most of the code.
    let all = p.batch * p.heads * p.keys * D;
    for (var r = own0; r < own_end; r++) {
        for (var c = 0u; c < CHUNK; c++) {
            let quad = first_quad + c * 8u;
            if quad < QUADS {
                store_quad(first_at(OF_KEYS, bh, r), quad, acc[0][c] * p.scale);
                if OF_KEYS {
                    store_quad(all + key_at(bh, r), quad, values[0][c]);
                }
            }
        }
        for (var i = 0u; i + 1u < ROWS; i++) {
            acc[i] = acc[i + 1u];
            values[i] = values[i + 1u];
        }
    }
}
