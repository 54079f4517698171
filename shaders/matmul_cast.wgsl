// Linear layer for software adapters with subgroups of eight: one workgroup is one subgroup and
// makes TM rows (a multiple of eight) x 32 columns, four columns a lane. Each lane reads four k of
// one row of x in every eight, and hands them to all others by subgroupBroadcast: a read that
// differs between lanes costs such drivers tens of cycles, a broadcast one. No workgroup memory and
// no barrier. Prelude adds u32 TM.

const OCTETS: u32 = TM / 8u;

@compute @workgroup_size(8)
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
    let quad = (group / row_blocks) * 8u + lane;
    let at = min(quad, p.stride4 - 1u);

    var place: array<Place, OCTETS>;
    for (var i = 0u; i < OCTETS; i++) {
        place[i] = place_of(row0 + i * 8u + lane);
    }
    var acc: array<vec4<f32>, TM>;
    for (var tap = 0u; tap < taps(); tap++) {
        let first = tap * depth();
        var start: array<u32, OCTETS>;
        for (var i = 0u; i < OCTETS; i++) {
            start[i] = start_of(place[i], tap);
        }
        for (var k = 0u; k < depth(); k += 4u) {
            let w0 = columns_of_w(first, k, at);
            let w1 = columns_of_w(first, k + 1u, at);
            let w2 = columns_of_w(first, k + 2u, at);
            let w3 = columns_of_w(first, k + 3u, at);
            for (var i = 0u; i < OCTETS; i++) {
                let v = four_of_x(start[i], k);
                let r = i * 8u;
                acc[r] = four_steps(acc[r], subgroupBroadcast(v, 0u), w0, w1, w2, w3);
                acc[r + 1u] = four_steps(acc[r + 1u], subgroupBroadcast(v, 1u), w0, w1, w2, w3);
                acc[r + 2u] = four_steps(acc[r + 2u], subgroupBroadcast(v, 2u), w0, w1, w2, w3);
                acc[r + 3u] = four_steps(acc[r + 3u], subgroupBroadcast(v, 3u), w0, w1, w2, w3);
                acc[r + 4u] = four_steps(acc[r + 4u], subgroupBroadcast(v, 4u), w0, w1, w2, w3);
                acc[r + 5u] = four_steps(acc[r + 5u], subgroupBroadcast(v, 5u), w0, w1, w2, w3);
                acc[r + 6u] = four_steps(acc[r + 6u], subgroupBroadcast(v, 6u), w0, w1, w2, w3);
                acc[r + 7u] = four_steps(acc[r + 7u], subgroupBroadcast(v, 7u), w0, w1, w2, w3);
            }
        }
    }
    if quad < p.stride4 {
        // The sums move down to the first place one by one: with a variable index drivers keep all
        // of them in memory, and unrolled, the epilogue would be most of the code.
        let left = min(TM, p.rows - row0);
        for (var done = 0u; done < left; done += 8u) {
            let rows = min(8u, left - done);
            for (var i = 0u; i < rows; i++) {
                finish4(row0 + done + i, quad, acc[0]);
                for (var j = 0u; j < 7u; j++) {
                    acc[j] = acc[j + 1u];
                }
            }
            for (var i = 0u; i + 1u < OCTETS; i++) {
                for (var j = 0u; j < 8u; j++) {
                    acc[i * 8u + j] = acc[i * 8u + 8u + j];
                }
            }
        }
    }
}
