// Attention operands of any head width: elements are read one by one.

// Four elements of a head from `start`, zero past D.
fn quad_of_q(start: u32, i: u32) -> vec4<f32> {
    let c = i * 4u;
    var r = vec4<f32>(f32(q[start + c]), 0.0, 0.0, 0.0);
    if c + 1u < D { r.y = f32(q[start + c + 1u]); }
    if c + 2u < D { r.z = f32(q[start + c + 2u]); }
    if c + 3u < D { r.w = f32(q[start + c + 3u]); }
    return r;
}

fn quad_of_k(start: u32, i: u32) -> vec4<f32> {
    let c = i * 4u;
    var r = vec4<f32>(f32(k[start + c]), 0.0, 0.0, 0.0);
    if c + 1u < D { r.y = f32(k[start + c + 1u]); }
    if c + 2u < D { r.z = f32(k[start + c + 2u]); }
    if c + 3u < D { r.w = f32(k[start + c + 3u]); }
    return r;
}

fn quad_of_v(start: u32, i: u32) -> vec4<f32> {
    let c = i * 4u;
    var r = vec4<f32>(f32(v[start + c]), 0.0, 0.0, 0.0);
    if c + 1u < D { r.y = f32(v[start + c + 1u]); }
    if c + 2u < D { r.z = f32(v[start + c + 2u]); }
    if c + 3u < D { r.w = f32(v[start + c + 3u]); }
    return r;
}
