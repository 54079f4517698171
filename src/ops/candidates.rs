//! The kernel variants that can compute an op on a target, best first by a static estimate.

/// Ways that can compute one op on one target, best first; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates {
    /// Op, shape bucket and storage types: two ops with one key are alike enough to share a choice.
    pub key: String,
    /// Names, best first.
    pub names: Vec<&'static str>,
    /// The estimate of each.
    pub estimates: Vec<Estimate>,
    /// How many of them, from the front, are worth measuring against each other.
    pub contenders: usize,
}

/// What the order of variants rests on until one of them is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Time, in units that mean something only beside another estimate of the same list.
    pub time: f64,
    /// The rate of one workgroup that the row in `variants.rs` claims for this kind of adapter.
    pub speed: f64,
}

impl Candidates {
    /// Sorts the variants that can do it by their estimates.
    pub(super) fn ranked(
        key: String,
        cpu: bool,
        able: impl Iterator<Item = (&'static str, Estimate)>,
    ) -> Self {
        let mut able: Vec<_> = able.collect();
        able.sort_by(|(_, a), (_, b)| a.time.total_cmp(&b.time));
        // Slower than this by the estimate, and measuring it would be a waste of the budget. Estimates
        // for GPUs are rough, and a timing there costs little.
        let worth = able[0].1.time * if cpu { 1.5 } else { 4.0 };
        let contenders = able.iter().filter(|(_, e)| e.time <= worth).count();
        let (names, estimates) = able.into_iter().unzip();
        Self { key, names, estimates, contenders }
    }
}
