//! T5's biases by distance: a small table, one row a bucket of distances, spread to one column
//! each distance. Near distances have buckets of their own, far ones share them logarithmically (Raffel et
//! al. 2020, section 2.1; the rounding is that of the original's f32 arithmetic).

/// How distances fall into buckets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets {
    /// Rows of the table.
    pub(crate) count: usize,
    /// Distances from here on share the last bucket.
    pub(crate) max_distance: usize,
    /// Keys behind the query have the upper half of the buckets; else they count as at the query's place.
    pub(crate) both_ways: bool,
}

impl Buckets {
    /// The bucket of a key `offset` places behind the query (before it, if negative).
    pub(crate) fn of(self, offset: i64) -> usize {
        let (count, start) = match (self.both_ways, offset > 0) {
            (true, behind) => (self.count / 2, if behind { self.count / 2 } else { 0 }),
            (false, _) => (self.count, 0),
        };
        let distance = if self.both_ways { offset.unsigned_abs() } else { offset.min(0).unsigned_abs() };
        let exact = count / 2;
        if (distance as usize) < exact {
            return start + distance as usize;
        }
        let ratio = (distance as f32 / exact as f32).ln();
        let whole = (self.max_distance as f64 / exact as f64).ln() as f32;
        let far = exact + (ratio / whole * (count - exact) as f32) as usize;
        start + far.min(count - 1)
    }

    /// (count, H) spread to (H, columns), where column `zero` is of the query's own place.
    pub(crate) fn spread(self, table: &[f32], heads: usize, zero: usize, columns: usize) -> Vec<f32> {
        let rows: Vec<usize> = (0..columns).map(|c| self.of(c as i64 - zero as i64)).collect();
        (0..heads).flat_map(|h| rows.iter().map(move |row| table[row * heads + h])).collect()
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn buckets_are_those_of_the_original() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/t5_buckets/golden.safetensors");
        let bytes = std::fs::read(folder).expect("the golden is in the repository");
        let golden = SafeTensors::deserialize(&bytes).expect("it is a safetensors file");
        let read = |name: &str| -> Vec<i64> {
            let tensor = golden.tensor(name).expect("it holds the tensor");
            let words = tensor.data().chunks_exact(4);
            words.map(|w| i64::from(i32::from_le_bytes([w[0], w[1], w[2], w[3]]))).collect()
        };
        let offsets = read("in.relative_position");
        for (name, both_ways) in [("out.bidirectional", true), ("out.causal", false)] {
            let buckets = Buckets { count: 32, max_distance: 128, both_ways };
            let got: Vec<i64> = offsets.iter().map(|&offset| buckets.of(offset) as i64).collect();
            assert_eq!(got, read(name), "{name}");
        }
    }

    #[test]
    fn a_table_is_spread_by_distance() {
        let buckets = Buckets { count: 4, max_distance: 8, both_ways: false };
        let table = [0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0]; // (4, 2)
        let spread = buckets.spread(&table, 2, 3, 4);
        assert_eq!(spread, [2.0, 2.0, 1.0, 0.0, 12.0, 12.0, 11.0, 10.0]);
        let other = Buckets { both_ways: true, ..buckets };
        assert_eq!(other.of(1), 3);
        assert_eq!(other.of(-1), 1);
    }
}
