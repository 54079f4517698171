// Linear layer for few rows: one workgroup makes one row x 64 columns; 16 lanes side by side take
// four columns each, and 16 such lines of lanes share K and add up in workgroup memory.

var<workgroup> sums: array<vec4<f32>, 256>;  // (16 slices of K, 16 quads)

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wg.y * wgs.x + wg.x;
    if group >= p.groups {
        return;
    }
    let blocks = (p.stride4 + 15u) / 16u;
    let row = group / blocks;
    let quad = (group % blocks) * 16u + lane % 16u;
    let at = min(quad, p.stride4 - 1u);

    var acc = vec4<f32>();
    for (var k = lane / 16u; k < p.inner; k += 16u) {
        acc = fma(vec4<f32>(f32(x[row * p.inner + k])), vec4<f32>(weight_at(k, at)), acc);
    }
    sums[lane] = acc;
    workgroupBarrier();
    for (var half = 128u; half >= 16u; half /= 2u) {
        if lane < half {
            sums[lane] += sums[lane + half];
        }
        workgroupBarrier();
    }
    if lane < 16u && quad < p.stride4 {
        finish4(row, quad, sums[lane]);
    }
}
