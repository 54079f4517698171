//! The kernel variants of attention: one row of [`VARIANTS`] each, a kernel with its constants. All
//! share one interface (`lib/attention_io.wgsl`). Which is first is a static estimate: the time of
//! the workgroups that run one after the other. Nothing here measures.

use super::coop::{self, Tile};
use super::problem::{AttentionParams, Problem};
use crate::kernel::{Kernel, Variant, shader};
use crate::ops::candidates::{Candidates, Estimate};
use crate::ops::target::Target;

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
static CAST: Pair = Pair {
    quads: Kernel {
        name: "attention_cast",
        source: shader!(
            "lib/attention_io.wgsl",
            "lib/attention_quads.wgsl",
            "lib/attention_cast.wgsl",
            "attention_cast.wgsl"
        ),
        params: AttentionParams::FIELDS,
    },
    scalars: Kernel {
        name: "attention_cast_scalars",
        source: shader!(
            "lib/attention_io.wgsl",
            "lib/attention_scalars.wgsl",
            "lib/attention_cast.wgsl",
            "attention_cast.wgsl"
        ),
        params: AttentionParams::FIELDS,
    },
};

/// A kernel variant: a kernel, its constants, and what it is good for.
pub(super) struct KernelVariant {
    name: &'static str,
    kernel: &'static Pair,
    /// Queries of a workgroup, and its lanes.
    lanes: usize,
    /// Keys of a step for a head of so many quads.
    keys: fn(quads: usize) -> usize,
    /// The keys and values of a step lie in workgroup memory.
    staged: bool,
    /// Queries times keys per unit of time of one workgroup, on a GPU and on a CPU adapter;
    /// relative to each other, estimates.
    speed: (f64, f64),
    /// How it is cut into cooperative matrices, if it is; then kernel, lanes and keys do not count.
    coop: Option<&'static Tile>,
    /// Written for subgroups of eight that hand queries round: keys of a step are so many times
    /// eight, and the scores of all keys lie in workgroup memory. 0 for all others.
    eights: usize,
}

/// Every v. A kernel is added here and nowhere else.
static VARIANTS: &[KernelVariant] = &[
    // Keys and values of one tile fill at most 16 KiB of workgroup memory.
    KernelVariant {
        name: "tile32",
        kernel: &TILE,
        lanes: 32,
        keys: |quads| (512 / quads).clamp(1, 32),
        staged: true,
        speed: (0.6, 0.4),
        coop: None,
        eights: 0,
    },
    KernelVariant {
        name: "tile64",
        kernel: &TILE,
        lanes: 64,
        keys: |quads| (512 / quads).clamp(1, 32),
        staged: true,
        speed: (1.0, 0.4),
        coop: None,
        eights: 0,
    },
    KernelVariant {
        name: "lanes16",
        kernel: &LANES,
        lanes: 16,
        keys: |_| 8,
        staged: false,
        speed: (0.05, 1.0),
        coop: None,
        eights: 0,
    },
    cast("cast8", 8, 2.6),
    cast("cast16", 16, 3.2),
    coop("coop64x64", &Tile { side: 16, subgroups: 4, keys: 64, resident: 3 }, 3.0),
    coop("coop64x32", &Tile { side: 16, subgroups: 4, keys: 32, resident: 4 }, 3.5),
    coop("coop32x64", &Tile { side: 16, subgroups: 2, keys: 64, resident: 4 }, 1.1),
    coop("coop8_32x32", &Tile { side: 8, subgroups: 4, keys: 32, resident: 1 }, 1.2),
];

const fn coop(name: &'static str, tile: &'static Tile, speed: f64) -> KernelVariant {
    // Software adapters take matrices apart element by element: right, and hopelessly slow.
    let speed = (speed, 0.01);
    KernelVariant {
        name,
        kernel: &TILE,
        lanes: 0,
        keys: |_| 0,
        staged: false,
        speed,
        coop: Some(tile),
        eights: 0,
    }
}

const fn cast(name: &'static str, queries: usize, cpu_speed: f64) -> KernelVariant {
    let speed = (0.01, cpu_speed);
    KernelVariant {
        name,
        kernel: &CAST,
        lanes: queries,
        keys: |_| 0,
        staged: false,
        speed,
        coop: None,
        eights: 4,
    }
}

/// Quads of sums that the lanes of `attention_cast` hold each, at most: they are variables of its
/// own, and drivers take long over many. Wider heads are made in chunks.
const MOST_SUMS: usize = 32;

/// Quads of a head above which it is wide.
const WIDE_QUADS: usize = 64;

/// Names of all variants.
pub(crate) fn names() -> Vec<&'static str> {
    VARIANTS.iter().map(|w| w.name).collect()
}

/// Kernels of all variants, with repetitions.
pub(crate) fn kernels() -> impl Iterator<Item = &'static Kernel> {
    VARIANTS.iter().flat_map(|w| [&w.kernel.quads, &w.kernel.scalars]).chain(coop::kernels())
}

pub(super) fn by_name(name: &str) -> &'static KernelVariant {
    VARIANTS.iter().find(|w| w.name == name).expect("the name comes from a list of candidates")
}

/// The variants that can compute a problem on a target, best first by the estimate.
pub(super) fn candidates(target: &Target, problem: &Problem) -> Candidates {
    let Problem { heads, queries, keys, window, width, types } = problem;
    let window = window.map_or(String::new(), |w| format!(" window {w}"));
    let key = format!(
        "attention {}x{}x{}x{width}{window} {}",
        heads.next_power_of_two(),
        queries.next_power_of_two(),
        keys.next_power_of_two(),
        types[0]
    );
    let able = VARIANTS.iter().filter(|w| w.fits(target, problem));
    Candidates::ranked(key, target.cpu, able.map(|w| (w.name, w.estimate(target, problem))))
}

impl KernelVariant {
    /// Workgroups of a launch.
    pub(super) fn groups(&self, problem: &Problem) -> usize {
        problem.heads * problem.queries.div_ceil(self.queries())
    }

    /// The kernel for this head width, with its constants and the types q, k and v are read as.
    pub(super) fn specialise(
        &self,
        variant: Variant,
        target: &Target,
        problem: &Problem,
    ) -> (&'static Kernel, Variant) {
        let quads = problem.width.is_multiple_of(4);
        let named = ["QV", "KV", "VV"].into_iter().zip(problem.types);
        let variant =
            named.fold(
                variant,
                |v, (name, dtype)| {
                    if quads { v.with_vec4(name, dtype) } else { v.with_type(name, dtype) }
                },
            );
        if let Some(tile) = self.coop {
            return tile.specialise(variant, target);
        }
        let kernel = if quads { &self.kernel.quads } else { &self.kernel.scalars };
        if self.eights > 0 {
            let variant = variant.with_u32("ROWS", self.lanes).with_u32("GROUPS", self.eights);
            let chunk = problem.width.div_ceil(32).min(MOST_SUMS / self.lanes);
            let variant = variant.with_u32("CAP", self.cap(problem)).with_u32("CHUNK", chunk);
            return (kernel, variant.with_subgroups());
        }
        let keys = (self.keys)(problem.width.div_ceil(4));
        let variant = variant.with_u32("WG", self.lanes).with_u32("KEYS", keys);
        (kernel, variant)
    }

    /// Keys whose scores there is room for.
    fn cap(&self, problem: &Problem) -> usize {
        self.reach(problem).next_multiple_of(8 * self.eights)
    }

    /// Keys that the queries of a workgroup see at most, all together.
    fn reach(&self, problem: &Problem) -> usize {
        problem.window.map_or(problem.keys, |w| problem.keys.min(2 * w + self.queries()))
    }

    /// Queries of a workgroup.
    fn queries(&self) -> usize {
        self.coop.map_or(self.lanes, Tile::queries)
    }

    fn fits(&self, target: &Target, problem: &Problem) -> bool {
        if let Some(tile) = self.coop {
            return tile.fits(target, problem);
        }
        let quads = problem.width.div_ceil(4);
        if self.eights > 0 {
            // Chunks make the weights anew, so only the variant of fewest queries is worth it for wide heads.
            return target.subgroup == 8
                && (self.lanes == 8 || self.lanes * quads.div_ceil(8) <= MOST_SUMS)
                && 4 * self.cap(problem) * self.lanes <= target.max_workgroup_bytes as usize;
        }
        // These hold all of a head in the registers of each lane. Software adapters compile that for half a
        // minute where it is wide, so there they are kept for what chunks have no room for.
        let chunks = || VARIANTS.iter().any(|v| v.eights > 0 && v.fits(target, problem));
        if quads > WIDE_QUADS && chunks() {
            return false;
        }
        let memory = if self.staged { (self.keys)(quads) * quads * 32 } else { 0 };
        self.lanes <= target.max_invocations as usize && memory <= target.max_workgroup_bytes as usize
    }

    /// Rounds of workgroups, each as long as one workgroup takes.
    fn estimate(&self, target: &Target, problem: &Problem) -> Estimate {
        let slots = target.workgroup_slots.max(1) as usize * self.coop.map_or(1, |tile| tile.resident);
        let rounds = self.groups(problem).div_ceil(slots);
        let speed = if target.cpu { self.speed.1 } else { self.speed.0 };
        Estimate { time: (rounds * self.queries() * self.reach(problem)) as f64 / speed, speed }
    }
}
