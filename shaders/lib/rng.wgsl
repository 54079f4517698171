// Random numbers by hashing a counter (ops/sample.rs: pcg4d, gumbel).

fn pcg4d(counter: vec4<u32>) -> vec4<u32> {
    var v = counter * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v ^= v >> vec4<u32>(16u);
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v;
}

// A number of the standard Gumbel distribution.
fn gumbel(counter: vec4<u32>) -> f32 {
    let u = (f32(pcg4d(counter).x >> 9u) + 0.5) / 8388608.0;
    // -log(1 - u), whose logarithm near u = 0 would lose what decides between likely tokens.
    let e = select(-log(1.0 - u), u + u * u * (0.5 + u / 3.0), u < 0.01);
    return -log(e);
}
