// How fast multiply-adds go: one invocation runs QUADS independent chains of four, so that the
// latency of one is hidden behind the others, for `rounds` times eight steps (`rounds` is a multiple
// of four). With LONG, turns of the loop are longer, since some drivers pay for every variable at each,
// and chains are finished one after the other, which leaves the mixing to the machine. Nothing is loaded on
// the way; the result is stored so that no compiler may drop the work.
// Prelude adds alias elem; u32 QUADS (2 to 4), bool FUSED, LONG.

struct Params { rounds: u32, invocations: u32 }

@group(0) @binding(0) var<storage, read>       x: array<f32>;  // factor and offset
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (invocations)
@group(0) @binding(2) var<uniform>             p: Params;

const WG: u32 = 128u;

fn step(v: vec4<elem>, m: vec4<elem>, c: vec4<elem>) -> vec4<elem> {
    if FUSED {
        return fma(v, m, c);
    }
    return v * m + c;
}

fn eight(v: vec4<elem>, m: vec4<elem>, c: vec4<elem>) -> vec4<elem> {
    var r = step(v, m, c);
    r = step(r, m, c);
    r = step(r, m, c);
    r = step(r, m, c);
    r = step(r, m, c);
    r = step(r, m, c);
    r = step(r, m, c);
    return step(r, m, c);
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let m = vec4<elem>(elem(x[0]));
    let c = vec4<elem>(elem(x[1]));
    let start = elem(f32(id.x & 7u) * 0.125);
    var v0 = vec4<elem>(start);
    var v1 = vec4<elem>(start + elem(0.25));
    var v2 = vec4<elem>(start + elem(0.5));
    var v3 = vec4<elem>(start + elem(0.75));
    if LONG {
        for (var i = 0u; i < p.rounds; i += 4u) {
            v0 = eight(eight(eight(eight(v0, m, c), m, c), m, c), m, c);
            v1 = eight(eight(eight(eight(v1, m, c), m, c), m, c), m, c);
            if QUADS > 2u { v2 = eight(eight(eight(eight(v2, m, c), m, c), m, c), m, c); }
            if QUADS > 3u { v3 = eight(eight(eight(eight(v3, m, c), m, c), m, c), m, c); }
        }
    } else {
        for (var i = 0u; i < p.rounds; i++) {
            v0 = step(v0, m, c); v1 = step(v1, m, c); if QUADS > 2u { v2 = step(v2, m, c); } if QUADS > 3u { v3 = step(v3, m, c); }
            v0 = step(v0, m, c); v1 = step(v1, m, c); if QUADS > 2u { v2 = step(v2, m, c); } if QUADS > 3u { v3 = step(v3, m, c); }
            v0 = step(v0, m, c); v1 = step(v1, m, c); if QUADS > 2u { v2 = step(v2, m, c); } if QUADS > 3u { v3 = step(v3, m, c); }
            v0 = step(v0, m, c); v1 = step(v1, m, c); if QUADS > 2u { v2 = step(v2, m, c); } if QUADS > 3u { v3 = step(v3, m, c); }
            v0 = step(v0, m, c); v1 = step(v1, m, c); if QUADS > 2u { v2 = step(v2, m, c); } if QUADS > 3u { v3 = step(v3, m, c); }
            v0 = step(v0, m, c); v1 = step(v1, m, c); if QUADS > 2u { v2 = step(v2, m, c); } if QUADS > 3u { v3 = step(v3, m, c); }
            v0 = step(v0, m, c); v1 = step(v1, m, c); if QUADS > 2u { v2 = step(v2, m, c); } if QUADS > 3u { v3 = step(v3, m, c); }
            v0 = step(v0, m, c); v1 = step(v1, m, c); if QUADS > 2u { v2 = step(v2, m, c); } if QUADS > 3u { v3 = step(v3, m, c); }
        }
    }
    let sum = v0 + v1 + v2 + v3;
    if id.x < p.invocations {
        y[id.x] = f32(sum.x + sum.y + sum.z + sum.w);
    }
}
