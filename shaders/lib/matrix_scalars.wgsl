// Workgroup memory of kernels on cooperative matrices, as scalars, for languages that load matrices
// from nothing else (Metal): HALVES elements of f16, from which operands are loaded, and FLOATS of
// f32, to which accumulators are stored. A matrix load or store takes its stride in CELLs.

const CELL: u32 = 1u;

var<workgroup> halves: array<f16, HALVES>;
var<workgroup> floats: array<f32, FLOATS>;

fn put_halves(at: u32, v: vec4<f16>) {
    halves[at] = v.x;
    halves[at + 1u] = v.y;
    halves[at + 2u] = v.z;
    halves[at + 3u] = v.w;
}

fn put_floats(at: u32, v: vec4<f32>) {
    floats[at] = v.x;
    floats[at + 1u] = v.y;
    floats[at + 2u] = v.z;
    floats[at + 3u] = v.w;
}

fn get_floats(at: u32) -> vec4<f32> {
    return vec4<f32>(floats[at], floats[at + 1u], floats[at + 2u], floats[at + 3u]);
}
