//! The kernels of linear layers of at most [`MAX_ROWS`] rows, and how they are launched. They can normalise
//! the rows of x first, and enter k and v into a cache.

use std::ops::Range;

use super::problem::{MatMulParams, Problem};
use crate::error::Result;
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::lower::{LowerCx, Operand, to_u32};
use crate::ops::norm::{Norm, NormKind};

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
            "lib/finite.wgsl",
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
            "lib/finite.wgsl",
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

/// What rides along with a product, by operands.
#[derive(Clone, Copy, Default)]
pub(super) struct Along {
    /// A norm before it, and its gain and bias.
    pub(super) norm: Option<(Norm, usize)>,
    /// The table by which q and k are turned.
    pub(super) rotary: Option<usize>,
    /// The cache that k and v join, and the step.
    pub(super) cache: Option<(usize, usize)>,
}

impl Along {
    /// Whether there is anything.
    pub(super) fn any(&self) -> bool {
        self.norm.is_some() || self.cache.is_some()
    }
}

/// A layer that is about to be launched.
pub(super) struct Launch {
    pub(super) pair: &'static Pair,
    pub(super) variant: Variant,
    /// What does not depend on the part of the weight.
    pub(super) params: MatMulParams,
    pub(super) x: Operand,
    /// The weight, by ranges of its outputs.
    pub(super) weight: Vec<(Range<usize>, Operand)>,
    /// Operand that is the bias.
    pub(super) bias: Option<usize>,
    /// Operand that is the residual, where it is not read in place.
    pub(super) residual: Option<usize>,
    pub(super) along: Along,
}

impl Launch {
    /// Pushes a launch for each part of the weight, of so many workgroups for its columns.
    pub(super) fn push(self, cx: &mut LowerCx, groups: impl Fn(usize) -> usize) -> Result<()> {
        let Self { pair, mut variant, params: all, x, weight, bias, residual, along } = self;
        let kv = along.cache.map(|(kv, _)| cx.input(kv));
        if let Some(kv) = kv {
            to_u32("cache", kv.shape.elements())?;
            variant = variant.with_type("KV", kv.dtype).with_bool("ROTARY", along.rotary.is_some());
        }
        let norm = along.norm.map(|(norm, _)| norm);
        let kind = norm.map_or(0, |norm| if norm.kind == NormKind::Rms { 1 } else { 2 });
        let variant = variant.with_u32("NORM", kind);
        for (range, part) in weight {
            let cols = range.len();
            let params = StepParams {
                rows: all.rows,
                inner: all.inner,
                cols: cols as u32,
                first_col: range.start as u32,
                total_cols: all.total_cols,
                stride4: cols.div_ceil(4) as u32,
                residual_rows: all.residual_rows,
                tokens: all.tokens,
                batch: all.batch,
                groups: to_u32("matmul workgroups", groups(cols))?,
                positions: kv.map_or(0, |kv| kv.shape.dims()[2] as u32),
                eps: norm.map_or(0.0, |norm| norm.eps),
            };
            let or_x = |i: Option<usize>| i.map_or(x, |i| cx.operand(i));
            let gain = or_x(along.norm.map(|(_, i)| i));
            let mut binds: Vec<Operand> = vec![x, part, or_x(bias.or(along.rotary)), gain];
            let kernel = match along.cache {
                Some((kv, step)) => {
                    binds.extend([cx.operand(step), cx.operand(kv)]);
                    &pair.cache
                }
                None => {
                    binds.push(or_x(residual));
                    &pair.plain
                }
            };
            binds.push(cx.result());
            cx.dispatch(kernel, variant.clone(), params, binds, groups(cols))?;
        }
        Ok(())
    }
}
