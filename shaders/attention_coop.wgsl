// Attention on cooperative matrices (tensor cores): one workgroup takes SUBS x SIDE queries of one
// head, each subgroup SIDE of them, and walks the keys in steps of BC. q, k, v and the softmax
// weights are f16 where they are multiplied, scores and the result f32.
//
// q stays in registers as DM matrices (SIDE x D), and so does the result. A step of the keys:
//   fetch   each lane reads its share of the values of this step and the keys of the next one, to be put
//           to workgroup memory with the weights, D padded to a multiple of SIDE with zeros. They are on
//           the way meanwhile, unless they are too many for the registers: then they are read when put;
//   score   each subgroup multiplies its q with the keys (read by columns: transposed) and stores
//           the SIDE x BC scores to workgroup memory, since only there lanes see single elements;
//   weigh   SG / SIDE lanes share a row: maximum, then exp2(score - top), stored as f16. `top` is a
//           bound for the row, not its maximum: it moves only when a score exceeds it by 8 (the
//           weights are then 256 at most, which f16 holds), which is rare after the first step;
//   rescale if any row's top moved, the result goes through workgroup memory once to be scaled. That
//           is decided for the whole workgroup, because matrix operations need uniform control flow;
//   add     each subgroup multiplies its weights with the values and adds to its result.
// Rows past the last query repeat it and are not stored; keys past the last repeat it with weight 0.
//
// Indices into arrays of matrices are constants once functions are inlined, so that matrices stay
// in registers. Should subgroups turn out smaller than SG, several make the same matrices.
// Prelude adds alias MatA, MatB, MatC; u32 SIDE, SG (lanes of the largest subgroup), SUBS, BC.

const BR: u32 = SUBS * SIDE;
const WG: u32 = SUBS * SG;
const PARTS: u32 = WG / BR;                     // lanes that share a row of scores
const DM: u32 = (D + SIDE - 1u) / SIDE;         // matrices across a head: 16 at most
const DQ: u32 = DM * SIDE / 4u;                 // fours in a padded row
const DS: u32 = DM * SIDE + 8u;                 // row of staged q, k, v: 8 of skew
const PS: u32 = BC + 8u;                        // row of weights
const SS: u32 = BC + 4u;                        // row of scores
const V_START: u32 = BC * DS;
const P_START: u32 = 2u * BC * DS;
const HALVES: u32 = P_START + BR * PS;          // q is staged where keys and values follow: BR <= 2 BC
const FLOATS: u32 = BR * SS;
const SHARE: u32 = BC / PARTS / 4u;             // fours of a row of scores that one lane takes
const EACH: u32 = (BC * DQ + WG - 1u) / WG;     // fours of a step's keys, and of its values, a lane brings
const EARLY: bool = EACH <= 8u;
const SLACK: f32 = 8.0;

var<workgroup> moved: u32;                      // the last step, from 1, in which a top moved
var<workgroup> tops: array<f32, WG>;            // (PARTS, BR)
var<workgroup> factors: array<f32, BR>;

// Four scores of a row in units of log2; those of keys that are not seen count as LOWEST.
fn energies(row: u32, col: u32, s: u32, seen: vec2<u32>, bias_at: u32) -> vec4<f32> {
    var e = get_floats(row * SS + col) * (p.scale * 1.442695);
    if BIAS {
        let last = p.keys - 1u;
        let b = vec4<f32>(
            bias[bias_at + min(s, last)],
            bias[bias_at + min(s + 1u, last)],
            bias[bias_at + min(s + 2u, last)],
            bias[bias_at + min(s + 3u, last)],
        );
        e += b * 1.442695;
    }
    let at = vec4<u32>(s, s + 1u, s + 2u, s + 3u);
    return select(vec4<f32>(LOWEST), e, (at >= vec4<u32>(seen.x)) & (at < vec4<u32>(seen.y)));
}

// Where the n-th four of a step's keys or values lies among all; past the last key and behind D, another.
fn source_of(head: u32, s0: u32, n: u32) -> u32 {
    return (head + min(s0 + n / DQ, p.keys - 1u)) * (D / 4u) + min(n % DQ, D / 4u - 1u);
}

fn put_staged(begin: u32, n: u32, four: vec4<f16>) {
    if BC * DQ % WG == 0u || n < BC * DQ {
        let at = begin + n / DQ * DS + n % DQ * 4u;
        put_halves(at, select(vec4<f16>(), four, DQ == D / 4u || n % DQ < D / 4u));
    }
}

fn load_queries(a: ptr<function, array<MatA, 16>>, at: u32) {
    (*a)[0] = coopLoadT<MatA>(&halves[at / CELL], DS / CELL);
    if DM > 1u { (*a)[1] = coopLoadT<MatA>(&halves[(at + SIDE) / CELL], DS / CELL); }
    if DM > 2u { (*a)[2] = coopLoadT<MatA>(&halves[(at + 2u * SIDE) / CELL], DS / CELL); }
    if DM > 3u { (*a)[3] = coopLoadT<MatA>(&halves[(at + 3u * SIDE) / CELL], DS / CELL); }
    if DM > 4u { (*a)[4] = coopLoadT<MatA>(&halves[(at + 4u * SIDE) / CELL], DS / CELL); }
    if DM > 5u { (*a)[5] = coopLoadT<MatA>(&halves[(at + 5u * SIDE) / CELL], DS / CELL); }
    if DM > 6u { (*a)[6] = coopLoadT<MatA>(&halves[(at + 6u * SIDE) / CELL], DS / CELL); }
    if DM > 7u { (*a)[7] = coopLoadT<MatA>(&halves[(at + 7u * SIDE) / CELL], DS / CELL); }
    if DM > 8u { (*a)[8] = coopLoadT<MatA>(&halves[(at + 8u * SIDE) / CELL], DS / CELL); }
    if DM > 9u { (*a)[9] = coopLoadT<MatA>(&halves[(at + 9u * SIDE) / CELL], DS / CELL); }
    if DM > 10u { (*a)[10] = coopLoadT<MatA>(&halves[(at + 10u * SIDE) / CELL], DS / CELL); }
    if DM > 11u { (*a)[11] = coopLoadT<MatA>(&halves[(at + 11u * SIDE) / CELL], DS / CELL); }
    if DM > 12u { (*a)[12] = coopLoadT<MatA>(&halves[(at + 12u * SIDE) / CELL], DS / CELL); }
    if DM > 13u { (*a)[13] = coopLoadT<MatA>(&halves[(at + 13u * SIDE) / CELL], DS / CELL); }
    if DM > 14u { (*a)[14] = coopLoadT<MatA>(&halves[(at + 14u * SIDE) / CELL], DS / CELL); }
    if DM > 15u { (*a)[15] = coopLoadT<MatA>(&halves[(at + 15u * SIDE) / CELL], DS / CELL); }
}

// Part `d` of the keys that begin at `at`, transposed: (SIDE of D, SIDE keys).
fn keys_at(at: u32, d: u32) -> MatB {
    return coopLoad<MatB>(&halves[(at + d * SIDE) / CELL], DS / CELL);
}

// Scores of the subgroup's queries against SIDE keys.
fn scores(a: ptr<function, array<MatA, 16>>, at: u32) -> MatC {
    var c = coopMultiplyAdd((*a)[0], keys_at(at, 0u), MatC());
    if DM > 1u { c = coopMultiplyAdd((*a)[1], keys_at(at, 1u), c); }
    if DM > 2u { c = coopMultiplyAdd((*a)[2], keys_at(at, 2u), c); }
    if DM > 3u { c = coopMultiplyAdd((*a)[3], keys_at(at, 3u), c); }
    if DM > 4u { c = coopMultiplyAdd((*a)[4], keys_at(at, 4u), c); }
    if DM > 5u { c = coopMultiplyAdd((*a)[5], keys_at(at, 5u), c); }
    if DM > 6u { c = coopMultiplyAdd((*a)[6], keys_at(at, 6u), c); }
    if DM > 7u { c = coopMultiplyAdd((*a)[7], keys_at(at, 7u), c); }
    if DM > 8u { c = coopMultiplyAdd((*a)[8], keys_at(at, 8u), c); }
    if DM > 9u { c = coopMultiplyAdd((*a)[9], keys_at(at, 9u), c); }
    if DM > 10u { c = coopMultiplyAdd((*a)[10], keys_at(at, 10u), c); }
    if DM > 11u { c = coopMultiplyAdd((*a)[11], keys_at(at, 11u), c); }
    if DM > 12u { c = coopMultiplyAdd((*a)[12], keys_at(at, 12u), c); }
    if DM > 13u { c = coopMultiplyAdd((*a)[13], keys_at(at, 13u), c); }
    if DM > 14u { c = coopMultiplyAdd((*a)[14], keys_at(at, 14u), c); }
    if DM > 15u { c = coopMultiplyAdd((*a)[15], keys_at(at, 15u), c); }
    return c;
}

// Part `d` of SIDE values that begin at `at`: (SIDE keys, SIDE of D).
fn values_at(at: u32, d: u32) -> MatB {
    return coopLoadT<MatB>(&halves[(at + d * SIDE) / CELL], DS / CELL);
}

// Adds weights times SIDE values to the result.
fn add_values(o: ptr<function, array<MatC, 16>>, w: MatA, at: u32) {
    (*o)[0] = coopMultiplyAdd(w, values_at(at, 0u), (*o)[0]);
    if DM > 1u { (*o)[1] = coopMultiplyAdd(w, values_at(at, 1u), (*o)[1]); }
    if DM > 2u { (*o)[2] = coopMultiplyAdd(w, values_at(at, 2u), (*o)[2]); }
    if DM > 3u { (*o)[3] = coopMultiplyAdd(w, values_at(at, 3u), (*o)[3]); }
    if DM > 4u { (*o)[4] = coopMultiplyAdd(w, values_at(at, 4u), (*o)[4]); }
    if DM > 5u { (*o)[5] = coopMultiplyAdd(w, values_at(at, 5u), (*o)[5]); }
    if DM > 6u { (*o)[6] = coopMultiplyAdd(w, values_at(at, 6u), (*o)[6]); }
    if DM > 7u { (*o)[7] = coopMultiplyAdd(w, values_at(at, 7u), (*o)[7]); }
    if DM > 8u { (*o)[8] = coopMultiplyAdd(w, values_at(at, 8u), (*o)[8]); }
    if DM > 9u { (*o)[9] = coopMultiplyAdd(w, values_at(at, 9u), (*o)[9]); }
    if DM > 10u { (*o)[10] = coopMultiplyAdd(w, values_at(at, 10u), (*o)[10]); }
    if DM > 11u { (*o)[11] = coopMultiplyAdd(w, values_at(at, 11u), (*o)[11]); }
    if DM > 12u { (*o)[12] = coopMultiplyAdd(w, values_at(at, 12u), (*o)[12]); }
    if DM > 13u { (*o)[13] = coopMultiplyAdd(w, values_at(at, 13u), (*o)[13]); }
    if DM > 14u { (*o)[14] = coopMultiplyAdd(w, values_at(at, 14u), (*o)[14]); }
    if DM > 15u { (*o)[15] = coopMultiplyAdd(w, values_at(at, 15u), (*o)[15]); }
}

// Stores an accumulator to the subgroup's rows of `floats`.
fn spill(c: MatC, at: u32) {
    // naga 30 loses an index or stride of a store that is not a `let` of its own.
    let cell = at / CELL;
    let stride = SS / CELL;
    coopStoreT(c, &floats[cell], stride);
}

// Scales matrices i and i + 1 of the result by the factor of each row. An odd one out is paired
// with an accumulator that stays zero.
fn rescale(o: ptr<function, array<MatC, 16>>, i: u32, lane: u32, mine: u32) {
    spill((*o)[i], mine);
    spill((*o)[i + 1u], mine + SIDE);
    workgroupBarrier();
    for (var n = lane; n < BR * SIDE / 2u; n += WG) {
        let row = n / (SIDE / 2u);
        let at = row * SS + n % (SIDE / 2u) * 4u;
        put_floats(at, get_floats(at) * factors[row]);
    }
    workgroupBarrier();
    (*o)[i] = coopLoadT<MatC>(&floats[mine / CELL], SS / CELL);
    (*o)[i + 1u] = coopLoadT<MatC>(&floats[(mine + SIDE) / CELL], SS / CELL);
    workgroupBarrier();
}

// Scales matrices i and i + 1 of the result by the factor of each row and writes them.
fn finish(o: ptr<function, array<MatC, 16>>, i: u32, lane: u32, mine: u32, bh: u32, first: u32) {
    spill((*o)[i], mine);
    spill((*o)[i + 1u], mine + SIDE);
    workgroupBarrier();
    for (var n = lane; n < BR * SIDE / 2u; n += WG) {
        let row = n / (SIDE / 2u);
        let quad = n % (SIDE / 2u);
        let t = first + row;
        let depth = i * SIDE / 4u + quad;
        if t < p.queries && depth < D / 4u {
            let head = ((bh / p.heads) * p.queries + t) * p.heads + bh % p.heads;
            y[head * (D / 4u) + depth] = vec4<Y>(get_floats(row * SS + quad * 4u) * factors[row]);
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let group = wg.y * wgs.x + wg.x;
    if group >= p.groups {
        return;
    }
    let blocks = (p.queries + BR - 1u) / BR;
    let bh = group / blocks;
    // The queries that see most keys first, where that differs.
    let first = (blocks - 1u - group % blocks) * BR;
    let head = bh * p.keys;
    let sub = subgroup % SUBS;
    let mine = sub * SIDE * SS;

    // What this lane weighs: a part of a row.
    let row = lane % BR;
    let start = lane / BR * (SHARE * 4u);
    let t = min(first + row, p.queries - 1u);
    let seen = vec2<u32>(first_visible(bh, t), visible(bh, t));
    let first_seen = first_visible(bh, first);
    let last_seen = visible(bh, min(first + BR, p.queries) - 1u);
    let bias_at = biases(bh % p.heads, t);

    for (var n = lane; n < BR * DQ; n += WG) {
        let c = n % DQ;
        var four = vec4<f16>();
        if c < D / 4u {
            let at = bh * p.queries + min(first + n / DQ, p.queries - 1u);
            four = vec4<f16>(q[at * (D / 4u) + c]);
        }
        put_halves(n / DQ * DS + c * 4u, four);
    }
    if lane == 0u {
        moved = 0u;
    }
    workgroupBarrier();
    var a: array<MatA, 16>;
    load_queries(&a, sub * SIDE * DS);

    workgroupBarrier();
    for (var e = 0u; e < EACH; e++) {
        let n = lane + e * WG;
        put_staged(0u, n, vec4<f16>(k[p.k_start / 4u + source_of(head, first_seen, n)]));
    }
    workgroupBarrier();

    var o: array<MatC, 16>;
    var top = LOWEST;
    var sum = 0.0;
    var step = 0u;
    for (var s0 = first_seen; s0 < last_seen; s0 += BC) {
        step += 1u;
        var keys: array<KV, EACH>;
        var values: array<VV, EACH>;
        if EARLY {
            for (var e = 0u; e < EACH; e++) {
                let n = lane + e * WG;
                values[e] = v[p.v_start / 4u + source_of(head, s0, n)];
                keys[e] = k[p.k_start / 4u + source_of(head, s0 + BC, n)];
            }
        }
        for (var j = 0u; j < BC / SIDE; j++) {
            spill(scores(&a, j * SIDE * DS), mine + j * SIDE);
        }
        workgroupBarrier();

        var most = vec4<f32>(LOWEST);
        for (var i = 0u; i < SHARE; i++) {
            let col = start + i * 4u;
            most = max(most, energies(row, col, s0 + col, seen, bias_at));
        }
        let highest = max(max(most.x, most.y), max(most.z, most.w));
        tops[lane] = highest;
        if highest > top + SLACK {
            moved = step;
        }
        let rescaling = workgroupUniformLoad(&moved) == step;
        if rescaling {
            var above = top;
            for (var i = 0u; i < PARTS; i++) {
                above = max(above, tops[i * BR + row]);
            }
            let shrink = exp2(top - above);
            sum *= shrink;
            top = above;
            if lane < BR {
                factors[row] = shrink;
            }
        }
        for (var i = 0u; i < SHARE; i++) {
            let col = start + i * 4u;
            let e = energies(row, col, s0 + col, seen, bias_at);
            // Not by `>`, which a NaN would fail and be left away.
            let weights = vec4<f16>(select(exp2(e - top), vec4<f32>(), e == vec4<f32>(LOWEST)));
            let rounded = vec4<f32>(weights);
            sum += (rounded.x + rounded.y) + (rounded.z + rounded.w);
            put_halves(P_START + row * PS + col, weights);
        }
        for (var e = 0u; e < EACH; e++) {
            let n = lane + e * WG;
            if !EARLY {
                values[e] = v[p.v_start / 4u + source_of(head, s0, n)];
                keys[e] = k[p.k_start / 4u + source_of(head, s0 + BC, n)];
            }
            // Values that no query here sees may be NaN, and so may 0 times them.
            let hidden = (LENGTHS || CAUSAL || WINDOW) && s0 + n / DQ >= last_seen;
            put_staged(V_START, n, select(vec4<f16>(values[e]), vec4<f16>(), hidden));
            put_staged(0u, n, vec4<f16>(keys[e]));
        }
        workgroupBarrier();
        if rescaling && step > 1u {
            rescale(&o, 0u, lane, mine);
            if DM > 2u { rescale(&o, 2u, lane, mine); }
            if DM > 4u { rescale(&o, 4u, lane, mine); }
            if DM > 6u { rescale(&o, 6u, lane, mine); }
            if DM > 8u { rescale(&o, 8u, lane, mine); }
            if DM > 10u { rescale(&o, 10u, lane, mine); }
            if DM > 12u { rescale(&o, 12u, lane, mine); }
            if DM > 14u { rescale(&o, 14u, lane, mine); }
        }
        for (var j = 0u; j < BC / SIDE; j++) {
            let w = coopLoadT<MatA>(&halves[(P_START + sub * SIDE * PS + j * SIDE) / CELL], PS / CELL);
            add_values(&o, w, V_START + j * SIDE * DS);
        }
    }

    tops[lane] = sum;
    workgroupBarrier();
    if lane < BR {
        var total = 0.0;
        for (var i = 0u; i < PARTS; i++) {
            total += tops[i * BR + row];
        }
        factors[row] = 1.0 / total;
    }
    finish(&o, 0u, lane, mine, bh, first);
    if DM > 2u { finish(&o, 2u, lane, mine, bh, first); }
    if DM > 4u { finish(&o, 4u, lane, mine, bh, first); }
    if DM > 6u { finish(&o, 6u, lane, mine, bh, first); }
    if DM > 8u { finish(&o, 8u, lane, mine, bh, first); }
    if DM > 10u { finish(&o, 10u, lane, mine, bh, first); }
    if DM > 12u { finish(&o, 12u, lane, mine, bh, first); }
    if DM > 14u { finish(&o, 14u, lane, mine, bh, first); }
}
