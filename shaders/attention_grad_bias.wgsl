// Gradient of attention's bias: one element a lane, WG of them a workgroup. A lane walks the batch, and
// where the bias is by distance, all queries with a key at that distance.
// Prelude beside that of `attention_back_io.wgsl`: u32 WG; bool DISTANCE (the bias is (H, T+S-1)).

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wg: vec3<u32>,
    @builtin(num_workgroups) wgs: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wg.y * wgs.x + wg.x;
    let element = group * WG + lane;
    if group >= p.groups || element >= p.heads * p.bias_head {
        return;
    }
    let h = element / p.bias_head;
    let column = element % p.bias_head;
    // Queries from `start` to before `end`, each with the key `apart` places later, modulo 2^32.
    var start = column / p.keys;
    var end = start + 1u;
    var apart = column % p.keys - start;
    if DISTANCE {
        let last = p.queries - 1u;
        start = last - min(column, last);
        end = min(p.queries, p.keys + last - column);
        apart = column - last;
    }
    let biased = bias[element];
    var sum = 0.0;
    for (var b = 0u; b < p.batch; b++) {
        let bh = b * p.heads + h;
        for (var t = start; t < end; t++) {
            let s = t + apart;
            if s < seen_by(bh, t) {
                var product = vec4<f32>();
                var dp = vec4<f32>();
                for (var i = 0u; i < p.quads; i++) {
                    product = fma(quad_of_q(query_at(bh, t), i), quad_of_k(key_at(bh, s), i), product);
                    dp = fma(quad_of_dy(dy_at(bh, t), i), quad_of_v(key_at(bh, s), i), dp);
                }
                sum += score_gradient(weight_of(sum_of(product), biased, bh, t), sum_of(dp), bh, t);
            }
        }
    }
    result[element] = sum;
}
