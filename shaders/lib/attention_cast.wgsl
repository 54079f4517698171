// Products of rows for software adapters with subgroups of eight, one of which owns ROWS rows (a multiple of
// eight) and walks others 8·GROUPS at a time: a read that differs between lanes costs such drivers tens of
// cycles, a subgroupBroadcast one. The kernel says what a quad of a row is, of which there may be two sorts:
// `quad_of_own`, `quad_of_other`. Prelude: u32 ROWS, GROUPS.

const OCTETS: u32 = ROWS / 8u;
const STEP: u32 = GROUPS * 8u;
const INFINITE: u32 = 0x7f800000u;

// The exponents of four numbers where they lie in them: INFINITE of what is no number, or no finite one.
fn exponents(x: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(x) & vec4<u32>(INFINITE);
}

// Four elements of a dot product.
fn dot4(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// Products of all owned rows and a lane's walked ones, of so many quads: no constant, so that drivers do not
// unroll quads times rows.
fn products(
    second: bool,
    own: array<u32, OCTETS>,
    other: array<u32, GROUPS>,
    quads: u32,
) -> array<array<f32, GROUPS>, ROWS> {
    var e: array<array<f32, GROUPS>, ROWS>;
    for (var quad = 0u; quad < quads; quad++) {
        var x: array<vec4<f32>, GROUPS>;
        for (var c = 0u; c < GROUPS; c++) {
            x[c] = quad_of_other(second, other[c], quad);
        }
        for (var i = 0u; i < OCTETS; i++) {
            let mine = quad_of_own(second, own[i], quad);
            let r0 = subgroupBroadcast(mine, 0u);
            let r1 = subgroupBroadcast(mine, 1u);
            let r2 = subgroupBroadcast(mine, 2u);
            let r3 = subgroupBroadcast(mine, 3u);
            let r4 = subgroupBroadcast(mine, 4u);
            let r5 = subgroupBroadcast(mine, 5u);
            let r6 = subgroupBroadcast(mine, 6u);
            let r7 = subgroupBroadcast(mine, 7u);
            for (var c = 0u; c < GROUPS; c++) {
                e[i * 8u][c] = dot4(e[i * 8u][c], r0, x[c]);
                e[i * 8u + 1u][c] = dot4(e[i * 8u + 1u][c], r1, x[c]);
                e[i * 8u + 2u][c] = dot4(e[i * 8u + 2u][c], r2, x[c]);
                e[i * 8u + 3u][c] = dot4(e[i * 8u + 3u][c], r3, x[c]);
                e[i * 8u + 4u][c] = dot4(e[i * 8u + 4u][c], r4, x[c]);
                e[i * 8u + 5u][c] = dot4(e[i * 8u + 5u][c], r5, x[c]);
                e[i * 8u + 6u][c] = dot4(e[i * 8u + 6u][c], r6, x[c]);
                e[i * 8u + 7u][c] = dot4(e[i * 8u + 7u][c], r7, x[c]);
            }
        }
    }
    return e;
}

// Adds eight rows, each by the factor that its lane holds.
fn eight_rows(sum: vec4<f32>, factor: f32, x: array<vec4<f32>, 8>) -> vec4<f32> {
    var a = fma(vec4<f32>(subgroupBroadcast(factor, 0u)), x[0], sum);
    a = fma(vec4<f32>(subgroupBroadcast(factor, 1u)), x[1], a);
    a = fma(vec4<f32>(subgroupBroadcast(factor, 2u)), x[2], a);
    a = fma(vec4<f32>(subgroupBroadcast(factor, 3u)), x[3], a);
    a = fma(vec4<f32>(subgroupBroadcast(factor, 4u)), x[4], a);
    a = fma(vec4<f32>(subgroupBroadcast(factor, 5u)), x[5], a);
    a = fma(vec4<f32>(subgroupBroadcast(factor, 6u)), x[6], a);
    return fma(vec4<f32>(subgroupBroadcast(factor, 7u)), x[7], a);
}
