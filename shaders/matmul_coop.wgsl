// Linear layer on cooperative matrices (tensor cores): one workgroup makes BM rows x BN columns,
// walking K in steps of BK. Operands are f16, accumulators f32.
//
// Subgroups form a grid: SM down the rows, SN across the columns, and KG such grids that share each
// step of K and add up at the end (split-K within the workgroup). A subgroup makes RM x RN matrices
// (2 or 4 either way) of SIDE x SIDE and keeps them in registers. A step of K:
//   fetch    each lane reads its share of the next step's x and W into registers, in fours;
//   multiply each subgroup loads RM matrices of x and RN of W from workgroup memory for every SIDE
//            of its part of BK, and multiplies each with each;
//   put      the fetched fours go to workgroup memory, rows skewed by 8 elements so that the rows of
//            a matrix lie in different banks; with STAGES = 2 that is the other half, so that one
//            barrier a step suffices, else one more stands before it.
// From fetch to multiply there is no branch, and what is fetched is not touched: a conversion or a choice
// in a block before the products would make them wait for memory. So addresses are clamped, and what was
// read beyond K, or where a tap has no elements, becomes zero when it is put. Rows of W past K, and rows
// and columns past the last, repeat; the latter are not stored. Where there is more than one tap, a lane
// finds out anew for each where the rows it fetches begin. Results leave through workgroup memory, two
// matrices a subgroup at a time: only there can lanes see single elements.
//
// Matrix operations need uniform control flow, so nothing here branches on the subgroup. Indices
// into arrays of matrices are constants, so that matrices stay in registers whatever the driver
// unrolls. Should subgroups turn out smaller than SG, several make the same matrices.
// Prelude adds alias XV (four of X), MatA, MatB, MatC; u32 SIDE, SG (lanes of the largest subgroup),
// BM, BN, BK, SM, SN, KG, STAGES; bool WHOLE (K, or that of a tap, is a multiple of BK).

const GRID: u32 = SM * SN;
const SUBS: u32 = GRID * KG;
const WG: u32 = SUBS * SG;
const RM: u32 = BM / SM / SIDE;
const RN: u32 = BN / SN / SIDE;
const KSTEPS: u32 = BK / KG / SIDE;   // matrices along K that a subgroup takes in a step: 1, 2 or 4
const XS: u32 = BK + 8u;              // row of staged x
const WS: u32 = BN + 8u;              // row of staged W
const W_START: u32 = BM * XS;
const STAGE: u32 = W_START + BK * WS;
const HALVES: u32 = STAGES * STAGE;
const OS: u32 = 2u * SIDE + 4u;       // row of two accumulators side by side
const SLOT: u32 = SIDE * OS;
const FLOATS: u32 = SUBS * SLOT;
const X_QUADS: u32 = BM * BK / 4u;
const W_QUADS: u32 = BK * BN / 4u;
const X_EACH: u32 = (X_QUADS + WG - 1u) / WG;   // fours a lane fetches: 16 at most
const W_EACH: u32 = (W_QUADS + WG - 1u) / WG;
const PAIR: u32 = GRID * SIDE * SIDE / 2u;      // fours of two matrices of every subgroup of a grid
const PAIR_EACH: u32 = (PAIR + WG - 1u) / WG;
const W_ROWS: u32 = WG / (BN / 4u);   // rows of W between two fours of a lane
const BAND: u32 = 8u;                 // tiles of rows that neighbouring workgroups share columns over

const_assert WG % (BK / 4u) == 0u && WG % (BN / 4u) == 0u;

// Four fours of x, and of W, as they lie in memory.
struct FoursOfX {
    a: XV,
    b: XV,
    c: XV,
    d: XV,
}

struct FoursOfW {
    a: vec4<W>,
    b: vec4<W>,
    c: vec4<W>,
    d: vec4<W>,
}

// What a lane fetches in a step.
struct Fetched {
    x0: FoursOfX,
    x1: FoursOfX,
    x2: FoursOfX,
    x3: FoursOfX,
    w0: FoursOfW,
    w1: FoursOfW,
    w2: FoursOfW,
    w3: FoursOfW,
}

// Where the rows that a lane fetches begin in a tap, one for each four it fetches in a step.
alias Starts = array<u32, X_EACH>;

fn starts_of(row0: u32, tap: u32, lane: u32) -> Starts {
    var starts: Starts;
    for (var j = 0u; j < X_EACH; j++) {
        starts[j] = start_of(place_of(row0 + (lane + j * WG) / (BK / 4u)), tap);
    }
    return starts;
}

// Four `j` of those that a lane fetches in a step; all of them lie at the same `k`.
fn x_quad(starts: ptr<function, Starts>, k: u32, j: u32) -> XV {
    let start = (*starts)[min(j, X_EACH - 1u)];
    let at = start + select(min(k, depth() - 4u), k, WHOLE);
    return x[select(0u, at, is_inside(start)) / 4u];
}

fn w_quad(quad: u32, first: u32, k: u32) -> vec4<W> {
    return weight_at(first + select(min(k, depth() - 1u), k, WHOLE), quad);
}

fn fetch_x(starts: ptr<function, Starts>, k: u32, j: u32) -> FoursOfX {
    var f = FoursOfX();
    f.a = x_quad(starts, k, j);
    if X_EACH > 1u { f.b = x_quad(starts, k, min(j + 1u, X_EACH - 1u)); }
    if X_EACH > 2u { f.c = x_quad(starts, k, min(j + 2u, X_EACH - 1u)); }
    if X_EACH > 3u { f.d = x_quad(starts, k, min(j + 3u, X_EACH - 1u)); }
    return f;
}

fn fetch_w(quad: u32, first: u32, k: u32) -> FoursOfW {
    var f = FoursOfW();
    f.a = w_quad(quad, first, k);
    if W_EACH > 1u { f.b = w_quad(quad, first, k + W_ROWS); }
    if W_EACH > 2u { f.c = w_quad(quad, first, k + 2u * W_ROWS); }
    if W_EACH > 3u { f.d = w_quad(quad, first, k + 3u * W_ROWS); }
    return f;
}

fn put_x_quad(stage: u32, starts: ptr<function, Starts>, k: u32, lane: u32, j: u32, v: XV) {
    let n = lane + j * WG;
    if X_QUADS % WG == 0u || n < X_QUADS {
        let at = stage + n / (BK / 4u) * XS + n % (BK / 4u) * 4u;
        if WHOLE && !TAPPED {
            put_halves(at, vec4<f16>(v));
        } else {
            let real = (WHOLE | (k < depth())) & is_inside((*starts)[j]);
            put_halves(at, select(vec4<f16>(), vec4<f16>(v), real));
        }
    }
}

fn put_w_quad(stage: u32, n: u32, v: vec4<W>) {
    if W_QUADS % WG == 0u || n < W_QUADS {
        put_halves(stage + W_START + n / (BN / 4u) * WS + n % (BN / 4u) * 4u, vec4<f16>(v));
    }
}

fn put_x(stage: u32, starts: ptr<function, Starts>, k: u32, lane: u32, j: u32, f: FoursOfX) {
    put_x_quad(stage, starts, k, lane, j, f.a);
    if X_EACH > 1u { put_x_quad(stage, starts, k, lane, min(j + 1u, X_EACH - 1u), f.b); }
    if X_EACH > 2u { put_x_quad(stage, starts, k, lane, min(j + 2u, X_EACH - 1u), f.c); }
    if X_EACH > 3u { put_x_quad(stage, starts, k, lane, min(j + 3u, X_EACH - 1u), f.d); }
}

fn put_w(stage: u32, n: u32, f: FoursOfW) {
    put_w_quad(stage, n, f.a);
    if W_EACH > 1u { put_w_quad(stage, n + WG, f.b); }
    if W_EACH > 2u { put_w_quad(stage, n + 2u * WG, f.c); }
    if W_EACH > 3u { put_w_quad(stage, n + 3u * WG, f.d); }
}

// The share of a lane in the step of a tap that begins at `k0`.
fn fetch(starts: ptr<function, Starts>, tap: u32, k0: u32, quad0: u32, lane: u32) -> Fetched {
    let kx = k0 + lane % (BK / 4u) * 4u;
    let kw = k0 + lane / (BN / 4u);
    let quad = min(quad0 + lane % (BN / 4u), p.stride4 - 1u);
    let first = tap * depth();
    var f = Fetched();
    f.x0 = fetch_x(starts, kx, 0u);
    if X_EACH > 4u { f.x1 = fetch_x(starts, kx, 4u); }
    if X_EACH > 8u {
        f.x2 = fetch_x(starts, kx, 8u);
        f.x3 = fetch_x(starts, kx, 12u);
    }
    f.w0 = fetch_w(quad, first, kw);
    if W_EACH > 4u { f.w1 = fetch_w(quad, first, kw + 4u * W_ROWS); }
    if W_EACH > 8u {
        f.w2 = fetch_w(quad, first, kw + 8u * W_ROWS);
        f.w3 = fetch_w(quad, first, kw + 12u * W_ROWS);
    }
    return f;
}

// Puts it to a stage.
fn put(stage: u32, starts: ptr<function, Starts>, k0: u32, lane: u32, f: Fetched) {
    let kx = k0 + lane % (BK / 4u) * 4u;
    put_x(stage, starts, kx, lane, 0u, f.x0);
    if X_EACH > 4u { put_x(stage, starts, kx, lane, 4u, f.x1); }
    if X_EACH > 8u {
        put_x(stage, starts, kx, lane, 8u, f.x2);
        put_x(stage, starts, kx, lane, 12u, f.x3);
    }
    put_w(stage, lane, f.w0);
    if W_EACH > 4u { put_w(stage, lane + 4u * WG, f.w1); }
    if W_EACH > 8u {
        put_w(stage, lane + 8u * WG, f.w2);
        put_w(stage, lane + 12u * WG, f.w3);
    }
}

// One SIDE of K: RM x RN products. `xa` and `wa` say where the subgroup's first matrices lie.
fn multiply(acc: ptr<function, array<MatC, 16>>, xa: u32, wa: u32) {
    var a: array<MatA, 4>;
    a[0] = coopLoadT<MatA>(&halves[xa / CELL], XS / CELL);
    a[1] = coopLoadT<MatA>(&halves[(xa + SIDE * XS) / CELL], XS / CELL);
    if RM > 2u {
        a[2] = coopLoadT<MatA>(&halves[(xa + 2u * SIDE * XS) / CELL], XS / CELL);
        a[3] = coopLoadT<MatA>(&halves[(xa + 3u * SIDE * XS) / CELL], XS / CELL);
    }
    let b0 = coopLoadT<MatB>(&halves[wa / CELL], WS / CELL);
    (*acc)[0] = coopMultiplyAdd(a[0], b0, (*acc)[0]);
    (*acc)[4] = coopMultiplyAdd(a[1], b0, (*acc)[4]);
    if RM > 2u {
        (*acc)[8] = coopMultiplyAdd(a[2], b0, (*acc)[8]);
        (*acc)[12] = coopMultiplyAdd(a[3], b0, (*acc)[12]);
    }
    let b1 = coopLoadT<MatB>(&halves[(wa + SIDE) / CELL], WS / CELL);
    (*acc)[1] = coopMultiplyAdd(a[0], b1, (*acc)[1]);
    (*acc)[5] = coopMultiplyAdd(a[1], b1, (*acc)[5]);
    if RM > 2u {
        (*acc)[9] = coopMultiplyAdd(a[2], b1, (*acc)[9]);
        (*acc)[13] = coopMultiplyAdd(a[3], b1, (*acc)[13]);
    }
    if RN > 2u {
        let b2 = coopLoadT<MatB>(&halves[(wa + 2u * SIDE) / CELL], WS / CELL);
        (*acc)[2] = coopMultiplyAdd(a[0], b2, (*acc)[2]);
        (*acc)[6] = coopMultiplyAdd(a[1], b2, (*acc)[6]);
        if RM > 2u {
            (*acc)[10] = coopMultiplyAdd(a[2], b2, (*acc)[10]);
            (*acc)[14] = coopMultiplyAdd(a[3], b2, (*acc)[14]);
        }
        let b3 = coopLoadT<MatB>(&halves[(wa + 3u * SIDE) / CELL], WS / CELL);
        (*acc)[3] = coopMultiplyAdd(a[0], b3, (*acc)[3]);
        (*acc)[7] = coopMultiplyAdd(a[1], b3, (*acc)[7]);
        if RM > 2u {
            (*acc)[11] = coopMultiplyAdd(a[2], b3, (*acc)[11]);
            (*acc)[15] = coopMultiplyAdd(a[3], b3, (*acc)[15]);
        }
    }
}

// A step of K.
fn multiply_step(acc: ptr<function, array<MatC, 16>>, xa: u32, wa: u32) {
    multiply(acc, xa, wa);
    if KSTEPS > 1u { multiply(acc, xa + SIDE, wa + SIDE * WS); }
    if KSTEPS > 2u {
        multiply(acc, xa + 2u * SIDE, wa + 2u * SIDE * WS);
        multiply(acc, xa + 3u * SIDE, wa + 3u * SIDE * WS);
    }
}

// Row and four of columns of the n-th four of matrices (i, j) and (i, j + 1) of every subgroup.
fn place_of_pair(n: u32, i: u32, j: u32) -> vec2<u32> {
    let s = n / (SIDE * SIDE / 2u);
    let row = s / SN * (BM / SM) + i * SIDE + n / (SIDE / 2u) % SIDE;
    return vec2<u32>(row, (s % SN * (BN / SN) + j * SIDE) / 4u + n % (SIDE / 2u));
}

// Finishes those matrices. `corner` is the first row and four of columns of the workgroup.
fn finish_pair(lane: u32, slot: u32, corner: vec2<u32>, i: u32, j: u32, left: MatC, right: MatC) {
    // On the way while the sums move.
    var addends: array<vec4<f32>, PAIR_EACH>;
    for (var e = 0u; e < PAIR_EACH; e++) {
        let at = corner + place_of_pair(lane + e * WG, i, j);
        addends[e] = addend4(at.x, at.y);
    }
    // naga 30 loses an index or stride of a store that is not a `let` of its own.
    let at = slot / CELL;
    let beside = (slot + SIDE) / CELL;
    let stride = OS / CELL;
    coopStoreT(left, &floats[at], stride);
    coopStoreT(right, &floats[beside], stride);
    workgroupBarrier();
    for (var e = 0u; e < PAIR_EACH; e++) {
        let n = lane + e * WG;
        if PAIR % WG == 0u || n < PAIR {
            let start = n / (SIDE * SIDE / 2u) * SLOT + n / (SIDE / 2u) % SIDE * OS + n % (SIDE / 2u) * 4u;
            var sum = get_floats(start);
            for (var g = 1u; g < KG; g++) {
                sum += get_floats(start + g * GRID * SLOT);
            }
            let at = corner + place_of_pair(n, i, j);
            finish4(at.x, at.y, sum, addends[e]);
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
    // Bands of BAND tiles down, columns within a band from left to right: what runs at the same
    // time shares rows of x and columns of W in the cache.
    let down = (p.rows + BM - 1u) / BM;
    let across = (p.cols + BN - 1u) / BN;
    let band = group / (BAND * across);
    let within = group - band * BAND * across;
    let height = min(BAND, down - band * BAND);
    let row0 = (band * BAND + within % height) * BM;
    let quad0 = within / height * (BN / 4u);

    let sub = subgroup % SUBS;
    let s = sub % GRID;
    let part = sub / GRID * (BK / KG);
    let xa = s / SN * (BM / SM) * XS + part;
    let wa = W_START + part * WS + s % SN * (BN / SN);

    var acc: array<MatC, 16>;
    let steps = taps() * ((depth() + BK - 1u) / BK);
    // Of the step that is fetched: its tap, and where in the tap it begins.
    var tap = 0u;
    var k0 = 0u;
    var starts = starts_of(row0, 0u, lane);
    let fetched = fetch(&starts, 0u, 0u, quad0, lane);
    put(0u, &starts, 0u, lane, fetched);
    workgroupBarrier();
    for (var step = 1u; step < steps; step++) {
        if TAPPED {
            k0 += BK;
            if k0 >= depth() {
                k0 = 0u;
                tap++;
                starts = starts_of(row0, tap, lane);
            }
        } else {
            k0 = step * BK;
        }
        let next = fetch(&starts, tap, k0, quad0, lane);
        let stage = (step - 1u) % STAGES * STAGE;
        multiply_step(&acc, stage + xa, stage + wa);
        if STAGES == 1u {
            workgroupBarrier();
        }
        put(step % STAGES * STAGE, &starts, k0, lane, next);
        workgroupBarrier();
    }
    let last = (steps - 1u) % STAGES * STAGE;
    multiply_step(&acc, last + xa, last + wa);

    let slot = sub * SLOT;
    let corner = vec2<u32>(row0, quad0);
    finish_pair(lane, slot, corner, 0u, 0u, acc[0], acc[1]);
    if RN > 2u { finish_pair(lane, slot, corner, 0u, 2u, acc[2], acc[3]); }
    finish_pair(lane, slot, corner, 1u, 0u, acc[4], acc[5]);
    if RN > 2u { finish_pair(lane, slot, corner, 1u, 2u, acc[6], acc[7]); }
    if RM > 2u {
        finish_pair(lane, slot, corner, 2u, 0u, acc[8], acc[9]);
        if RN > 2u { finish_pair(lane, slot, corner, 2u, 2u, acc[10], acc[11]); }
        finish_pair(lane, slot, corner, 3u, 0u, acc[12], acc[13]);
        if RN > 2u { finish_pair(lane, slot, corner, 3u, 2u, acc[14], acc[15]); }
    }
}
