// How fast cooperative matrices are multiplied: a subgroup keeps two left and four right operands and
// eight sums in registers, and multiplies each with each, ROUNDS times. Nothing is loaded on the way;
// the sums are stored so that no compiler may drop the work.
// Prelude adds alias MatA, MatB, MatC; u32 SIDE, SG (lanes of the largest subgroup).

struct Params { rounds: u32, invocations: u32 }

@group(0) @binding(0) var<storage, read>       x: array<f32>;  // two numbers
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // SIDE x SIDE for each subgroup
@group(0) @binding(2) var<uniform>             p: Params;

const SUBS: u32 = 4u;
const WG: u32 = SUBS * SG;
const AREA: u32 = SIDE * SIDE;

var<workgroup> tiles: array<f16, 6u * AREA>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    for (var i = lane; i < 6u * AREA; i += WG) {
        // Small, and not all the same.
        tiles[i] = f16(x[i & 1u] * 0.01 * f32(i & 7u));
    }
    workgroupBarrier();
    let o0 = 0u;
    let o1 = AREA;
    let o2 = 2u * AREA;
    let o3 = 3u * AREA;
    let o4 = 4u * AREA;
    let o5 = 5u * AREA;
    let side = SIDE;
    let a0 = coopLoadT<MatA>(&tiles[o0], side);
    let a1 = coopLoadT<MatA>(&tiles[o1], side);
    let b0 = coopLoadT<MatB>(&tiles[o2], side);
    let b1 = coopLoadT<MatB>(&tiles[o3], side);
    let b2 = coopLoadT<MatB>(&tiles[o4], side);
    let b3 = coopLoadT<MatB>(&tiles[o5], side);
    var c0 = MatC();
    var c1 = MatC();
    var c2 = MatC();
    var c3 = MatC();
    var c4 = MatC();
    var c5 = MatC();
    var c6 = MatC();
    var c7 = MatC();
    for (var i = 0u; i < p.rounds; i++) {
        c0 = coopMultiplyAdd(a0, b0, c0);
        c1 = coopMultiplyAdd(a0, b1, c1);
        c2 = coopMultiplyAdd(a0, b2, c2);
        c3 = coopMultiplyAdd(a0, b3, c3);
        c4 = coopMultiplyAdd(a1, b0, c4);
        c5 = coopMultiplyAdd(a1, b1, c5);
        c6 = coopMultiplyAdd(a1, b2, c6);
        c7 = coopMultiplyAdd(a1, b3, c7);
    }
    let sum = c0 + c1 + c2 + c3 + c4 + c5 + c6 + c7;
    let at = (wg.x * SUBS + lane / SG) * AREA;
    coopStoreT(sum, &y[at], side);
}
