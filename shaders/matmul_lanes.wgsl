// Linear layer for software adapters: one lane makes TM rows x 4 columns, the rows are the same
// for the whole workgroup (so x is read as scalars), no workgroup memory and no barrier.
// Such drivers blend every variable that a loop changes under a mask once per turn, so a turn
// takes four k. Prelude adds u32 TM (rows a lane) and WG (lanes).

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

    var place: array<Place, TM>;
    var acc: array<vec4<f32>, TM>;
    for (var i = 0u; i < TM; i++) {
        place[i] = place_of(row0 + i);
        acc[i] = vec4<f32>();
    }
    for (var tap = 0u; tap < taps(); tap++) {
        let first = tap * depth();
        var start: array<u32, TM>;
        for (var i = 0u; i < TM; i++) {
            start[i] = start_of(place[i], tap);
        }
        for (var k = 0u; k < depth(); k += 4u) {
            let w0 = columns_of_w(first, k, at);
            let w1 = columns_of_w(first, k + 1u, at);
            let w2 = columns_of_w(first, k + 2u, at);
            let w3 = columns_of_w(first, k + 3u, at);
            for (var i = 0u; i < TM; i++) {
                acc[i] = four_steps(acc[i], four_of_x(start[i], k), w0, w1, w2, w3);
            }
        }
    }
    if quad < p.stride4 {
        // The sums move down to the first place one by one: with a variable index drivers keep all
        // of them in memory, and unrolled, the epilogue would be most of the code.
        let left = min(TM, p.rows - row0);
        for (var i = 0u; i < left; i++) {
            finish4(row0 + i, quad, acc[0]);
            for (var j = 0u; j + 1u < TM; j++) {
                acc[j] = acc[j + 1u];
            }
        }
    }
}
