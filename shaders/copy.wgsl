// Strided copy of a four-dimensional block, one element a lane. Prelude: types X, Y; u32 WG.

struct Params {
    count: u32,
    n1: u32,
    n2: u32,
    n3: u32,
    src_start: u32,
    src0: u32,
    src1: u32,
    src2: u32,
    src3: u32,
    dst_start: u32,
    dst0: u32,
    dst1: u32,
    dst2: u32,
    dst3: u32,
}

@group(0) @binding(0) var<storage, read> x: array<X>;
@group(0) @binding(1) var<storage, read_write> y: array<Y>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (wg.y * wgs.x + wg.x) * WG + lane;
    if i >= p.count {
        return;
    }
    let i3 = i % p.n3;
    let i2 = i / p.n3 % p.n2;
    let i1 = i / (p.n3 * p.n2) % p.n1;
    let i0 = i / (p.n3 * p.n2 * p.n1);
    let src = p.src_start + i0 * p.src0 + i1 * p.src1 + i2 * p.src2 + i3 * p.src3;
    let dst = p.dst_start + i0 * p.dst0 + i1 * p.dst1 + i2 * p.dst2 + i3 * p.dst3;
    y[dst] = Y(x[src]);
}
