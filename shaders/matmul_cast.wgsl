// Linear layer for software adapters with subgroups of eight: one workgroup is one subgroup and
// makes TM rows (a multiple of eight) x 32·SPAN columns, SPAN quads of columns a lane. A lane reads four
// k of one row of x in every eight, and hands them to all others by subgroupBroadcast: a read that
// differs between lanes costs such drivers tens of cycles, a broadcast one. No workgroup memory and no
// barrier. Prelude adds u32 TM and SPAN.

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
    // Quads of a lane lie eight apart, so that neighbouring lanes read neighbouring words.
    let first_quad = (group / row_blocks) * 8u * SPAN + lane;
    var at: array<u32, SPAN>;
    for (var j = 0u; j < SPAN; j++) {
        at[j] = min(first_quad + j * 8u, p.stride4 - 1u);
    }

    var place: array<Place, OCTETS>;
    for (var i = 0u; i < OCTETS; i++) {
        place[i] = place_of(row0 + i * 8u + lane);
    }
    var acc: array<array<vec4<f32>, 8u * SPAN>, OCTETS>;  // a row's quads side by side
    for (var tap = 0u; tap < taps(); tap++) {
        let first = tap * depth();
        var start: array<u32, OCTETS>;
        for (var i = 0u; i < OCTETS; i++) {
            start[i] = start_of(place[i], tap);
        }
        for (var k = 0u; k < depth(); k += 4u) {
            var w: array<vec4<f32>, 4u * SPAN>;
            for (var j = 0u; j < SPAN; j++) {
                for (var s = 0u; s < 4u; s++) {
                    w[4u * j + s] = columns_of_w(first, k + s, at[j]);
                }
            }
            for (var i = 0u; i < OCTETS; i++) {
                let v = four_of_x(start[i], k);
                for (var j = 0u; j < SPAN; j++) {
                    let w0 = w[4u * j];
                    let w1 = w[4u * j + 1u];
                    let w2 = w[4u * j + 2u];
                    let w3 = w[4u * j + 3u];
                    acc[i][j] = four_steps(acc[i][j], subgroupBroadcast(v, 0u), w0, w1, w2, w3);
                    acc[i][SPAN + j] = four_steps(acc[i][SPAN + j], subgroupBroadcast(v, 1u), w0, w1, w2, w3);
                    acc[i][2u * SPAN + j] = four_steps(acc[i][2u * SPAN + j], subgroupBroadcast(v, 2u), w0, w1, w2, w3);
                    acc[i][3u * SPAN + j] = four_steps(acc[i][3u * SPAN + j], subgroupBroadcast(v, 3u), w0, w1, w2, w3);
                    acc[i][4u * SPAN + j] = four_steps(acc[i][4u * SPAN + j], subgroupBroadcast(v, 4u), w0, w1, w2, w3);
                    acc[i][5u * SPAN + j] = four_steps(acc[i][5u * SPAN + j], subgroupBroadcast(v, 5u), w0, w1, w2, w3);
                    acc[i][6u * SPAN + j] = four_steps(acc[i][6u * SPAN + j], subgroupBroadcast(v, 6u), w0, w1, w2, w3);
                    acc[i][7u * SPAN + j] = four_steps(acc[i][7u * SPAN + j], subgroupBroadcast(v, 7u), w0, w1, w2, w3);
                }
            }
        }
    }
    // The sums move down to the first place one by one: with a variable index drivers keep all of them
    // in memory, and unrolled, the epilogue would be most of the code.
    let left = min(TM, p.rows - row0);
    for (var done = 0u; done < left; done += 8u) {
        let sums = min(8u, left - done) * SPAN;
        for (var i = 0u; i < sums; i++) {
            let quad = first_quad + i % SPAN * 8u;
            if quad < p.stride4 {
                finish4(row0 + done + i / SPAN, quad, acc[0][0]);
            }
            for (var j = 0u; j + 1u < 8u * SPAN; j++) {
                acc[0][j] = acc[0][j + 1u];
            }
        }
        for (var i = 0u; i + 1u < OCTETS; i++) {
            acc[i] = acc[i + 1u];
        }
    }
}
