// Gradient of attention's result of any head width, as `attention_scalars.wgsl`.

fn quad_of_dy(start: u32, i: u32) -> vec4<f32> {
    let c = i * 4u;
    var r = vec4<f32>(f32(dy[start + c]), 0.0, 0.0, 0.0);
    if c + 1u < D { r.y = f32(dy[start + c + 1u]); }
    if c + 2u < D { r.z = f32(dy[start + c + 2u]); }
    if c + 3u < D { r.w = f32(dy[start + c + 3u]); }
    return r;
}
