// How fast memory is read and written: each invocation copies `each` vec4s, a workgroup's
// neighbours side by side.

struct Params { quads: u32, each: u32 }

@group(0) @binding(0) var<storage, read>       x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform>             p: Params;

const WG: u32 = 128u;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wg: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let start = wg.x * WG * p.each + lane;
    for (var i = 0u; i < p.each; i++) {
        let at = start + i * WG;
        if at < p.quads {
            y[at] = x[at];
        }
    }
}
