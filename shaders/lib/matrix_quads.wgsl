// Workgroup memory of kernels on cooperative matrices, as vec4s: HALVES elements of f16, from which
// operands are loaded, and FLOATS of f32, to which accumulators are stored. Offsets count elements
// and are multiples of four. A matrix load or store takes its stride in CELLs.

const CELL: u32 = 4u;

var<workgroup> halves: array<vec4<f16>, HALVES / 4u>;
var<workgroup> floats: array<vec4<f32>, FLOATS / 4u>;

fn put_halves(at: u32, v: vec4<f16>) {
    halves[at / 4u] = v;
}

fn put_floats(at: u32, v: vec4<f32>) {
    floats[at / 4u] = v;
}

fn get_floats(at: u32) -> vec4<f32> {
    return floats[at / 4u];
}
