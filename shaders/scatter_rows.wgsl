// Rows added up by id: one workgroup makes one row of the table, zeros for that of padding. Its lanes look at WG ids at a time; where
// some are the row's, all lanes add that row of dy, each to its own columns, in the order of the ids.
// Prelude: type DY; u32 WG.

struct Params { rows: u32, width: u32, count: u32, tokens: u32, padding: u32 }

@group(0) @binding(0) var<storage, read> dy: array<DY>;        // (count, width)
@group(0) @binding(1) var<storage, read> ids: array<u32>;      // (count)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (rows, width)
@group(0) @binding(3) var<uniform> p: Params;

const WORDS: u32 = (WG + 31u) / 32u;

// A bit for each id that is the row's.
var<workgroup> found: array<atomic<u32>, WORDS>;

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
    for (var c = lane; c < p.width; c += WG) {
        y[row * p.width + c] = 0.0;
    }
    let count = select(p.count, 0u, row == p.padding);
    for (var first = 0u; first < count; first += WG) {
        if lane < WORDS {
            atomicStore(&found[lane], 0u);
        }
        workgroupBarrier();
        if first + lane < count && ids[first + lane] == row {
            atomicOr(&found[lane / 32u], 1u << (lane % 32u));
        }
        workgroupBarrier();
        for (var word = 0u; word < WORDS; word++) {
            var bits = atomicLoad(&found[word]);
            while bits != 0u {
                let i = first + word * 32u + firstTrailingBit(bits);
                bits &= bits - 1u;
                for (var c = lane; c < p.width; c += WG) {
                    y[row * p.width + c] += f32(dy[i * p.width + c]);
                }
            }
        }
        workgroupBarrier();
    }
}
