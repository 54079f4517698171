// Attention operands whose head width is a multiple of four: four elements are read at a time.

// Elements 4·i.. of the head that begins at element `start`.
fn quad_of_q(start: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(q[start / 4u + i]);
}

fn quad_of_k(start: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(k[start / 4u + i]);
}

fn quad_of_v(start: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(v[start / 4u + i]);
}
