// Rotary position embedding: one lane turns one pair of elements; pairs from `turned` on are copied.
// Prelude: types X, Y; bool BACK (by the opposite angle), HALVES (a pair is an element of each
// half of a head, else two neighbours), PLACED (else a table is bound as the step and not read); u32 WG.

struct Params { count: u32, turned: u32, tokens: u32, width: u32, positions: u32 }

@group(0) @binding(0) var<storage, read> x: array<X>;         // (B, H, T, D)
@group(0) @binding(1) var<storage, read> table: array<f32>;   // (P, D): cos and sin of each pair
@group(0) @binding(2) var<storage, read> step: array<u32>;    // the first token's place
@group(0) @binding(3) var<storage, read_write> y: array<Y>;   // (B, H, T, D)
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let n = (wg.y * wgs.x + wg.x) * WG + lane;
    if n >= p.count {
        return;
    }
    var i = 2u * n;
    var j = i + 1u;
    let row = i / p.width;
    let column = i % p.width;
    if HALVES {
        i = row * p.width + column / 2u;
        j = i + p.width / 2u;
    }
    let a = f32(x[i]);
    let b = f32(x[j]);
    if n >= p.turned {
        y[i] = Y(a);
        y[j] = Y(b);
        return;
    }
    var place = row % p.tokens;
    if PLACED {
        place += step[0];
    }
    let at = min(place, p.positions - 1u) * p.width + column;
    let c = table[at];
    let s = select(table[at + 1u], -table[at + 1u], BACK);
    y[i] = Y(a * c - b * s);
    y[j] = Y(b * c + a * s);
}
