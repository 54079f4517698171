// Rows of a table by id, one element a lane. This launch holds rows first_row.. of the table and
// writes only those; the part that starts the table also writes zeros for ids outside it.
// Prelude: types W, Y; u32 WG.

struct Params { count: u32, width: u32, first_row: u32, part_rows: u32, vocabulary: u32 }

@group(0) @binding(0) var<storage, read> table: array<W>;    // (part_rows, width)
@group(0) @binding(1) var<storage, read> ids: array<u32>;    // (count / width)
@group(0) @binding(2) var<storage, read_write> y: array<Y>;  // (count / width, width)
@group(0) @binding(3) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i >= p.count {
        return;
    }
    let id = ids[i / p.width];
    if id >= p.first_row && id - p.first_row < p.part_rows {
        y[i] = Y(table[(id - p.first_row) * p.width + i % p.width]);
    } else if id >= p.vocabulary && p.first_row == 0u {
        y[i] = Y(0.0);
    }
}
