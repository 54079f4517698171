//! Linear layers of a decode step: at most [`MAX_ROWS`] rows, so that reading the weight once is all
//! that counts. What would be launches of their own for many rows rides along: the norm before the
//! product, and for the projection to q, k and v the rotation of q and k and the entry of k and v into
//! the cache.

use super::{MatMul, Problem};
use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::NormKind;
use crate::ops::lower::{LowerCx, Operand, to_u32};

/// Most rows the kernels of this file make.
pub(crate) const MAX_ROWS: usize = 16;

params! {
    /// Parameters of the kernels of a decode step.
    struct StepParams {
        rows: u32, inner: u32, cols: u32, first_col: u32, total_cols: u32, stride4: u32,
        residual_rows: u32, tokens: u32, batch: u32, groups: u32,
        positions: u32, eps: f32,
    }
}

/// One kernel with either epilogue.
pub(super) struct Pair {
    pub(super) plain: Kernel,
    pub(super) cache: Kernel,
}

/// For GPUs: lines of lanes share K.
pub(super) static LINES: Pair = Pair {
    plain: Kernel {
        name: "matmul_step",
        source: shader!(
            "lib/act.wgsl",
            "lib/row.wgsl",
            "lib/step_io.wgsl",
            "lib/step_plain.wgsl",
            "lib/matmul_weight.wgsl",
            "lib/matmul_rows.wgsl",
            "lib/matmul_fours.wgsl",
            "matmul_step.wgsl"
        ),
        params: StepParams::FIELDS,
    },
    cache: Kernel {
        name: "matmul_step_cache",
        source: shader!(
            "lib/row.wgsl",
            "lib/step_io.wgsl",
            "lib/step_cache.wgsl",
            "lib/matmul_weight.wgsl",
            "lib/matmul_rows.wgsl",
            "lib/matmul_fours.wgsl",
            "matmul_step.wgsl"
        ),
        params: StepParams::FIELDS,
    },
};
/// For software adapters: one lane makes all rows of its columns.
pub(super) static LANES: Pair = Pair {
    plain: Kernel {
        name: "matmul_step_lanes",
        source: shader!(
            "lib/act.wgsl",
            "lib/step_io.wgsl",
            "lib/step_plain.wgsl",
            "lib/matmul_weight.wgsl",
            "lib/matmul_rows.wgsl",
            "lib/matmul_fours.wgsl",
            "matmul_step_lanes.wgsl"
        ),
        params: StepParams::FIELDS,
    },
    cache: Kernel {
        name: "matmul_step_lanes_cache",
        source: shader!(
            "lib/step_io.wgsl",
            "lib/step_cache.wgsl",
            "lib/matmul_weight.wgsl",
            "lib/matmul_rows.wgsl",
            "lib/matmul_fours.wgsl",
            "matmul_step_lanes.wgsl"
        ),
        params: StepParams::FIELDS,
    },
};

/// Rows that a kernel is made for: all on software adapters, where idle rows cost as much as others.
pub(super) fn rows(problem: &Problem, cpu: bool) -> usize {
    if cpu { problem.rows } else { problem.rows.next_power_of_two() }
}

impl MatMul {
    /// Pushes the launches of a decode step, one for each part of the weight.
    pub(super) fn lower_step(
        &self,
        cx: &mut LowerCx,
        pair: &'static Pair,
        variant: Variant,
        groups: impl Fn(usize) -> usize,
        mut params: StepParams,
    ) -> Result<()> {
        let at = self.operands();
        let variant = match self.cache {
            Some(cache) => {
                let kv = cx.input(at.kv.expect("infer counts it with `cache`"));
                params.positions = kv.shape.dims()[2] as u32;
                to_u32("cache", kv.shape.elements())?;
                variant.with_type("KV", kv.dtype).with_bool("ROTARY", cache.rotary)
            }
            None => variant,
        };
        let variant = variant.with_u32(
            "NORM",
            match self.norm.map(|n| n.kind) {
                None => 0,
                Some(NormKind::Rms) => 1,
                Some(NormKind::Layer) => 2,
            },
        );
        params.eps = self.norm.map_or(0.0, |n| n.eps);
        for (part, range) in cx.parts(1).into_iter().enumerate() {
            let cols = range.len();
            params.cols = cols as u32;
            params.first_col = range.start as u32;
            params.stride4 = cols.div_ceil(4) as u32;
            params.groups = to_u32("matmul workgroups", groups(cols))?;
            let or_x = |i: Option<usize>, cx: &LowerCx| cx.operand(i.unwrap_or(0));
            let bias = or_x(at.bias.or(at.rotary), cx);
            let mut binds: Vec<Operand> = vec![cx.operand(0), cx.part(1, part), bias, or_x(at.norm, cx)];
            let kernel = if self.cache.is_some() {
                binds.extend([or_x(at.step, cx), or_x(at.kv, cx)]);
                &pair.cache
            } else {
                let residual = at.residual.filter(|_| !cx.in_place());
                binds.push(or_x(residual, cx));
                &pair.plain
            };
            binds.push(cx.result());
            cx.dispatch(kernel, variant.clone(), params, binds, groups(cols))?;
        }
        Ok(())
    }
}
