// Linear layer for software adapters: one lane makes TM rows x 4 columns, the rows are the same
// for the whole workgroup (so x is read as scalars), no workgroup memory and no barrier.
// Prelude adds u32 TM (rows a lane) and WG (lanes).

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
    // Neighbouring groups share columns, so that the slab of W they read stays in cache.
    let row_blocks = (p.rows + TM - 1u) / TM;
    let row0 = (group % row_blocks) * TM;
    let quad = (group / row_blocks) * WG + lane;
    let at = min(quad, p.stride4 - 1u);

    var start: array<u32, TM>;
    var acc: array<vec4<f32>, TM>;
    for (var i = 0u; i < TM; i++) {
        start[i] = min(row0 + i, p.rows - 1u) * p.inner;
        acc[i] = vec4<f32>();
    }
    for (var k = 0u; k < p.inner; k++) {
        let b = vec4<f32>(weight[k * p.stride4 + at]);
        for (var i = 0u; i < TM; i++) {
            acc[i] = fma(vec4<f32>(f32(x[start[i] + k])), b, acc[i]);
        }
    }
    if quad < p.stride4 {
        for (var i = 0u; i < TM; i++) {
            finish4(row0 + i, quad, acc[i]);
        }
    }
}
