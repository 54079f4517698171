// Rotary position embedding: one lane turns one pair of neighbouring elements; pairs from `turned` on
// are copied. Prelude: types X, Y; bool BACK (by the opposite angle); u32 WG.

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
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i >= p.count {
        return;
    }
    let a = f32(x[2u * i]);
    let b = f32(x[2u * i + 1u]);
    if i >= p.turned {
        y[2u * i] = Y(a);
        y[2u * i + 1u] = Y(b);
        return;
    }
    let row = 2u * i / p.width;
    let place = min(step[0] + row % p.tokens, p.positions - 1u);
    let at = place * p.width + 2u * i % p.width;
    let c = table[at];
    let s = select(table[at + 1u], -table[at + 1u], BACK);
    y[2u * i] = Y(a * c - b * s);
    y[2u * i + 1u] = Y(b * c + a * s);
}
