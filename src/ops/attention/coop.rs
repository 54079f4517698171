//! Attention on cooperative matrices: tensor cores, where an adapter has them. A [`Tile`] says how
//! many queries a workgroup takes and how many keys a step; the kernel is the same for all. It
//! multiplies in f16 and adds in f32, so it is offered where q, k and v are stored in f16.

use super::problem::{AttentionParams, Problem};
use crate::kernel::{Kernel, Variant, shader};
use crate::ops::target::Target;
use crate::tensor::DType;

/// Workgroup memory as vec4s.
static QUADS: Kernel = Kernel {
    name: "attention_coop",
    source: shader!("lib/attention_io4.wgsl", "lib/matrix_quads.wgsl", "attention_coop.wgsl"),
    params: AttentionParams::FIELDS,
};
/// Workgroup memory as scalars.
static SCALARS: Kernel = Kernel {
    name: "attention_coop_scalars",
    source: shader!("lib/attention_io4.wgsl", "lib/matrix_scalars.wgsl", "attention_coop.wgsl"),
    params: AttentionParams::FIELDS,
};

/// The kernel for either kind of workgroup memory.
pub(super) fn kernels() -> [&'static Kernel; 2] {
    [&QUADS, &SCALARS]
}

/// What one workgroup takes.
pub(super) struct Tile {
    /// Side of a matrix.
    pub(super) side: usize,
    /// Subgroups, each with `side` queries.
    pub(super) subgroups: usize,
    /// Keys of a step.
    pub(super) keys: usize,
    /// Workgroups that one slot of the adapter runs at a time without loss.
    pub(super) resident: usize,
}

/// Matrices across a head, at most.
const MAX_MATRICES: usize = 16;
/// Widest head.
const MAX_WIDTH: usize = 128;
/// Elements of skew behind each row of staged operands.
const SKEW: usize = 8;

impl Tile {
    /// Queries of a workgroup.
    pub(super) fn queries(&self) -> usize {
        self.subgroups * self.side
    }

    /// Bytes of workgroup memory for heads of this width.
    fn memory(&self, width: usize, lanes: usize) -> usize {
        let (rows, keys, width) = (self.queries(), self.keys, width.next_multiple_of(self.side));
        let halves = 2 * keys * (width + SKEW) + rows * (keys + SKEW);
        let floats = rows * (keys + 4);
        2 * halves + 4 * (floats + lanes + rows + 1)
    }

    pub(super) fn fits(&self, target: &Target, problem: &Problem) -> bool {
        let Some(matrices) = target.matrices else { return false };
        let subgroup = matrices.subgroup as usize;
        // Lanes that share a row of scores take four of them at least.
        let sharing = subgroup / self.side;
        let lanes = self.subgroups * subgroup;
        matrices.has(self.side)
            && problem.types == [DType::F16; 3]
            && problem.width.is_multiple_of(4)
            && problem.width <= MAX_WIDTH
            && problem.width.div_ceil(self.side) <= MAX_MATRICES
            && (1..=self.keys / 4).contains(&sharing)
            && lanes <= target.max_invocations as usize
            && self.memory(problem.width, lanes) <= target.max_workgroup_bytes as usize
    }

    /// The kernel as a target can run it, with its constants.
    pub(super) fn specialise(&self, variant: Variant, target: &Target) -> (&'static Kernel, Variant) {
        let quads = target.matrices.is_some_and(|m| m.quads);
        let subgroup = target.matrices.map_or(0, |m| m.subgroup) as usize;
        let variant = variant
            .with_subgroups()
            .with_matrices(self.side)
            .with_u32("SG", subgroup)
            .with_u32("SUBS", self.subgroups)
            .with_u32("BC", self.keys);
        (if quads { &QUADS } else { &SCALARS }, variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::target::Matrices;

    #[test]
    fn the_bytes_of_workgroup_memory_are_what_the_kernel_declares() {
        for (side, subgroups, keys, width) in
            [(16, 4, 64, 64), (16, 4, 32, 128), (16, 2, 64, 72), (8, 4, 32, 80)]
        {
            let tile = Tile { side, subgroups, keys, resident: 1 };
            let matrices = Matrices { side8: side == 8, side16: side == 16, subgroup: 32, quads: true };
            let target = Target { matrices: Some(matrices), ..Target::portable() };
            let (_, variant) = tile.specialise(Variant::new(), &target);
            let variant = ["QV", "KV", "VV"].iter().fold(variant, |v, name| v.with_vec4(name, DType::F16));
            let variant = variant.with_type("Y", DType::F16).with_u32("D", width);
            let variant = ["BIAS", "LENGTHS", "CAUSAL", "WINDOW"]
                .iter()
                .fold(variant, |v, name| v.with_bool(name, true));
            for kernel in kernels() {
                let bytes = kernel.reflect(&variant).expect("it is valid").workgroup_bytes;
                assert_eq!(bytes as usize, tile.memory(width, subgroups * 32), "{} D={width}", kernel.name);
            }
        }
    }
}
