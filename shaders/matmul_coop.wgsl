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
// Past the end of a tap of K, x counts as zero and rows of W repeat; past the last row and column, rows
// and columns repeat and are not stored. Where there is more than one tap, a lane keeps where the rows
// it fetches begin, and finds out anew for each tap. Results leave through workgroup memory, two matrices a subgroup at a
// time: only there can lanes see single elements.
//
// Matrix operations need uniform control flow, so nothing here branches on the subgroup. Indices
// into arrays of matrices are constants, so that matrices stay in registers whatever the driver
// unrolls. Should subgroups turn out smaller than SG, several make the same matrices.
// Prelude adds alias XV (four of X), MatA, MatB, MatC; u32 SIDE, SG (lanes of the largest subgroup),
// BM, BN, BK, SM, SN, KG, STAGES.

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
const BAND: u32 = 8u;                 // tiles of rows that neighbouring workgroups share columns over

// Fours in registers.
struct Fetched {
    a: vec4<f16>,
    b: vec4<f16>,
    c: vec4<f16>,
    d: vec4<f16>,
}

// Where the rows that a lane fetches begin in a tap, one for each four it fetches in a step.
fn starts_of(row0: u32, tap: u32, lane: u32) -> array<u32, X_EACH> {
    var starts: array<u32, X_EACH>;
    if TAPPED {
        for (var j = 0u; j < X_EACH; j++) {
            starts[j] = start_of(place_of(row0 + (lane + j * WG) / (BK / 4u)), tap);
        }
    }
    return starts;
}

// Four `j` of those that a lane fetches in a step.
fn x_quad(starts: ptr<function, array<u32, X_EACH>>, row0: u32, k0: u32, lane: u32, j: u32) -> vec4<f16> {
    let n = lane + j * WG;
    let k = k0 + n % (BK / 4u) * 4u;
    if k >= depth() {
        return vec4<f16>();
    }
    if TAPPED {
        let start = (*starts)[j];
        if !is_inside(start) {
            return vec4<f16>();
        }
        return vec4<f16>(x[(start + k) / 4u]);
    }
    return vec4<f16>(x[(start_of(place_of(row0 + n / (BK / 4u)), 0u) + k) / 4u]);
}

fn w_quad(quad0: u32, first: u32, k0: u32, n: u32) -> vec4<f16> {
    let k = first + min(k0 + n / (BN / 4u), depth() - 1u);
    let quad = min(quad0 + n % (BN / 4u), p.stride4 - 1u);
    return vec4<f16>(weight_at(k, quad));
}

fn fetch_x(starts: ptr<function, array<u32, X_EACH>>, row0: u32, k0: u32, lane: u32, j: u32) -> Fetched {
    var f = Fetched();
    f.a = x_quad(starts, row0, k0, lane, j);
    if X_EACH > 1u { f.b = x_quad(starts, row0, k0, lane, min(j + 1u, X_EACH - 1u)); }
    if X_EACH > 2u { f.c = x_quad(starts, row0, k0, lane, min(j + 2u, X_EACH - 1u)); }
    if X_EACH > 3u { f.d = x_quad(starts, row0, k0, lane, min(j + 3u, X_EACH - 1u)); }
    return f;
}

fn fetch_w(quad0: u32, first: u32, k0: u32, n: u32) -> Fetched {
    var f = Fetched();
    f.a = w_quad(quad0, first, k0, n);
    if W_EACH > 1u { f.b = w_quad(quad0, first, k0, n + WG); }
    if W_EACH > 2u { f.c = w_quad(quad0, first, k0, n + 2u * WG); }
    if W_EACH > 3u { f.d = w_quad(quad0, first, k0, n + 3u * WG); }
    return f;
}

fn put_x_quad(stage: u32, n: u32, v: vec4<f16>) {
    if X_QUADS % WG == 0u || n < X_QUADS {
        put_halves(stage + n / (BK / 4u) * XS + n % (BK / 4u) * 4u, v);
    }
}

fn put_w_quad(stage: u32, n: u32, v: vec4<f16>) {
    if W_QUADS % WG == 0u || n < W_QUADS {
        put_halves(stage + W_START + n / (BN / 4u) * WS + n % (BN / 4u) * 4u, v);
    }
}

fn put_x(stage: u32, n: u32, f: Fetched) {
    put_x_quad(stage, n, f.a);
    if X_EACH > 1u { put_x_quad(stage, n + WG, f.b); }
    if X_EACH > 2u { put_x_quad(stage, n + 2u * WG, f.c); }
    if X_EACH > 3u { put_x_quad(stage, n + 3u * WG, f.d); }
}

fn put_w(stage: u32, n: u32, f: Fetched) {
    put_w_quad(stage, n, f.a);
    if W_EACH > 1u { put_w_quad(stage, n + WG, f.b); }
    if W_EACH > 2u { put_w_quad(stage, n + 2u * WG, f.c); }
    if W_EACH > 3u { put_w_quad(stage, n + 3u * WG, f.d); }
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

// Finishes matrices (i, j) and (i, j + 1) of every subgroup.
fn finish_pair(lane: u32, slot: u32, row0: u32, quad0: u32, i: u32, j: u32, left: MatC, right: MatC) {
    // naga 30 loses an index or stride of a store that is not a `let` of its own.
    let at = slot / CELL;
    let beside = (slot + SIDE) / CELL;
    let stride = OS / CELL;
    coopStoreT(left, &floats[at], stride);
    coopStoreT(right, &floats[beside], stride);
    workgroupBarrier();
    for (var n = lane; n < GRID * SIDE * SIDE / 2u; n += WG) {
        let q = n % (SIDE / 2u);
        let r = n / (SIDE / 2u) % SIDE;
        let s = n / (SIDE * SIDE / 2u);
        let start = s * SLOT + r * OS + q * 4u;
        var sum = get_floats(start);
        for (var g = 1u; g < KG; g++) {
            sum += get_floats(start + g * GRID * SLOT);
        }
        let row = row0 + s / SN * (BM / SM) + i * SIDE + r;
        let quad = quad0 + (s % SN * (BN / SN) + j * SIDE) / 4u + q;
        finish4(row, quad, sum);
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
    let tap_steps = (depth() + BK - 1u) / BK;
    let steps = taps() * tap_steps;
    // Of the step that is fetched next: its tap, and where in the tap it begins.
    var tap = 0u;
    var k0 = 0u;
    var starts = starts_of(row0, 0u, lane);
    var x0 = fetch_x(&starts, row0, 0u, lane, 0u);
    var x1: Fetched;
    var x2: Fetched;
    var x3: Fetched;
    if X_EACH > 4u { x1 = fetch_x(&starts, row0, 0u, lane, 4u); }
    if X_EACH > 8u {
        x2 = fetch_x(&starts, row0, 0u, lane, 8u);
        x3 = fetch_x(&starts, row0, 0u, lane, 12u);
    }
    var w0 = fetch_w(quad0, 0u, 0u, lane);
    var w1: Fetched;
    var w2: Fetched;
    var w3: Fetched;
    if W_EACH > 4u { w1 = fetch_w(quad0, 0u, 0u, lane + 4u * WG); }
    if W_EACH > 8u {
        w2 = fetch_w(quad0, 0u, 0u, lane + 8u * WG);
        w3 = fetch_w(quad0, 0u, 0u, lane + 12u * WG);
    }
    for (var step = 0u; step < steps; step++) {
        let stage = step % STAGES * STAGE;
        put_x(stage, lane, x0);
        if X_EACH > 4u { put_x(stage, lane + 4u * WG, x1); }
        if X_EACH > 8u { put_x(stage, lane + 8u * WG, x2); put_x(stage, lane + 12u * WG, x3); }
        put_w(stage, lane, w0);
        if W_EACH > 4u { put_w(stage, lane + 4u * WG, w1); }
        if W_EACH > 8u { put_w(stage, lane + 8u * WG, w2); put_w(stage, lane + 12u * WG, w3); }
        workgroupBarrier();
        // Fetched while the matrices below multiply.
        if step + 1u < steps {
            k0 += BK;
            if TAPPED {
                if k0 >= depth() {
                    k0 = 0u;
                    tap++;
                    starts = starts_of(row0, tap, lane);
                }
            }
            let first = tap * depth();
            x0 = fetch_x(&starts, row0, k0, lane, 0u);
            if X_EACH > 4u { x1 = fetch_x(&starts, row0, k0, lane, 4u); }
            if X_EACH > 8u {
                x2 = fetch_x(&starts, row0, k0, lane, 8u);
                x3 = fetch_x(&starts, row0, k0, lane, 12u);
            }
            w0 = fetch_w(quad0, first, k0, lane);
            if W_EACH > 4u { w1 = fetch_w(quad0, first, k0, lane + 4u * WG); }
            if W_EACH > 8u {
                w2 = fetch_w(quad0, first, k0, lane + 8u * WG);
                w3 = fetch_w(quad0, first, k0, lane + 12u * WG);
            }
        }
        multiply(&acc, stage + xa, stage + wa);
        if KSTEPS > 1u { multiply(&acc, stage + xa + SIDE, stage + wa + SIDE * WS); }
        if KSTEPS > 2u {
            multiply(&acc, stage + xa + 2u * SIDE, stage + wa + 2u * SIDE * WS);
            multiply(&acc, stage + xa + 3u * SIDE, stage + wa + 3u * SIDE * WS);
        }
        if STAGES == 1u {
            workgroupBarrier();
        }
    }

    let slot = sub * SLOT;
    finish_pair(lane, slot, row0, quad0, 0u, 0u, acc[0], acc[1]);
    if RN > 2u { finish_pair(lane, slot, row0, quad0, 0u, 2u, acc[2], acc[3]); }
    finish_pair(lane, slot, row0, quad0, 1u, 0u, acc[4], acc[5]);
    if RN > 2u { finish_pair(lane, slot, row0, quad0, 1u, 2u, acc[6], acc[7]); }
    if RM > 2u {
        finish_pair(lane, slot, row0, quad0, 2u, 0u, acc[8], acc[9]);
        if RN > 2u { finish_pair(lane, slot, row0, quad0, 2u, 2u, acc[10], acc[11]); }
        finish_pair(lane, slot, row0, quad0, 3u, 0u, acc[12], acc[13]);
        if RN > 2u { finish_pair(lane, slot, row0, quad0, 3u, 2u, acc[14], acc[15]); }
    }
}
