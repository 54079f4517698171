// A matrix in another order: one workgroup makes a square of 32 x 32 elements of the result, which has
// `inner` rows k of `stride` columns n, zeros past `depth` and `cols`. The source is (cols, depth), which
// turns it, or (depth, cols) if TURNED. Prelude: types X, Y; bool TURNED, SLABS (columns come in slabs of
// 32, each with all rows, see lib/matmul_weight.wgsl); u32 WG.

struct Params { inner: u32, depth: u32, stride: u32, cols: u32, across: u32, groups: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read_write> y: array<Y>;
@group(0) @binding(2) var<uniform> p: Params;

const SIDE: u32 = 32u;
const AREA: u32 = SIDE * SIDE;

// Rows are a word longer, so that neither rows nor columns fall on one bank.
var<workgroup> square: array<f32, SIDE * (SIDE + 1u)>;

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
    let k0 = group / p.across * SIDE;
    let n0 = group % p.across * SIDE;
    for (var i = lane; i < AREA; i += WG) {
        // Neighbouring lanes read neighbouring elements of the source.
        let k = select(i % SIDE, i / SIDE, TURNED);
        let n = select(i / SIDE, i % SIDE, TURNED);
        var v = 0.0;
        if k0 + k < p.depth && n0 + n < p.cols {
            v = f32(x[select((n0 + n) * p.depth + k0 + k, (k0 + k) * p.cols + n0 + n, TURNED)]);
        }
        square[k * (SIDE + 1u) + n] = v;
    }
    workgroupBarrier();
    for (var i = lane; i < AREA; i += WG) {
        let k = i / SIDE;
        let n = i % SIDE;
        if k0 + k < p.inner && n0 + n < p.stride {
            let at = select((k0 + k) * p.stride + n0 + n, (n0 / SIDE * p.inner + k0 + k) * SIDE + n, SLABS);
            y[at] = Y(square[k * (SIDE + 1u) + n]);
        }
    }
}
