// Index of the nearest row of a codebook, the first of equals: one workgroup a vector, WG lanes (a
// power of two) stride the codes, and the best of each meet in workgroup memory.
// Prelude: type X; u32 WG.

struct Params { rows: u32, width: u32, codes: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;          // (rows, width)
@group(0) @binding(1) var<storage, read> codes: array<f32>;    // (codes, width)
@group(0) @binding(2) var<storage, read> offsets: array<f32>;  // (codes)
@group(0) @binding(3) var<storage, read_write> y: array<u32>;  // (rows)
@group(0) @binding(4) var<uniform> p: Params;

// The id for a vector that has no nearest code, because a score is a NaN.
const NONE = 0xffffffffu;

var<workgroup> scores: array<f32, WG>;
var<workgroup> ids: array<u32, WG>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wg.y * wgs.x + wg.x;
    if row >= p.rows {
        return;
    }
    var top = -3.0e38;
    var best = 0u;
    var broken = false;
    for (var code = lane; code < p.codes; code += WG) {
        var score = -offsets[code];
        for (var i = 0u; i < p.width; i++) {
            score = fma(f32(x[row * p.width + i]), codes[code * p.width + i], score);
        }
        broken |= is_nan(score);
        if score > top {
            top = score;
            best = code;
        }
    }
    scores[lane] = top;
    ids[lane] = select(best, NONE, broken);
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let other = scores[lane + half];
            let id = ids[lane + half];
            let nearer = other > scores[lane] || (other == scores[lane] && id < ids[lane]);
            if id == NONE || (ids[lane] != NONE && nearer) {
                scores[lane] = other;
                ids[lane] = id;
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        y[row] = ids[0];
    }
}
