// Linear layer, register-blocked tile: one workgroup makes BM rows x BN columns, walking K in steps
// of BK; one lane makes TM rows x TQ quads of columns. x is read four k at a time (a tap of K is a
// multiple of 4) and turned so that workgroup memory holds four rows in a vec4; the columns of a lane
// lie LX quads apart, so that neighbouring lanes read neighbouring words. Rows of x past the end are
// clamped and not stored; past the end of a tap, x counts as zero.
// Prelude adds alias XV (four of X); u32 BM, BN, BK, TM, TQ.

const LX: u32 = BN / 4u / TQ;      // lanes across the columns
const LY: u32 = BM / TM;           // lanes down the rows
const WG: u32 = LX * LY;
const XS: u32 = BM / 4u + 1u;      // row quads of one k, one of skew
const WS: u32 = BN / 4u;
const TM4: u32 = TM / 4u;

var<workgroup> xs: array<vec4<f32>, BK * XS>;  // (BK, XS)
var<workgroup> ws: array<vec4<f32>, BK * WS>;  // (BK, WS)

fn four_of_x(start: u32, k: u32) -> vec4<f32> {
    if k >= depth() || !is_inside(start) {
        return vec4<f32>();
    }
    return vec4<f32>(x[(start + k) / 4u]);
}

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
    let tiles = (p.cols + BN - 1u) / BN;
    let row0 = (group / tiles) * BM;
    let quad0 = (group % tiles) * WS;
    let tx = lane % LX;
    let ty = lane / LX;

    // Four rows of x that this lane brings, at four k of every step; there are at least as many lanes
    // as such squares.
    let k4 = lane % (BK / 4u);
    let r4 = lane / (BK / 4u);
    let row = row0 + r4 * 4u;
    let place0 = place_of(row);
    let place1 = place_of(row + 1u);
    let place2 = place_of(row + 2u);
    let place3 = place_of(row + 3u);

    var acc: array<vec4<f32>, TM * TQ>;
    for (var i = 0u; i < TM * TQ; i++) {
        acc[i] = vec4<f32>();
    }
    for (var tap = 0u; tap < taps(); tap++) {
        let start0 = start_of(place0, tap);
        let start1 = start_of(place1, tap);
        let start2 = start_of(place2, tap);
        let start3 = start_of(place3, tap);
        for (var k0 = 0u; k0 < depth(); k0 += BK) {
            if r4 < BM / 4u {
                let k = k0 + k4 * 4u;
                let a = transpose(mat4x4<f32>(
                    four_of_x(start0, k), four_of_x(start1, k), four_of_x(start2, k), four_of_x(start3, k),
                ));
                xs[(k4 * 4u) * XS + r4] = a[0];
                xs[(k4 * 4u + 1u) * XS + r4] = a[1];
                xs[(k4 * 4u + 2u) * XS + r4] = a[2];
                xs[(k4 * 4u + 3u) * XS + r4] = a[3];
            }
            for (var n = lane; n < BK * WS; n += WG) {
                let k = tap * depth() + min(k0 + n / WS, depth() - 1u);
                let quad = min(quad0 + n % WS, p.stride4 - 1u);
                ws[n] = vec4<f32>(weight_at(k, quad));
            }
            workgroupBarrier();
            for (var k = 0u; k < BK; k++) {
                var b: array<vec4<f32>, TQ>;
                for (var j = 0u; j < TQ; j++) {
                    b[j] = ws[k * WS + tx + j * LX];
                }
                for (var i = 0u; i < TM4; i++) {
                    let a = xs[k * XS + ty * TM4 + i];
                    for (var j = 0u; j < TQ; j++) {
                        let at = i * 4u * TQ + j;
                        acc[at] = fma(vec4<f32>(a.x), b[j], acc[at]);
                        acc[at + TQ] = fma(vec4<f32>(a.y), b[j], acc[at + TQ]);
                        acc[at + 2u * TQ] = fma(vec4<f32>(a.z), b[j], acc[at + 2u * TQ]);
                        acc[at + 3u * TQ] = fma(vec4<f32>(a.w), b[j], acc[at + 3u * TQ]);
                    }
                }
            }
            workgroupBarrier();
        }
    }
    for (var i = 0u; i < TM; i++) {
        for (var j = 0u; j < TQ; j++) {
            finish4(row0 + ty * TM + i, quad0 + tx + j * LX, acc[i * TQ + j]);
        }
    }
}
