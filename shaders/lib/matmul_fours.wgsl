// Reads of x in steps of four k, for kernels that take any K. Prelude adds X (the type of one
// element) and bool QUADS (XV is four of X: K is a multiple of four).

// Four elements of a row of x that begins at element `start`, zero past K.
fn four_of_x(start: u32, k: u32) -> vec4<f32> {
    let at = start + k;
    if QUADS {
        return one_of_x(at / 4u);
    }
    var v = vec4<f32>(one_of_x(at).x, 0.0, 0.0, 0.0);
    if k + 1u < p.inner { v.y = one_of_x(at + 1u).x; }
    if k + 2u < p.inner { v.z = one_of_x(at + 2u).x; }
    if k + 3u < p.inner { v.w = one_of_x(at + 3u).x; }
    return v;
}

// Whatever x is an array of; one element is given four times.
fn one_of_x(i: u32) -> vec4<f32> {
    return vec4<f32>(vec4<X>(x[i]));
}

// Four columns of row `k` of the weight; past K, any row will do, since x is zero there.
fn columns_of_w(k: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(weight_at(select(min(k, p.inner - 1u), k, QUADS), quad));
}

// Four steps of one row of the result: x (4) times w (4, 4 columns) added to `sum`.
fn four_steps(sum: vec4<f32>, v: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    var r = fma(vec4<f32>(v.x), w0, sum);
    r = fma(vec4<f32>(v.y), w1, r);
    r = fma(vec4<f32>(v.z), w2, r);
    return fma(vec4<f32>(v.w), w3, r);
}
