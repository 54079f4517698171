// Rows of a table by the ids of sequences, one element a lane, with a learned position added. This
// launch holds rows first_row.. of the table and writes only those; the part that starts the table also
// writes ids outside it. Prelude: types W, Y; bool POSITIONS (else bound to the step and not read); u32 WG.

struct Params {
    count: u32,
    width: u32,
    first_row: u32,
    part_rows: u32,
    vocabulary: u32,
    tokens: u32,     // T, of each row of the result
    sequences: u32,  // B
    places: u32,     // S, of each sequence
    first: u32,      // added to the step
    positions: u32,  // rows of the position table
}

@group(0) @binding(0) var<storage, read> table: array<W>;      // (part_rows, C)
@group(0) @binding(1) var<storage, read> ids: array<u32>;      // (B, S)
@group(0) @binding(2) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read> learned: array<f32>;  // (P, C)
@group(0) @binding(4) var<storage, read_write> y: array<Y>;    // (R, T, C)
@group(0) @binding(5) var<uniform> p: Params;

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
    let token = i / p.width;
    let place = step[0] + p.first + token % p.tokens;
    let row = token / p.tokens;
    let id = ids[row % p.sequences * p.places + min(place, p.places - 1u)];
    var position = 0.0;
    if POSITIONS {
        position = learned[min(place, p.positions - 1u) * p.width + i % p.width];
    }
    if id >= p.first_row && id - p.first_row < p.part_rows {
        y[i] = Y(f32(table[(id - p.first_row) * p.width + i % p.width]) + position);
    } else if id >= p.vocabulary && p.first_row == 0u {
        y[i] = Y(position);
    }
}
