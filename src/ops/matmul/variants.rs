//! The kernel variants of a linear layer or a convolution: one row of [`VARIANTS`] each, a kernel with
//! its constants. All share one interface (`lib/matmul_io.wgsl`, `lib/conv_io.wgsl`), one weight layout
//! and one epilogue, so that a plan may take any of them for any matmul it fits. Which is first is a
//! static estimate: the time of the workgroups that run one after the other. Nothing here measures.

use super::coop::{self, Tile};
use super::problem::{ConvParams, MatMulParams, Needs, Pair, Problem};
use super::step;
use crate::kernel::{Kernel, Variant, shader};
use crate::ops::candidates::{Candidates, Estimate};
use crate::ops::target::Target;

/// The two differ in where they read x, and in their epilogue's operands.
macro_rules! pair {
    ($linear:literal, $conv:literal, $($file:literal),+) => {
        Pair {
            linear: Kernel {
                name: $linear,
                source: shader!(
                    "lib/finite.wgsl",
                    "lib/act.wgsl",
                    "lib/matmul_io.wgsl",
                    "lib/matmul_rows.wgsl",
                    "lib/matmul_weight.wgsl",
                    $($file),+
                ),
                params: MatMulParams::FIELDS,
            },
            conv: Kernel {
                name: $conv,
                source: shader!(
                    "lib/finite.wgsl",
                    "lib/act.wgsl",
                    "lib/conv_params.wgsl",
                    "lib/conv_io.wgsl",
                    "lib/conv_rows.wgsl",
                    "lib/matmul_weight.wgsl",
                    $($file),+
                ),
                params: ConvParams::FIELDS,
            },
        }
    };
}

static TILE: Pair = pair!("matmul_tile", "conv_tile", "matmul_tile.wgsl");
static QUADS: Pair = pair!("matmul_quads", "conv_quads", "matmul_quads.wgsl");
static LANES: Pair = pair!("matmul_lanes", "conv_lanes", "lib/matmul_fours.wgsl", "matmul_lanes.wgsl");
static CAST: Pair = pair!("matmul_cast", "conv_cast", "lib/matmul_fours.wgsl", "matmul_cast.wgsl");
static ROWS: Kernel = Kernel {
    name: "matmul_rows",
    source: shader!(
        "lib/finite.wgsl",
        "lib/act.wgsl",
        "lib/matmul_io.wgsl",
        "lib/matmul_weight.wgsl",
        "matmul_rows.wgsl"
    ),
    params: MatMulParams::FIELDS,
};

/// A kernel variant: a kernel, its constants, and what it is good for.
pub(crate) struct KernelVariant {
    pub(super) name: &'static str,
    kernel: &'static Kernel,
    /// The kernel that computes convolutions with it, if there is one.
    conv: Option<&'static Kernel>,
    consts: &'static [(&'static str, usize)],
    /// Rows and columns that one workgroup makes.
    pub(super) tile: (usize, usize),
    /// Invocations of a workgroup.
    lanes: u32,
    /// Bytes of workgroup memory.
    memory: u32,
    /// How x is read.
    x: Reads,
    /// The subgroup size it is written for; 0 if it uses no subgroup operations.
    subgroup: u32,
    /// Most rows it is offered for.
    max_rows: usize,
    /// Multiply-adds per unit of time of one workgroup, on a GPU and on a CPU adapter; relative to
    /// each other, estimates.
    speed: (f64, f64),
    /// How it is cut into cooperative matrices, if it is.
    coop: Option<&'static Tile>,
    /// The kernels of a decode step, if it is for that; `kernel` does not count then.
    pub(super) step: Option<&'static step::Pair>,
}

/// How many elements of x a kernel reads at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Ones,
    /// K must be a multiple of 4.
    Fours,
    /// Four where K is a multiple of 4.
    Either,
}

const PLAIN: KernelVariant = KernelVariant {
    name: "",
    kernel: &TILE.linear,
    conv: Some(&TILE.conv),
    consts: &[],
    tile: (64, 64),
    lanes: 256,
    memory: 0,
    x: Reads::Ones,
    subgroup: 0,
    max_rows: usize::MAX,
    speed: (1.0, 1.0),
    coop: None,
    step: None,
};

/// Every v. A kernel is added here and nowhere else.
static VARIANTS: &[KernelVariant] = &[
    KernelVariant { name: "tile64", memory: 8448, speed: (1.3, 1.0), ..PLAIN },
    KernelVariant {
        name: "quads32",
        kernel: &QUADS.linear,
        conv: Some(&QUADS.conv),
        consts: &[("BM", 32), ("BN", 64), ("BK", 16), ("TM", 4), ("TQ", 1)],
        tile: (32, 64),
        lanes: 128,
        memory: 6400,
        x: Reads::Fours,
        speed: (1.2, 0.9),
        ..PLAIN
    },
    KernelVariant {
        name: "quads64",
        kernel: &QUADS.linear,
        conv: Some(&QUADS.conv),
        consts: &[("BM", 64), ("BN", 64), ("BK", 16), ("TM", 8), ("TQ", 1)],
        lanes: 128,
        memory: 8448,
        x: Reads::Fours,
        speed: (1.4, 0.9),
        ..PLAIN
    },
    KernelVariant {
        name: "quads128",
        kernel: &QUADS.linear,
        conv: Some(&QUADS.conv),
        consts: &[("BM", 128), ("BN", 128), ("BK", 8), ("TM", 8), ("TQ", 2)],
        tile: (128, 128),
        memory: 8320,
        x: Reads::Fours,
        speed: (1.6, 0.8),
        ..PLAIN
    },
    KernelVariant {
        name: "rows",
        kernel: &ROWS,
        conv: None,
        tile: (1, 64),
        memory: 4096,
        max_rows: 16,
        speed: (0.25, 0.5),
        ..PLAIN
    },
    lanes("lanes1", &[("TM", 1), ("WG", 16)], 1, 2.0),
    lanes("lanes2", &[("TM", 2), ("WG", 16)], 2, 4.0),
    lanes("lanes4", &[("TM", 4), ("WG", 16)], 4, 6.0),
    lanes("lanes8", &[("TM", 8), ("WG", 16)], 8, 9.0),
    lanes("lanes16", &[("TM", 16), ("WG", 16)], 16, 13.0),
    cast("cast8", &[("TM", 8), ("SPAN", 1)], (8, 1), 12.5),
    cast("cast8x2", &[("TM", 8), ("SPAN", 2)], (8, 2), 15.5),
    cast("cast16x2", &[("TM", 16), ("SPAN", 2)], (16, 2), 20.5),
    cast("cast24x2", &[("TM", 24), ("SPAN", 2)], (24, 2), 22.5),
    cast("cast32x2", &[("TM", 32), ("SPAN", 2)], (32, 2), 24.0),
    cast("cast40x2", &[("TM", 40), ("SPAN", 2)], (40, 2), 24.5),
    lines("step16", &[("LINE", 4), ("WG", 256)], 16, 6.0),
    lines("step32", &[("LINE", 8), ("WG", 256)], 32, 8.0),
    lines("step64", &[("LINE", 16), ("WG", 256)], 64, 10.0),
    step_lanes("steplanes8", &[("WG", 8), ("SPAN", 1)], (16, 32), 11.5),
    step_lanes("steplanes16", &[("WG", 16), ("SPAN", 1)], (16, 64), 12.0),
    step_lanes("steplanes8x2", &[("WG", 8), ("SPAN", 2)], (8, 64), 17.0),
    step_lanes("steplanes8x4", &[("WG", 8), ("SPAN", 4)], (4, 128), 21.0),
    coop(
        "coop128x256",
        &Tile { side: 16, size: (128, 256, 32), grid: (2, 4, 1), stages: 1, resident: 1 },
        18.0,
    ),
    coop(
        "coop128x128",
        &Tile { side: 16, size: (128, 128, 32), grid: (2, 2, 1), stages: 1, resident: 2 },
        7.0,
    ),
    coop("coop64x64", &Tile { side: 16, size: (64, 64, 64), grid: (2, 2, 1), stages: 1, resident: 3 }, 3.9),
    coop("coop32x64", &Tile { side: 16, size: (32, 64, 128), grid: (1, 2, 4), stages: 1, resident: 3 }, 2.0),
    coop("coop8_64x64", &Tile { side: 8, size: (64, 64, 32), grid: (2, 2, 1), stages: 2, resident: 1 }, 1.8),
    coop("coop8_32x64", &Tile { side: 8, size: (32, 64, 16), grid: (2, 2, 1), stages: 1, resident: 1 }, 1.0),
    coop("coop8_32x32", &Tile { side: 8, size: (32, 32, 32), grid: (1, 1, 4), stages: 2, resident: 1 }, 0.7),
];

const fn coop(name: &'static str, tile: &'static Tile, speed: f64) -> KernelVariant {
    let (rows, cols, _) = tile.size;
    // Software adapters take matrices apart element by element: right, and hopelessly slow.
    let (speed, tile) = ((speed, 0.01), (tile, (rows, cols)));
    KernelVariant {
        name,
        kernel: &coop::QUADS.linear,
        conv: Some(&coop::QUADS.conv),
        tile: tile.1,
        lanes: 0,
        x: Reads::Fours,
        speed,
        coop: Some(tile.0),
        ..PLAIN
    }
}

const fn lanes(
    name: &'static str,
    consts: &'static [(&'static str, usize)],
    rows: usize,
    cpu_speed: f64,
) -> KernelVariant {
    let speed = (0.02, cpu_speed);
    let (kernel, conv) = (&LANES.linear, Some(&LANES.conv));
    KernelVariant {
        name,
        kernel,
        conv,
        consts,
        tile: (rows, 64),
        lanes: 16,
        x: Reads::Either,
        speed,
        ..PLAIN
    }
}

/// Rows, and quads of columns of a lane.
const fn cast(
    name: &'static str,
    consts: &'static [(&'static str, usize)],
    (rows, span): (usize, usize),
    cpu_speed: f64,
) -> KernelVariant {
    let speed = (0.01, cpu_speed);
    let tile = (rows, 32 * span);
    let (kernel, conv) = (&CAST.linear, Some(&CAST.conv));
    KernelVariant {
        name,
        kernel,
        conv,
        consts,
        tile,
        lanes: 8,
        x: Reads::Either,
        subgroup: 8,
        speed,
        ..PLAIN
    }
}

const fn lines(
    name: &'static str,
    consts: &'static [(&'static str, usize)],
    cols: usize,
    gpu_speed: f64,
) -> KernelVariant {
    let step = Some(&step::LINES);
    let (tile, speed) = ((step::MAX_ROWS, cols), (gpu_speed, 0.5));
    let max_rows = step::MAX_ROWS;
    KernelVariant {
        name,
        consts,
        tile,
        lanes: 256,
        memory: 5120,
        max_rows,
        x: Reads::Either,
        speed,
        step,
        conv: None,
        ..PLAIN
    }
}

/// `most`: the rows whose sums fit the registers, and the columns of a workgroup.
const fn step_lanes(
    name: &'static str,
    consts: &'static [(&'static str, usize)],
    most: (usize, usize),
    cpu_speed: f64,
) -> KernelVariant {
    let step = Some(&step::LANES);
    let (tile, speed) = ((step::MAX_ROWS, most.1), (0.02, cpu_speed));
    KernelVariant {
        name,
        consts,
        tile,
        lanes: 16,
        max_rows: most.0,
        x: Reads::Either,
        speed,
        step,
        conv: None,
        ..PLAIN
    }
}

/// Names of all variants.
pub(crate) fn names() -> Vec<&'static str> {
    VARIANTS.iter().map(|w| w.name).collect()
}

/// Names of the variants that compute convolutions too.
pub(crate) fn conv_names() -> Vec<&'static str> {
    VARIANTS.iter().filter(|w| w.conv.is_some()).map(|w| w.name).collect()
}

/// Kernels of all variants, with repetitions.
pub(crate) fn kernels() -> impl Iterator<Item = &'static Kernel> {
    let steps = [&step::LINES, &step::LANES].into_iter().flat_map(|pair| [&pair.plain, &pair.cache]);
    VARIANTS
        .iter()
        .flat_map(|w| [Some(w.kernel), w.conv])
        .flatten()
        .chain([&coop::SCALARS.linear, &coop::SCALARS.conv])
        .chain(steps)
}

pub(crate) fn by_name(name: &str) -> &'static KernelVariant {
    VARIANTS.iter().find(|w| w.name == name).expect("the name comes from a list of candidates")
}

/// The variants that can compute a linear layer on a target, best first by the estimate.
pub(super) fn candidates(target: &Target, problem: &Problem) -> Candidates {
    let Problem { rows, inner, cols, x, w, y, .. } = problem;
    let few = if problem.needs.few { " few" } else { "" };
    let key = format!("matmul {}x{inner}x{cols} {x} {w} {y}{few}", rows.next_power_of_two());
    ranked(VARIANTS.iter(), key, target, problem)
}

/// The variants that can compute a convolution of so many taps on a target, best first by the estimate.
pub(crate) fn conv_candidates(target: &Target, problem: &Problem, taps: usize) -> Candidates {
    let Problem { rows, inner, cols, x, w, y, .. } = problem;
    let key = format!("conv2d {}x{taps}x{inner}x{cols} {x} {w} {y}", rows.next_power_of_two());
    ranked(VARIANTS.iter().filter(|w| w.conv.is_some()), key, target, problem)
}

fn ranked(
    variants: impl Iterator<Item = &'static KernelVariant>,
    key: String,
    target: &Target,
    problem: &Problem,
) -> Candidates {
    let able = variants.filter(|v| v.fits(target, problem)).map(|v| (v.name, v.estimate(target, problem)));
    Candidates::ranked(key, target.cpu, able)
}

impl KernelVariant {
    /// Workgroups of a launch for `cols` columns.
    pub(crate) fn groups(&self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(self.tile.0) * cols.div_ceil(self.tile.1)
    }

    /// The kernel as a target can run it.
    pub(super) fn kernel(&self, target: &Target) -> &'static Kernel {
        if self.coop.is_some() { &Tile::kernels(target).linear } else { self.kernel }
    }

    /// The kernel for convolutions.
    pub(crate) fn conv_kernel(&self, target: &Target) -> &'static Kernel {
        if self.coop.is_some() {
            return &Tile::kernels(target).conv;
        }
        self.conv.expect("the variant is on a list of candidates for convolutions")
    }

    /// The constants and the type x, with rows of `inner` elements, is read as.
    pub(crate) fn specialise(&self, variant: Variant, target: &Target, problem: &Problem) -> Variant {
        let Problem { x, inner, .. } = *problem;
        let fours = match self.x {
            Reads::Ones => false,
            Reads::Fours => true,
            Reads::Either => inner.is_multiple_of(4),
        };
        let mut variant = if fours { variant.with_vec4("XV", x) } else { variant.with_type("XV", x) };
        if self.x == Reads::Either {
            variant = variant.with_type("X", x).with_bool("QUADS", fours);
        }
        if self.subgroup > 0 {
            variant = variant.with_subgroups();
        }
        if let Some(tile) = self.coop {
            variant = tile.specialise(variant, target, inner);
        }
        if self.step.is_some() {
            variant = variant.with_u32("ROWS", step::rows(problem, target.cpu));
        }
        self.consts.iter().fold(variant, |v, (name, value)| v.with_u32(name, *value))
    }

    fn fits(&self, target: &Target, problem: &Problem) -> bool {
        let Needs { few, gated, scale } = problem.needs;
        problem.rows <= self.max_rows
            && (!few || self.step.is_some())
            && (!scale || self.step.is_none())
            && (!gated || self.coop.is_none())
            && (self.x != Reads::Fours || problem.inner.is_multiple_of(4))
            && (self.subgroup == 0 || self.subgroup == target.subgroup)
            && self.lanes <= target.max_invocations
            && self.memory <= target.max_workgroup_bytes
            && self.coop.is_none_or(|tile| tile.fits(target, problem))
    }

    /// Rounds of workgroups, each as long as one workgroup takes.
    fn estimate(&self, target: &Target, problem: &Problem) -> Estimate {
        let groups = self.groups(problem.rows, problem.cols);
        let slots = target.workgroup_slots.max(1) as usize * self.coop.map_or(1, |tile| tile.resident);
        let rounds = groups.div_ceil(slots);
        let speed = if target.cpu { self.speed.1 } else { self.speed.0 };
        // A decode step takes the rows there are, and reads the weight whatever their number.
        let rows = if self.step.is_some() { problem.rows + 4 } else { self.tile.0 };
        Estimate { time: (rounds * rows * self.tile.1) as f64 / speed, speed }
    }
}
