// The rows that a workgroup walks, STEP at a time, read where they lie, the same for all lanes: no workgroup
// memory and no barrier, for software adapters. The kernel says which rows these are: `walked`, `first_of`,
// `second_of`.

fn bring(lane: u32, bh: u32, begin: u32) {}

// Quad i of the j-th row from `begin` on; rows past the end are the last again.
fn first(bh: u32, begin: u32, j: u32, i: u32) -> vec4<f32> {
    return first_of(bh, min(begin + j, walked() - 1u), i);
}

fn second(bh: u32, begin: u32, j: u32, i: u32) -> vec4<f32> {
    return second_of(bh, min(begin + j, walked() - 1u), i);
}
