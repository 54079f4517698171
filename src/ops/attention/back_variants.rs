//! The kernel variants of attention's way back: one row of [`VARIANTS`] each, and which kernels each op on it
//! has. Which is first is a static estimate. Nothing here measures.

use super::problem::BackParams;
use crate::kernel::{Kernel, Variant, shader};
use crate::ops::candidates::{Candidates, Estimate};
use crate::ops::target::Target;

/// A kernel for head widths that are a multiple of four, and its twin for any other.
pub(super) type Twins = [Kernel; 2];

/// The kernels of an op. Their workgroups own rows of one side, queries or keys, and walk those of the other.
pub(super) struct Kernels {
    /// The op.
    name: &'static str,
    /// Sums that a lane has for each element of a head: 0 where only scores are made.
    sums: usize,
    /// A row a lane, which reads what it walks from workgroup memory.
    staged: Option<Twins>,
    /// A row a lane, which reads what it walks where it lies, the same for all lanes.
    direct: Twins,
    /// Written for subgroups of eight that hand rows round.
    cast: Twins,
}

macro_rules! kernel {
    ($name:expr, $($file:literal),+) => {
        Kernel { name: $name, source: shader!($($file),+), params: BackParams::FIELDS }
    };
}

/// Twins of these names, with what is read in quads and one by one before the other files.
macro_rules! twins {
    ($name:literal, $($file:literal),+) => {
        [
            kernel!($name, "lib/attention_quads.wgsl", "lib/attention_dy_quads.wgsl", $($file),+),
            kernel!(
                concat!($name, "_scalars"),
                "lib/attention_scalars.wgsl",
                "lib/attention_dy_scalars.wgsl",
                $($file),+
            ),
        ]
    };
}

pub(super) static ROWS: Kernels = Kernels {
    name: "rows",
    sums: 0,
    staged: None,
    direct: twins!("attention_rows", "lib/attention_rows_io.wgsl", "attention_rows.wgsl"),
    cast: twins!(
        "attention_rows_cast",
        "lib/attention_rows_io.wgsl",
        "lib/attention_cast.wgsl",
        "attention_rows_cast.wgsl"
    ),
};
pub(super) static GRAD_Q: Kernels = Kernels {
    name: "grad_q",
    sums: 1,
    staged: Some(twins!(
        "attention_grad_q_staged",
        "lib/attention_back_io.wgsl",
        "lib/attention_walk_staged.wgsl",
        "attention_grad_q.wgsl"
    )),
    direct: twins!(
        "attention_grad_q",
        "lib/attention_back_io.wgsl",
        "lib/attention_walk_direct.wgsl",
        "attention_grad_q.wgsl"
    ),
    cast: twins!(
        "attention_grad_q_cast",
        "lib/attention_back_io.wgsl",
        "lib/attention_cast.wgsl",
        "attention_grad_cast.wgsl"
    ),
};
pub(super) static GRAD_KV: Kernels = Kernels {
    name: "grad_kv",
    sums: 2,
    staged: Some(twins!(
        "attention_grad_kv_staged",
        "lib/attention_back_io.wgsl",
        "lib/attention_walk_staged.wgsl",
        "attention_grad_kv.wgsl"
    )),
    direct: twins!(
        "attention_grad_kv",
        "lib/attention_back_io.wgsl",
        "lib/attention_walk_direct.wgsl",
        "attention_grad_kv.wgsl"
    ),
    cast: twins!(
        "attention_grad_kv_cast",
        "lib/attention_back_io.wgsl",
        "lib/attention_cast.wgsl",
        "attention_grad_cast.wgsl"
    ),
};
pub(super) static GRAD_BIAS: Twins =
    twins!("attention_grad_bias", "lib/attention_back_io.wgsl", "attention_grad_bias.wgsl");

/// Where the rows that a workgroup walks are read.
#[derive(Clone, Copy, PartialEq)]
enum Walk {
    Staged,
    Direct,
    Cast,
}

/// A kernel variant.
pub(super) struct BackVariant {
    name: &'static str,
    /// Rows that a workgroup owns.
    rows: usize,
    walk: Walk,
    /// Pairs of a query and a key per unit of time of one workgroup, on a GPU and on a CPU adapter; relative to
    /// each other, estimates.
    speed: (f64, f64),
}

/// Every variant. A kernel is added here and nowhere else.
static VARIANTS: &[BackVariant] = &[
    BackVariant { name: "staged64", rows: 64, walk: Walk::Staged, speed: (1.0, 0.2) },
    BackVariant { name: "lanes64", rows: 64, walk: Walk::Direct, speed: (0.5, 0.4) },
    BackVariant { name: "lanes16", rows: 16, walk: Walk::Direct, speed: (0.05, 1.0) },
    BackVariant { name: "cast8", rows: 8, walk: Walk::Cast, speed: (0.01, 5.0) },
    BackVariant { name: "cast16", rows: 16, walk: Walk::Cast, speed: (0.01, 6.0) },
];

/// Quads that a lane sums up, at most: software drivers compile more variables for half a minute, and GPUs run
/// out of registers. Wider heads are shared by several workgroups, each of which makes the scores anew.
const MOST_SUMS: usize = 32;

/// Rows of a step are so many times eight where rows are handed round.
const GROUPS: usize = 4;

/// Bytes of workgroup memory that what is handed round may take: every adapter has as much.
const PAIR_BYTES: usize = 16_384;

/// What a choice rests on.
pub(super) struct Owned {
    /// Batch times heads.
    pub(super) heads: usize,
    /// Rows that are owned, of a head.
    pub(super) rows: usize,
    /// Rows that are walked, of a head.
    pub(super) others: usize,
    /// Head width D.
    pub(super) width: usize,
}

/// Names of all variants.
pub(crate) fn names() -> Vec<&'static str> {
    VARIANTS.iter().map(|v| v.name).collect()
}

/// Kernels of all variants.
pub(crate) fn kernels() -> impl Iterator<Item = &'static Kernel> {
    [&ROWS, &GRAD_Q, &GRAD_KV].into_iter().flat_map(|k| k.staged.iter().chain([&k.direct, &k.cast])).flatten()
}

pub(super) fn by_name(name: &str) -> &'static BackVariant {
    VARIANTS.iter().find(|v| v.name == name).expect("the name comes from a list of candidates")
}

/// One of two twins.
pub(super) fn twin(twins: &'static Twins, width: usize) -> &'static Kernel {
    &twins[usize::from(!width.is_multiple_of(4))]
}

impl Kernels {
    /// The variants that can compute a problem on a target, best first by the estimate.
    pub(super) fn candidates(&self, target: &Target, owned: &Owned) -> Candidates {
        let key = format!(
            "attention {} {}x{}x{}x{}",
            self.name,
            owned.heads.next_power_of_two(),
            owned.rows.next_power_of_two(),
            owned.others.next_power_of_two(),
            owned.width
        );
        let able = VARIANTS.iter().filter(|v| v.fits(self, target, owned.width));
        Candidates::ranked(key, target.cpu, able.map(|v| (v.name, v.estimate(self, target, owned))))
    }
}

impl BackVariant {
    /// Workgroups that share the rows of a head, each with some of its quads, and the quads that a lane of
    /// each sums up.
    fn chunks(&self, kernels: &Kernels, width: usize) -> (usize, usize) {
        let (quads, most) = match self.walk {
            Walk::Staged => (width.div_ceil(4), MOST_SUMS / kernels.sums.max(1)),
            Walk::Direct => (width.div_ceil(4), MOST_SUMS),
            Walk::Cast => (width.div_ceil(32), MOST_SUMS / (kernels.sums.max(1) * self.rows)),
        };
        let chunks = if kernels.sums == 0 { 1 } else { quads.div_ceil(most) };
        (chunks, quads.div_ceil(chunks))
    }

    fn fits(&self, kernels: &Kernels, target: &Target, width: usize) -> bool {
        let lanes = self.rows <= target.max_invocations as usize;
        match self.walk {
            Walk::Staged => lanes && kernels.staged.is_some(),
            // They differ in nothing but what they are good for.
            Walk::Direct if target.cpu => self.rows == 16,
            Walk::Direct => lanes && self.rows == 64 && kernels.staged.is_none(),
            Walk::Cast => target.subgroup == 8 && (self.rows == 8 || self.chunks(kernels, width).0 == 1),
        }
    }

    /// Workgroups of a launch.
    pub(super) fn groups(&self, kernels: &Kernels, owned: &Owned) -> usize {
        owned.heads * owned.rows.div_ceil(self.rows) * self.chunks(kernels, owned.width).0
    }

    /// The kernel for this head width, with its constants.
    pub(super) fn specialise(
        &self,
        variant: Variant,
        kernels: &'static Kernels,
        owned: &Owned,
    ) -> (&'static Kernel, Variant) {
        let width = owned.width;
        let (chunks, chunk) = self.chunks(kernels, width);
        let mut variant = variant;
        if kernels.sums > 0 {
            variant = variant.with_u32("CHUNK", chunk).with_u32("CHUNKS", chunks);
        }
        // Two tiles fill at most 16 KiB of workgroup memory.
        let staged = (512 / width.div_ceil(4)).clamp(1, 16);
        let lanes = |step: usize| [("WG", self.rows), ("STEP", step)];
        let (twins, sizes) = match (self.walk, &kernels.staged) {
            (Walk::Staged, Some(twins)) => (twins, lanes(staged)),
            (Walk::Staged | Walk::Direct, _) => (&kernels.direct, lanes(8)),
            (Walk::Cast, _) => {
                if kernels.sums > 0 {
                    let step = 8 * GROUPS;
                    let most = PAIR_BYTES / (4 * kernels.sums * self.rows);
                    let block = owned.others.next_multiple_of(step).min(most / step * step);
                    variant = variant.with_u32("RESULTS", kernels.sums).with_u32("BLOCK", block);
                }
                variant = variant.with_subgroups();
                (&kernels.cast, [("ROWS", self.rows), ("GROUPS", GROUPS)])
            }
        };
        let variant = sizes.into_iter().fold(variant, |variant, (name, n)| variant.with_u32(name, n));
        (twin(twins, width), variant)
    }

    /// Rounds of workgroups, each as long as one workgroup takes.
    fn estimate(&self, kernels: &Kernels, target: &Target, owned: &Owned) -> Estimate {
        let rounds = self.groups(kernels, owned).div_ceil(target.workgroup_slots.max(1) as usize);
        let speed = if target.cpu { self.speed.1 } else { self.speed.0 };
        Estimate { time: (rounds * self.rows * owned.others) as f64 / speed, speed }
    }
}
