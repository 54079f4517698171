// Linear layer, shared-memory tile: one workgroup of 16x16 lanes makes 64 rows x 64 columns,
// 4x4 a lane, walking K in steps of 16. Rows of x past the end are clamped and not stored;
// past the end of a tap of K, x counts as zero.

const TILE: u32 = 64u;
const STEP: u32 = 16u;

var<workgroup> xs: array<vec4<f32>, 272>;  // (STEP, 17): four rows a vec4, one vec4 of skew
var<workgroup> ws: array<vec4<f32>, 256>;  // (STEP, 16): four columns a vec4

fn one_of_x(start: u32, k: u32) -> f32 {
    if k >= depth() || !is_inside(start) {
        return 0.0;
    }
    return f32(x[start + k]);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wg.y * wgs.x + wg.x;
    if group >= p.groups {
        return;
    }
    let tiles = (p.cols + TILE - 1u) / TILE;
    let row0 = (group / tiles) * TILE;
    let quad0 = (group % tiles) * (TILE / 4u);
    let tx = lane % 16u;
    let ty = lane / 16u;

    // Loading: lane (ty, tx) brings rows 4·ty.. of x at k = tx, and column quad tx of W at k = ty.
    let place0 = place_of(row0 + ty * 4u);
    let place1 = place_of(row0 + ty * 4u + 1u);
    let place2 = place_of(row0 + ty * 4u + 2u);
    let place3 = place_of(row0 + ty * 4u + 3u);
    let quad = min(quad0 + tx, p.stride4 - 1u);

    var acc0 = vec4<f32>();
    var acc1 = vec4<f32>();
    var acc2 = vec4<f32>();
    var acc3 = vec4<f32>();
    for (var tap = 0u; tap < taps(); tap++) {
        let r0 = start_of(place0, tap);
        let r1 = start_of(place1, tap);
        let r2 = start_of(place2, tap);
        let r3 = start_of(place3, tap);
        for (var k0 = 0u; k0 < depth(); k0 += STEP) {
            let kx = k0 + tx;
            let kw = tap * depth() + min(k0 + ty, depth() - 1u);
            xs[tx * 17u + ty] = vec4<f32>(one_of_x(r0, kx), one_of_x(r1, kx), one_of_x(r2, kx), one_of_x(r3, kx));
            ws[ty * 16u + tx] = vec4<f32>(weight_at(kw, quad));
            workgroupBarrier();
            for (var k = 0u; k < STEP; k++) {
                let a = xs[k * 17u + ty];
                let b = ws[k * 16u + tx];
                acc0 = fma(vec4<f32>(a.x), b, acc0);
                acc1 = fma(vec4<f32>(a.y), b, acc1);
                acc2 = fma(vec4<f32>(a.z), b, acc2);
                acc3 = fma(vec4<f32>(a.w), b, acc3);
            }
            workgroupBarrier();
        }
    }
    let row = row0 + ty * 4u;
    finish4(row, quad0 + tx, acc0);
    finish4(row + 1u, quad0 + tx, acc1);
    finish4(row + 2u, quad0 + tx, acc2);
    finish4(row + 3u, quad0 + tx, acc3);
}
