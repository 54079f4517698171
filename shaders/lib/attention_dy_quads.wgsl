// Gradient of attention's result where the head width is a multiple of four, as `attention_quads.wgsl`.

fn quad_of_dy(start: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(dy[start / 4u + i]);
}
