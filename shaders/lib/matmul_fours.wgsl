// Reads of x in steps of four k, for kernels that take any depth of a tap (any K). Prelude adds
// X (the type of one element) and bool QUADS (XV is four of X: the depth is a multiple of four).

// Four elements of a row of x that begins at element `start`, zero past the end of the tap and where
// the tap lies outside. What is not there is not branched around: element 0 is read and dropped.
fn four_of_x(start: u32, k: u32) -> vec4<f32> {
    let inside = is_inside(start);
    let at = select(0u, start + k, inside);
    if QUADS {
        return select(vec4<f32>(), one_of_x(at / 4u), inside);
    }
    var v = vec4<f32>(one_of_x(at).x, 0.0, 0.0, 0.0);
    if k + 1u < depth() { v.y = one_of_x(at + 1u).x; }
    if k + 2u < depth() { v.z = one_of_x(at + 2u).x; }
    if k + 3u < depth() { v.w = one_of_x(at + 3u).x; }
    return select(vec4<f32>(), v, inside);
}

// Whatever x is an array of; one element is given four times.
fn one_of_x(i: u32) -> vec4<f32> {
    return vec4<f32>(vec4<X>(x[i]));
}

// Four columns of row `k` of a tap of the weight whose first row is `first`; past the tap, any row
// will do, since x is zero there.
fn columns_of_w(first: u32, k: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(weight_at(first + select(min(k, depth() - 1u), k, QUADS), quad));
}

// Four steps of one row of the result: x (4) times w (4, 4 columns) added to `sum`.
fn four_steps(sum: vec4<f32>, v: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    var r = fma(vec4<f32>(v.x), w0, sum);
    r = fma(vec4<f32>(v.y), w1, r);
    r = fma(vec4<f32>(v.z), w2, r);
    return fma(vec4<f32>(v.w), w3, r);
}
