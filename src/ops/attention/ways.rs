//! The ways attention can be computed: one row of [`WAYS`] each, a kernel with its constants. All
//! share one interface (`lib/attention_io.wgsl`). Which is first is a static estimate: the time of
//! the workgroups that run one after the other. Nothing here measures.

use super::AttentionParams;
use crate::kernel::{Kernel, Variant, shader};
use crate::ops::choice::Candidates;
use crate::ops::lower::Target;
use crate::tensor::DType;

/// A kernel for head widths that are a multiple of four, and its twin for any other.
struct Pair {
    quads: Kernel,
    scalars: Kernel,
}

static TILE: Pair = Pair {
    quads: Kernel {
        name: "attention_tile",
        source: shader!("lib/attention_io.wgsl", "lib/attention_quads.wgsl", "attention_tile.wgsl"),
        params: AttentionParams::FIELDS,
    },
    scalars: Kernel {
        name: "attention_tile_scalars",
        source: shader!("lib/attention_io.wgsl", "lib/attention_scalars.wgsl", "attention_tile.wgsl"),
        params: AttentionParams::FIELDS,
    },
};
static LANES: Pair = Pair {
    quads: Kernel {
        name: "attention_lanes",
        source: shader!("lib/attention_io.wgsl", "lib/attention_quads.wgsl", "attention_lanes.wgsl"),
        params: AttentionParams::FIELDS,
    },
    scalars: Kernel {
        name: "attention_lanes_scalars",
        source: shader!("lib/attention_io.wgsl", "lib/attention_scalars.wgsl", "attention_lanes.wgsl"),
        params: AttentionParams::FIELDS,
    },
};

/// One way: a kernel, its constants, and what it is good for.
pub(super) struct Way {
    name: &'static str,
    kernel: &'static Pair,
    /// Queries and lanes of a workgroup.
    lanes: usize,
    /// Keys of a step for a head of so many quads.
    keys: fn(quads: usize) -> usize,
    /// The keys and values of a step lie in workgroup memory.
    staged: bool,
    /// Queries times keys per unit of time of one workgroup, on a GPU and on a CPU adapter;
    /// relative to each other, estimates.
    speed: (f64, f64),
}

/// Every way. A kernel is added here and nowhere else.
static WAYS: &[Way] = &[
    // Keys and values of one tile fill at most 16 KiB of workgroup memory.
    Way {
        name: "tile32",
        kernel: &TILE,
        lanes: 32,
        keys: |quads| (512 / quads).clamp(1, 32),
        staged: true,
        speed: (0.6, 0.4),
    },
    Way {
        name: "tile64",
        kernel: &TILE,
        lanes: 64,
        keys: |quads| (512 / quads).clamp(1, 32),
        staged: true,
        speed: (1.0, 0.4),
    },
    Way { name: "lanes16", kernel: &LANES, lanes: 16, keys: |_| 8, staged: false, speed: (0.05, 1.0) },
];

/// What a choice rests on.
pub(super) struct Problem {
    /// Batch times heads.
    pub(super) heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// Head width D.
    pub(super) width: usize,
    /// Storage types of q, k and v.
    pub(super) types: [DType; 3],
}

/// Names of all ways.
pub(crate) fn names() -> Vec<&'static str> {
    WAYS.iter().map(|w| w.name).collect()
}

pub(super) fn by_name(name: &str) -> &'static Way {
    WAYS.iter().find(|w| w.name == name).expect("the name comes from a list of candidates")
}

/// The ways that can compute a problem on a target, best first by the estimate.
pub(super) fn candidates(target: &Target, problem: &Problem) -> Candidates {
    let mut able: Vec<(f64, &Way)> =
        WAYS.iter().filter(|w| w.fits(target, problem)).map(|w| (w.time(target, problem), w)).collect();
    able.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Problem { heads, queries, keys, width, types } = problem;
    // Slower than this by the estimate, and measuring it would be a waste of the budget.
    let worth = able[0].0 * 4.0;
    Candidates {
        key: format!(
            "attention {}x{}x{}x{width} {}",
            heads.next_power_of_two(),
            queries.next_power_of_two(),
            keys.next_power_of_two(),
            types[0]
        ),
        contenders: able.iter().filter(|(time, _)| *time <= worth).count(),
        names: able.iter().map(|(_, way)| way.name).collect(),
    }
}

impl Way {
    /// Workgroups of a launch.
    pub(super) fn groups(&self, problem: &Problem) -> usize {
        problem.heads * problem.queries.div_ceil(self.lanes)
    }

    /// The kernel for this head width, with its constants and the types q, k and v are read as.
    pub(super) fn specialise(&self, variant: Variant, problem: &Problem) -> (&'static Kernel, Variant) {
        let quads = problem.width.is_multiple_of(4);
        let named = ["QV", "KV", "VV"].into_iter().zip(problem.types);
        let variant =
            named.fold(
                variant,
                |v, (name, dtype)| {
                    if quads { v.with_vec4(name, dtype) } else { v.with_type(name, dtype) }
                },
            );
        let keys = (self.keys)(problem.width.div_ceil(4));
        let variant = variant.with_u32("WG", self.lanes).with_u32("KEYS", keys);
        (if quads { &self.kernel.quads } else { &self.kernel.scalars }, variant)
    }

    fn fits(&self, target: &Target, problem: &Problem) -> bool {
        let quads = problem.width.div_ceil(4);
        let memory = if self.staged { (self.keys)(quads) * quads * 32 } else { 0 };
        self.lanes <= target.max_invocations as usize && memory <= target.max_workgroup_bytes as usize
    }

    /// Estimated time: rounds of workgroups, each as long as one workgroup takes.
    fn time(&self, target: &Target, problem: &Problem) -> f64 {
        let rounds = self.groups(problem).div_ceil(target.workgroup_slots.max(1) as usize);
        let speed = if target.cpu { self.speed.1 } else { self.speed.0 };
        (rounds * self.lanes * problem.keys) as f64 / speed
    }
}
