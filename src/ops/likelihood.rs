//! How likely a language model finds a text: the logarithm of the probability of each token, so that
//! scores of a whole vocabulary never leave the device.

use super::def::{OpDef, arity, dims, f32s};
use super::lower::{LowerCx, to_u32};
use super::norm::row_lanes;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Log-softmax of rows at one column each. Operands: logits (N,V); ids u32 below V, of which those from
/// `first` on are read. Result (N), in nats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogProbability {
    /// The id of the first row.
    pub first: usize,
}

params! {
    /// Parameters of the kernel.
    struct LogProbabilityParams { rows: u32, width: u32, first: u32 }
}

static LOG_PROBABILITY: Kernel = Kernel {
    name: "log_probability",
    source: shader!("lib/row.wgsl", "log_probability.wgsl"),
    params: LogProbabilityParams::FIELDS,
};

impl Graph {
    /// Log-softmax of rows at one column each. logits: (N,V), ids: u32, of which those from `first` on are
    /// read; returns (N).
    pub fn log_probability(&mut self, logits: Value, ids: Value, first: usize) -> Value {
        self.push(LogProbability { first }, vec![logits, ids])
    }
}

impl OpDef for LogProbability {
    fn name(&self) -> &'static str {
        "log_probability"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [rows, vocabulary] = dims("logits", &inputs[0])?;
        let [count] = dims("ids", &inputs[1])?;
        if inputs[1].dtype != DType::U32 || count < self.first + rows || vocabulary == 0 {
            return Err(format!(
                "ids are {}, expected u32 for {rows} rows from {} on",
                inputs[1], self.first
            ));
        }
        Ok(TensorDesc::f32([rows]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let ids = &inputs[1].as_u32().expect("checked by infer")[self.first..];
        let rows = f32s(inputs[0]).chunks(inputs[0].shape().width());
        let log = |(row, &id): (&[f32], &u32)| {
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            let sum: f32 = row.iter().map(|x| (x - top).exp()).sum();
            row[(id as usize).min(row.len() - 1)] - top - sum.ln()
        };
        HostTensor::f32(out.shape, rows.zip(ids).map(log).collect())
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        4 * inputs[0].shape.elements() as u64
    }

    fn wide_operands(&self) -> &[usize] {
        &[0]
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [rows, width]: [usize; 2] = dims("logits", &cx.input(0)).expect("checked by infer");
        to_u32("logits", rows * width)?;
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_u32("WG", row_lanes(cx, width));
        let params = LogProbabilityParams {
            rows: rows as u32,
            width: width as u32,
            first: to_u32("ids", self.first + rows)? - rows as u32,
        };
        let binds = vec![cx.operand(0), cx.operand(1), cx.result()];
        cx.dispatch(&LOG_PROBABILITY, variant, params, binds, rows)
    }
}
