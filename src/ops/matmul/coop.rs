//! The variants on cooperative matrices: tensor cores, where an adapter has them. A [`Tile`] says how
//! one workgroup's share is cut; the kernel is the same for all. They multiply in f16 and add in
//! f32, so they are offered where the weight is stored in f16 and not otherwise.

use super::problem::{ConvParams, MatMulParams, Pair, Problem};
use crate::kernel::{Kernel, Variant, shader};
use crate::ops::target::Target;
use crate::tensor::DType;

/// A kernel as it computes linear layers, and as it computes convolutions.
macro_rules! pair {
    ($linear:literal, $conv:literal, $memory:literal) => {
        Pair {
            linear: Kernel {
                name: $linear,
                source: shader!(
                    "lib/finite.wgsl",
                    "lib/act.wgsl",
                    "lib/matmul_io4.wgsl",
                    "lib/matmul_rows.wgsl",
                    "lib/matmul_weight.wgsl",
                    $memory,
                    "matmul_coop.wgsl"
                ),
                params: MatMulParams::FIELDS,
            },
            conv: Kernel {
                name: $conv,
                source: shader!(
                    "lib/finite.wgsl",
                    "lib/act.wgsl",
                    "lib/conv_params.wgsl",
                    "lib/conv_io4.wgsl",
                    "lib/conv_rows.wgsl",
                    "lib/matmul_weight.wgsl",
                    $memory,
                    "matmul_coop.wgsl"
                ),
                params: ConvParams::FIELDS,
            },
        }
    };
}

/// Workgroup memory as vec4s.
pub(super) static QUADS: Pair = pair!("matmul_coop", "conv_coop", "lib/matrix_quads.wgsl");
/// Workgroup memory as scalars.
pub(super) static SCALARS: Pair =
    pair!("matmul_coop_scalars", "conv_coop_scalars", "lib/matrix_scalars.wgsl");

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
    pub(super) fn kernels(target: &Target) -> &'static Pair {
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

    /// For rows of `inner` elements, or taps of as many.
    pub(super) fn specialise(&self, variant: Variant, target: &Target, inner: usize) -> Variant {
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
        let variant = variant.with_bool("WHOLE", inner.is_multiple_of(bk));
        consts.into_iter().fold(variant, |v, (name, value)| v.with_u32(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::super::variants::candidates;
    use super::*;
    use crate::ops::target::Matrices;

    fn target(side16: bool, cpu: bool) -> Target {
        let matrices = Matrices { side8: !side16, side16, subgroup: if cpu { 8 } else { 32 }, quads: true };
        Target {
            f16: true,
            cpu,
            max_workgroup_bytes: if side16 { 49_152 } else { 32_768 },
            max_invocations: 1024,
            workgroup_slots: 128,
            subgroup: matrices.subgroup,
            matrices: Some(matrices),
            ..Target::portable()
        }
    }

    fn names(target: &Target, rows: usize, inner: usize, cols: usize, w: DType) -> Vec<&'static str> {
        let needs = Default::default();
        let problem = Problem { rows, inner, cols, x: DType::F16, w, y: DType::F16, fours: true, needs };
        candidates(target, &problem).names
    }

    #[test]
    fn the_bytes_of_workgroup_memory_are_what_the_kernel_declares() {
        for (side, size, grid, stages) in [
            (16, (128, 256, 16), (2, 4, 1), 2),
            (16, (32, 64, 128), (1, 2, 4), 1),
            (8, (32, 64, 16), (2, 2, 1), 1),
        ] {
            let tile = Tile { side, size, grid, stages, resident: 1 };
            let mut variant = tile.specialise(Variant::new(), &target(side == 16, false), 36);
            for name in ["W", "R", "Y"] {
                variant = variant.with_type(name, DType::F16);
            }
            variant =
                variant.with_vec4("XV", DType::F16).with_u32("ACT", 0).with_u32("H", 1).with_u32("D", 4);
            for name in ["BIAS", "SCALE", "RESIDUAL", "IN_PLACE", "HEADS", "GATED", "SLABS"] {
                variant = variant.with_bool(name, false);
            }
            for kernel in [&QUADS.linear, &SCALARS.linear, &QUADS.conv, &SCALARS.conv] {
                let bytes = kernel.reflect(&variant).expect("it is valid").workgroup_bytes;
                assert_eq!(bytes as usize, tile.memory(), "{} {size:?}", kernel.name);
            }
        }
    }

    #[test]
    fn the_tile_grows_with_the_work() {
        let target = target(true, false);
        for (rows, inner, cols, first) in [
            (197, 768, 768, "coop32x64"),
            (197, 3072, 768, "coop32x64"),
            (1576, 768, 768, "coop64x64"),
            (12_608, 768, 3072, "coop128x256"),
            (4096, 4096, 4096, "coop128x256"),
        ] {
            assert_eq!(names(&target, rows, inner, cols, DType::F16)[0], first, "{rows}x{inner}x{cols}");
        }
    }

    #[test]
    fn they_are_offered_for_f16_weights_and_whole_fours_only() {
        let coop = |names: Vec<&str>| names.iter().any(|n| n.starts_with("coop"));
        let gpu = target(true, false);
        assert!(coop(names(&gpu, 64, 36, 64, DType::F16)));
        assert!(!coop(names(&gpu, 64, 36, 64, DType::F32)));
        assert!(!coop(names(&gpu, 64, 35, 64, DType::F16)));
        assert!(!coop(names(&Target { matrices: None, ..gpu }, 64, 36, 64, DType::F16)));
    }

    #[test]
    fn software_adapters_take_them_only_when_told() {
        let names = names(&target(false, true), 64, 64, 64, DType::F16);
        let first = names.iter().position(|n| n.starts_with("coop")).expect("they can run");
        assert!(names[first..].iter().all(|n| n.starts_with("coop")), "{names:?}");
    }
}
