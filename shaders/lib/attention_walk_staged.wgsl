// The rows that a workgroup walks, STEP at a time, which all lanes bring to workgroup memory together: for
// GPUs. The kernel says which rows these are: `walked`, `first_of`, `second_of`.

var<workgroup> firsts: array<vec4<f32>, STEP * QUADS>;   // (STEP, QUADS)
var<workgroup> seconds: array<vec4<f32>, STEP * QUADS>;  // (STEP, QUADS)

// Brings the rows from `begin` on; every lane must call. Rows past the end are the last again.
fn bring(lane: u32, bh: u32, begin: u32) {
    // All have read what was there before.
    workgroupBarrier();
    for (var n = lane; n < STEP * QUADS; n += WG) {
        let row = min(begin + n / QUADS, walked() - 1u);
        firsts[n] = first_of(bh, row, n % QUADS);
        seconds[n] = second_of(bh, row, n % QUADS);
    }
    workgroupBarrier();
}

// Quad i of the j-th row brought.
fn first(bh: u32, begin: u32, j: u32, i: u32) -> vec4<f32> {
    return firsts[j * QUADS + i];
}

fn second(bh: u32, begin: u32, j: u32, i: u32) -> vec4<f32> {
    return seconds[j * QUADS + i];
}
