//! The ways a linear layer can be computed: one row of [`WAYS`] each, a kernel with its constants.
//! All share one interface (`lib/matmul_io.wgsl`), one weight layout and one epilogue, so that a
//! plan may take any of them for any matmul it fits. Which is first is a static estimate: the time
//! of the workgroups that run one after the other. Nothing here measures.

use super::MatMulParams;
use crate::kernel::{Kernel, Variant, shader};
use crate::ops::choice::Candidates;
use crate::ops::lower::Target;
use crate::tensor::DType;

static TILE: Kernel = Kernel {
    name: "matmul_tile",
    source: shader!("lib/act.wgsl", "lib/matmul_io.wgsl", "matmul_tile.wgsl"),
    params: MatMulParams::FIELDS,
};
static QUADS: Kernel = Kernel {
    name: "matmul_quads",
    source: shader!("lib/act.wgsl", "lib/matmul_io.wgsl", "matmul_quads.wgsl"),
    params: MatMulParams::FIELDS,
};
static LANES: Kernel = Kernel {
    name: "matmul_lanes",
    source: shader!("lib/act.wgsl", "lib/matmul_io.wgsl", "matmul_lanes.wgsl"),
    params: MatMulParams::FIELDS,
};
static ROWS: Kernel = Kernel {
    name: "matmul_rows",
    source: shader!("lib/act.wgsl", "lib/matmul_io.wgsl", "matmul_rows.wgsl"),
    params: MatMulParams::FIELDS,
};

/// One way: a kernel, its constants, and what it is good for.
pub(super) struct Way {
    pub(super) name: &'static str,
    pub(super) kernel: &'static Kernel,
    consts: &'static [(&'static str, usize)],
    /// Rows and columns that one workgroup makes.
    pub(super) tile: (usize, usize),
    /// Invocations of a workgroup.
    lanes: u32,
    /// Bytes of workgroup memory.
    memory: u32,
    /// x is read four elements at a time: K must be a multiple of 4.
    quads: bool,
    /// Most rows it is offered for.
    max_rows: usize,
    /// Multiply-adds per unit of time of one workgroup, on a GPU and on a CPU adapter; relative to
    /// each other, estimates.
    speed: (f64, f64),
}

const WAY: Way = Way {
    name: "",
    kernel: &TILE,
    consts: &[],
    tile: (64, 64),
    lanes: 256,
    memory: 0,
    quads: false,
    max_rows: usize::MAX,
    speed: (1.0, 1.0),
};

/// Every way. A kernel is added here and nowhere else.
static WAYS: &[Way] = &[
    Way { name: "tile64", memory: 8448, speed: (0.8, 1.0), ..WAY },
    Way {
        name: "quads32",
        kernel: &QUADS,
        consts: &[("BM", 32), ("BN", 64), ("BK", 16), ("TM", 4), ("TQ", 1)],
        tile: (32, 64),
        lanes: 128,
        memory: 6400,
        quads: true,
        speed: (0.7, 0.9),
        ..WAY
    },
    Way {
        name: "quads64",
        kernel: &QUADS,
        consts: &[("BM", 64), ("BN", 64), ("BK", 16), ("TM", 8), ("TQ", 1)],
        lanes: 128,
        memory: 8448,
        quads: true,
        speed: (1.0, 0.9),
        ..WAY
    },
    Way {
        name: "quads128",
        kernel: &QUADS,
        consts: &[("BM", 128), ("BN", 128), ("BK", 8), ("TM", 8), ("TQ", 2)],
        tile: (128, 128),
        memory: 8320,
        quads: true,
        speed: (1.6, 0.8),
        ..WAY
    },
    Way { name: "rows", kernel: &ROWS, tile: (1, 64), memory: 4096, max_rows: 16, speed: (0.25, 0.5), ..WAY },
    lanes("lanes1", &[("TM", 1), ("WG", 32)], 1, 2.0),
    lanes("lanes2", &[("TM", 2), ("WG", 32)], 2, 3.0),
    lanes("lanes4", &[("TM", 4), ("WG", 32)], 4, 5.0),
    lanes("lanes8", &[("TM", 8), ("WG", 32)], 8, 7.0),
    lanes("lanes16", &[("TM", 16), ("WG", 32)], 16, 8.0),
];

const fn lanes(
    name: &'static str,
    consts: &'static [(&'static str, usize)],
    rows: usize,
    cpu_speed: f64,
) -> Way {
    Way { name, kernel: &LANES, consts, tile: (rows, 128), lanes: 32, speed: (0.02, cpu_speed), ..WAY }
}

/// What a choice rests on.
pub(super) struct Problem {
    pub(super) rows: usize,
    pub(super) inner: usize,
    pub(super) cols: usize,
    pub(super) x: DType,
    pub(super) w: DType,
    pub(super) y: DType,
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
    let Problem { rows, inner, cols, x, w, y } = problem;
    // Slower than this by the estimate, and measuring it would be a waste of the budget.
    let worth = able[0].0 * 4.0;
    Candidates {
        key: format!("matmul {}x{inner}x{cols} {x} {w} {y}", rows.next_power_of_two()),
        contenders: able.iter().filter(|(time, _)| *time <= worth).count(),
        names: able.iter().map(|(_, way)| way.name).collect(),
    }
}

impl Way {
    /// Workgroups of a launch for `cols` columns.
    pub(super) fn groups(&self, rows: usize, cols: usize) -> usize {
        rows.div_ceil(self.tile.0) * cols.div_ceil(self.tile.1)
    }

    /// The constants and the type x is read as.
    pub(super) fn specialise(&self, variant: Variant, x: DType) -> Variant {
        let variant = if self.quads { variant.with_vec4("XV", x) } else { variant.with_type("XV", x) };
        self.consts.iter().fold(variant, |v, (name, value)| v.with_u32(name, *value))
    }

    fn fits(&self, target: &Target, problem: &Problem) -> bool {
        problem.rows <= self.max_rows
            && (!self.quads || problem.inner.is_multiple_of(4))
            && self.lanes <= target.max_invocations
            && self.memory <= target.max_workgroup_bytes
    }

    /// Estimated time: rounds of workgroups, each as long as one workgroup takes.
    fn time(&self, target: &Target, problem: &Problem) -> f64 {
        let groups = self.groups(problem.rows, problem.cols);
        let rounds = groups.div_ceil(target.workgroup_slots.max(1) as usize);
        let speed = if target.cpu { self.speed.1 } else { self.speed.0 };
        (rounds * self.tile.0 * self.tile.1) as f64 / speed
    }
}
