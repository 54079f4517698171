//! The ways on cooperative matrices: tensor cores, where an adapter has them. A [`Tile`] says how
//! one workgroup's share is cut; the kernel is the same for all. They multiply in f16 and add in
//! f32, so they are offered where the weight is stored in f16 and not otherwise.

use super::MatMulParams;
use super::ways::Problem;
use crate::kernel::{Kernel, Variant, shader};
use crate::ops::lower::Target;
use crate::tensor::DType;

/// Workgroup memory as vec4s.
pub(super) static QUADS: Kernel = Kernel {
    name: "matmul_coop",
    source: shader!("lib/act.wgsl", "lib/matmul_io4.wgsl", "lib/matrix_quads.wgsl", "matmul_coop.wgsl"),
    params: MatMulParams::FIELDS,
};
/// Workgroup memory as scalars.
pub(super) static SCALARS: Kernel = Kernel {
    name: "matmul_coop_scalars",
    source: shader!("lib/act.wgsl", "lib/matmul_io4.wgsl", "lib/matrix_scalars.wgsl", "matmul_coop.wgsl"),
    params: MatMulParams::FIELDS,
};

/// How the tile of a workgroup is cut; names as in `matmul_coop.wgsl`.
pub(super) struct Tile {
    /// Side of a matrix.
    pub(super) side: usize,
    /// Rows, columns, and K of a step.
    pub(super) size: (usize, usize, usize),
    /// Subgroups down, across, and along K.
    pub(super) grid: (usize, usize, usize),
    /// Steps of K that workgroup memory holds: 2, or 1 for less memory and one more barrier.
    pub(super) stages: usize,
    /// Workgroups that one slot of the adapter runs at a time without loss.
    pub(super) resident: usize,
}

/// Fours of x or W that one lane fetches in a step, at most.
const MAX_FETCH: usize = 16;
/// Most products a step on software adapters, which take each apart: more compile for half a minute.
const MAX_CPU_PRODUCTS: usize = 16;
/// Elements of skew behind each row of staged operands.
const SKEW: usize = 8;

impl Tile {
    pub(super) fn kernel(target: &Target) -> &'static Kernel {
        if target.matrices.is_some_and(|m| m.quads) { &QUADS } else { &SCALARS }
    }

    fn subgroups(&self) -> usize {
        self.grid.0 * self.grid.1 * self.grid.2
    }

    /// Products of matrices that one subgroup makes in a step, each of them a line of the program.
    fn products(&self) -> usize {
        let ((bm, bn, bk), (sm, sn, kg)) = (self.size, self.grid);
        (bm / sm) * (bn / sn) * (bk / kg) / self.side.pow(3)
    }

    /// Bytes of workgroup memory.
    fn memory(&self) -> usize {
        let (bm, bn, bk) = self.size;
        let halves = self.stages * (bm * (bk + SKEW) + bk * (bn + SKEW));
        let floats = self.subgroups() * self.side * (2 * self.side + 4);
        2 * halves + 4 * floats
    }

    pub(super) fn fits(&self, target: &Target, problem: &Problem) -> bool {
        let Some(matrices) = target.matrices else { return false };
        let (bm, bn, bk) = self.size;
        let lanes = self.subgroups() * matrices.subgroup as usize;
        matrices.has(self.side)
            && problem.w == DType::F16
            && problem.inner.is_multiple_of(4)
            && problem.fours
            && lanes <= target.max_invocations as usize
            && self.memory() <= target.max_workgroup_bytes as usize
            && bm.max(bn) * bk <= MAX_FETCH * 4 * lanes
            && (!target.cpu || self.products() <= MAX_CPU_PRODUCTS)
    }

    pub(super) fn specialise(&self, variant: Variant, target: &Target) -> Variant {
        let ((bm, bn, bk), (sm, sn, kg)) = (self.size, self.grid);
        let subgroup = target.matrices.map_or(0, |m| m.subgroup) as usize;
        let consts = [
            ("SG", subgroup),
            ("BM", bm),
            ("BN", bn),
            ("BK", bk),
            ("SM", sm),
            ("SN", sn),
            ("KG", kg),
            ("STAGES", self.stages),
        ];
        let variant = variant.with_subgroups().with_matrices(self.side);
        consts.into_iter().fold(variant, |v, (name, value)| v.with_u32(name, value))
    }
}
