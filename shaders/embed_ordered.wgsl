// Tokens and instructions of sequences drawn in any order (ops/embed_ordered.rs), one element a lane. An
// instruction is one vector turned by the angles of its position. This launch holds rows first_row.. of
// the table and writes only those; the part that starts the table also writes ids outside it, the
// instructions and the states. Prelude: types W, Y; u32 WG.

struct Params {
    count: u32,
    width: u32,
    first_row: u32,
    part_rows: u32,
    vocabulary: u32,
    rows: u32,        // T, of each row of the result
    sequences: u32,   // B
    length: u32,      // S, of each sequence
    first: u32,       // place of the first row, less twice the step
    spread: u32,      // row from which on there are instructions only
    head_width: u32,  // D, even
    places: u32,      // P
    turns: u32,       // P + N
}

@group(0) @binding(0) var<storage, read> table: array<W>;            // (part_rows, C)
@group(0) @binding(1) var<storage, read> ids: array<u32>;            // (B, S)
@group(0) @binding(2) var<storage, read> step: array<u32>;
@group(0) @binding(3) var<storage, read> instruction: array<f32>;    // (C)
@group(0) @binding(4) var<storage, read_write> rotary: array<f32>;   // (P + N, D): cos and sin of each pair
@group(0) @binding(5) var<storage, read_write> begins: array<u32>;   // the new rows' first place in the cache
@group(0) @binding(6) var<storage, read_write> y: array<Y>;          // (R, T, C)
@group(0) @binding(7) var<uniform> p: Params;

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
    let column = i % p.width;
    let t = i / p.width % p.rows;
    let row = i / (p.width * p.rows);
    let start = 2u * step[0];
    let entered = start + p.first + t;
    let place = entered + (t - min(t, p.spread));
    let turn = min(p.places + (max(place, 1u) - 1u) / 2u, p.turns - 1u) * p.head_width;
    let whole = p.first_row == 0u;
    if whole && row == 0u && column < p.head_width && entered < p.places {
        rotary[entered * p.head_width + column] = rotary[turn + column];
    }
    if whole && i == 0u {
        begins[0] = start;
    }
    if place % 2u == 1u {
        if whole {
            let pair = column / 2u * 2u;
            let a = instruction[pair];
            let b = instruction[pair + 1u];
            let c = rotary[turn + pair % p.head_width];
            let s = rotary[turn + pair % p.head_width + 1u];
            y[i] = Y(select(b * c + a * s, a * c - b * s, column == pair));
        }
        return;
    }
    let id = ids[row % p.sequences * p.length + min(place / 2u, p.length - 1u)];
    if id >= p.first_row && id - p.first_row < p.part_rows {
        y[i] = Y(f32(table[(id - p.first_row) * p.width + column]));
    } else if id >= p.vocabulary && whole {
        y[i] = Y(0.0);
    }
}
