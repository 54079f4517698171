// Where the weight of a matmul lies. Prelude: bool SLABS: columns come in slabs of 32, each with all
// of K, as software adapters like it (rows of many columns begin at the same place of a page, and so
// would share a few lines of the cache); else one row of all columns after the other.

// Four columns of row k of the weight.
fn weight_at(k: u32, quad: u32) -> vec4<W> {
    if SLABS {
        return weight[(quad / 8u * p.inner + k) * 8u + quad % 8u];
    }
    return weight[k * p.stride4 + quad];
}
