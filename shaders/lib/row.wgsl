// Reductions over one workgroup of WG lanes (a power of two). Every lane gets the result; every
// lane must call.

var<workgroup> row_scratch: array<f32, WG>;

fn row_sum(lane: u32, v: f32) -> f32 {
    row_scratch[lane] = v;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            row_scratch[lane] += row_scratch[lane + half];
        }
        workgroupBarrier();
    }
    let total = row_scratch[0];
    workgroupBarrier();
    return total;
}

fn row_max(lane: u32, v: f32) -> f32 {
    row_scratch[lane] = v;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            row_scratch[lane] = max(row_scratch[lane], row_scratch[lane + half]);
        }
        workgroupBarrier();
    }
    let top = row_scratch[0];
    workgroupBarrier();
    return top;
}
