//! Losses: one number a row, then their weighted sum, which gradients begin at.

use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::ops::def::{OpDef, arity, dims, f32s};
use crate::ops::elementwise::LANES;
use crate::ops::lower::{LowerCx, to_u32};
use crate::ops::norm::row_lanes;
use crate::tensor::{DType, HostTensor, TensorDesc};

/// Cross entropy of rows of scores with one class each. Operands: logits (N,V); labels (N) u32. Result (N), in
/// nats. A label of V or more is ignored: its row counts 0, whatever its logits are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropy {
    /// Share of the target that is spread over all classes (Szegedy et al. 2016).
    pub smoothing: f32,
}

/// Gradient of [`CrossEntropy`] with regard to the logits. Operands: logits (N,V); labels (N) u32; dy (N).
/// Result (N,V); rows of ignored labels are zeros, whatever dy is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossEntropyGrad {
    /// As the loss has it.
    pub smoothing: f32,
}

/// Mean of the squared difference of rows. Operands: prediction (N,K), target (N,K). Result (N).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SquaredError;

/// Gradient of [`SquaredError`] with regard to its first operand. Operands: prediction (N,K), target (N,K),
/// dy (N). Result (N,K).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SquaredErrorGrad;

/// Sum of rows by weight. Operands: x (N), weights (N). Result (1). A weight of exactly 0 leaves its row out,
/// whatever x is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightedSum;

params! {
    /// Parameters of the kernels of cross entropy.
    struct CrossEntropyParams { rows: u32, width: u32, smoothing: f32 }
}

params! {
    /// Parameters of the squared error and of the weighted sum, which is one row.
    struct RowParams { rows: u32, width: u32 }
}

params! {
    /// Parameters of the squared error's gradient.
    struct SquaredErrorGradParams { count: u32, width: u32, factor: f32 }
}

static CROSS_ENTROPY: Kernel = Kernel {
    name: "cross_entropy",
    source: shader!("lib/row.wgsl", "cross_entropy.wgsl"),
    params: CrossEntropyParams::FIELDS,
};
static CROSS_ENTROPY_GRAD: Kernel = Kernel {
    name: "cross_entropy_grad",
    source: shader!("lib/row.wgsl", "cross_entropy_grad.wgsl"),
    params: CrossEntropyParams::FIELDS,
};
static SQUARED_ERROR: Kernel = Kernel {
    name: "squared_error",
    source: shader!("lib/row.wgsl", "squared_error.wgsl"),
    params: RowParams::FIELDS,
};
static SQUARED_ERROR_GRAD: Kernel = Kernel {
    name: "squared_error_grad",
    source: shader!("squared_error_grad.wgsl"),
    params: SquaredErrorGradParams::FIELDS,
};
static WEIGHTED_SUM: Kernel = Kernel {
    name: "weighted_sum",
    source: shader!("lib/row.wgsl", "weighted_sum.wgsl"),
    params: RowParams::FIELDS,
};

impl Graph {
    /// Cross entropy of rows with one class each. logits: (N,V), labels: (N) u32, those of V or more ignored;
    /// returns (N).
    pub fn cross_entropy(&mut self, logits: Value, labels: Value, smoothing: f32) -> Value {
        self.push(CrossEntropy { smoothing }, vec![logits, labels])
    }

    /// Mean of the squared difference of rows. Both (N,K); returns (N).
    pub fn squared_error(&mut self, prediction: Value, target: Value) -> Value {
        self.push(SquaredError, vec![prediction, target])
    }

    /// Sum of rows by weight: a loss to differentiate. Both (N); returns (1).
    pub fn weighted_sum(&mut self, x: Value, weights: Value) -> Value {
        self.push(WeightedSum, vec![x, weights])
    }
}

/// N and V of logits that have a label each.
fn labelled(inputs: &[TensorDesc], smoothing: f32) -> Result<[usize; 2], String> {
    let [rows, classes] = dims("logits", &inputs[0])?;
    if inputs[1].dtype != DType::U32 || inputs[1].shape.dims() != [rows] || classes == 0 {
        return Err(format!(
            "labels are {}, expected one u32 for each row of {}",
            inputs[1], inputs[0].shape
        ));
    }
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(format!("label smoothing {smoothing} is not between 0 and 1"));
    }
    Ok([rows, classes])
}

/// One number for each row.
fn for_each_row(what: &str, desc: &TensorDesc, rows: usize) -> Result<(), String> {
    if desc.shape.dims() == [rows] { Ok(()) } else { Err(format!("{what} is {desc}, expected [{rows}]")) }
}

/// Logarithms of the softmax of a row.
fn log_softmax(row: &[f32]) -> Vec<f32> {
    let top = row.iter().copied().fold(f32::MIN, f32::max);
    let sum: f32 = row.iter().map(|x| (x - top).exp()).sum();
    row.iter().map(|x| x - top - sum.ln()).collect()
}

impl OpDef for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [rows, _] = labelled(inputs, self.smoothing)?;
        Ok(TensorDesc::f32([rows]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let labels = inputs[1].as_u32().expect("checked by infer");
        let rows = f32s(inputs[0]).chunks(inputs[0].shape().width());
        let loss = |(row, &label): (&[f32], &u32)| {
            if label as usize >= row.len() {
                return 0.0;
            }
            let logs = log_softmax(row);
            let hard = -logs[label as usize];
            if self.smoothing == 0.0 {
                return hard;
            }
            let mean = -logs.iter().sum::<f32>() / row.len() as f32;
            (1.0 - self.smoothing) * hard + self.smoothing * mean
        };
        HostTensor::f32(out.shape, rows.zip(labels).map(loss).collect())
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        4 * inputs[0].shape.elements() as u64
    }

    fn wide_operands(&self) -> &[usize] {
        &[0]
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let operands = vec![at.inputs[0], at.inputs[1], at.dy];
        let op = CrossEntropyGrad { smoothing: self.smoothing };
        Some(vec![at.of(0, |g| g.push(op, operands)), Gradient::None])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [rows, width]: [usize; 2] = dims("logits", &cx.input(0)).expect("checked by infer");
        to_u32("logits", rows * width)?;
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_bool("SMOOTHED", self.smoothing != 0.0)
            .with_u32("WG", row_lanes(cx, width));
        let params = CrossEntropyParams { rows: rows as u32, width: width as u32, smoothing: self.smoothing };
        let binds = vec![cx.operand(0), cx.operand(1), cx.result()];
        cx.dispatch(&CROSS_ENTROPY, variant, params, binds, rows)
    }
}

impl OpDef for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 3)?;
        let [rows, _] = labelled(inputs, self.smoothing)?;
        for_each_row("dy", &inputs[2], rows)?;
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let labels = inputs[1].as_u32().expect("checked by infer");
        let width = out.shape.width();
        let mut y = vec![0.0; out.shape.elements()];
        let rows = y.chunks_mut(width).zip(f32s(inputs[0]).chunks(width));
        for (((y, x), &label), dy) in rows.zip(labels).zip(f32s(inputs[2])) {
            if label as usize >= width {
                continue;
            }
            for (i, log) in log_softmax(x).into_iter().enumerate() {
                let hard = if i == label as usize { 1.0 - self.smoothing } else { 0.0 };
                y[i] = (log.exp() - (hard + self.smoothing / width as f32)) * dy;
            }
        }
        HostTensor::f32(out.shape, y)
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        8 * inputs[0].shape.elements() as u64
    }

    fn wide_operands(&self) -> &[usize] {
        &[0]
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [rows, width]: [usize; 2] = dims("logits", &cx.input(0)).expect("checked by infer");
        to_u32("logits", rows * width)?;
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("D", cx.input(2).dtype)
            .with_u32("WG", row_lanes(cx, width));
        let params = CrossEntropyParams { rows: rows as u32, width: width as u32, smoothing: self.smoothing };
        let binds = vec![cx.operand(0), cx.operand(1), cx.operand(2), cx.result()];
        cx.dispatch(&CROSS_ENTROPY_GRAD, variant, params, binds, rows)
    }
}

/// N and K of a prediction and what it should be.
fn pair(inputs: &[TensorDesc]) -> Result<[usize; 2], String> {
    let [rows, width] = dims("prediction", &inputs[0])?;
    if inputs[1].shape != inputs[0].shape || width == 0 {
        return Err(format!("prediction has shape {}, target has {}", inputs[0].shape, inputs[1].shape));
    }
    Ok([rows, width])
}

impl OpDef for SquaredError {
    fn name(&self) -> &'static str {
        "squared_error"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [rows, _] = pair(inputs)?;
        Ok(TensorDesc::f32([rows]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let width = inputs[0].shape().width();
        let rows = f32s(inputs[0]).chunks(width).zip(f32s(inputs[1]).chunks(width));
        let mean = |(x, t): (&[f32], &[f32])| {
            x.iter().zip(t).map(|(x, t)| (x - t) * (x - t)).sum::<f32>() / width as f32
        };
        HostTensor::f32(out.shape, rows.map(mean).collect())
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        3 * inputs[0].shape.elements() as u64
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let ([x, t], dy) = ([at.inputs[0], at.inputs[1]], at.dy);
        let of_x = at.of(0, |g| g.push(SquaredErrorGrad, vec![x, t, dy]));
        // The loss is the same with the two exchanged.
        let of_t = at.of(1, |g| g.push(SquaredErrorGrad, vec![t, x, dy]));
        Some(vec![of_x, of_t])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let [rows, width]: [usize; 2] = dims("prediction", &cx.input(0)).expect("checked by infer");
        to_u32("prediction", rows * width)?;
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("T", cx.input(1).dtype)
            .with_u32("WG", row_lanes(cx, width));
        let params = RowParams { rows: rows as u32, width: width as u32 };
        let binds = vec![cx.operand(0), cx.operand(1), cx.result()];
        cx.dispatch(&SQUARED_ERROR, variant, params, binds, rows)
    }
}

impl OpDef for SquaredErrorGrad {
    fn name(&self) -> &'static str {
        "squared_error_grad"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 3)?;
        let [rows, _] = pair(inputs)?;
        for_each_row("dy", &inputs[2], rows)?;
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let (width, dy) = (out.shape.width(), f32s(inputs[2]));
        let factor = 2.0 / width as f32;
        let pairs = f32s(inputs[0]).iter().zip(f32s(inputs[1])).enumerate();
        HostTensor::f32(out.shape, pairs.map(|(i, (x, t))| factor * (x - t) * dy[i / width]).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        3 * out.shape.elements() as u64
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let (count, width) = (cx.output().shape.elements(), cx.output().shape.width());
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("T", cx.input(1).dtype)
            .with_type("D", cx.input(2).dtype)
            .with_u32("WG", LANES);
        let params = SquaredErrorGradParams {
            count: to_u32("prediction", count)?,
            width: width as u32,
            factor: 2.0 / width as f32,
        };
        let binds = vec![cx.operand(0), cx.operand(1), cx.operand(2), cx.result()];
        cx.dispatch(&SQUARED_ERROR_GRAD, variant, params, binds, count.div_ceil(LANES))
    }
}

impl OpDef for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        let [rows] = dims("x", &inputs[0])?;
        for_each_row("weights", &inputs[1], rows)?;
        Ok(TensorDesc::f32([1]))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let rows = f32s(inputs[0]).iter().zip(f32s(inputs[1]));
        let sum = rows.filter(|(_, w)| **w != 0.0).map(|(x, w)| x * w).sum();
        HostTensor::f32(out.shape, vec![sum])
    }

    fn flops(&self, inputs: &[TensorDesc], _out: &TensorDesc) -> u64 {
        2 * inputs[0].shape.elements() as u64
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        // Weights are data: a loss that has computed some is not differentiated wrongly in silence.
        if at.needed[1] {
            return None;
        }
        let (weights, dy) = (at.inputs[1], at.dy);
        Some(vec![at.of(0, |g| g.mul(weights, dy)), Gradient::None])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let rows = cx.input(0).shape.elements();
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("W", cx.input(1).dtype)
            .with_u32("WG", row_lanes(cx, rows));
        let params = RowParams { rows: 1, width: to_u32("rows", rows)? };
        let binds = vec![cx.operand(0), cx.operand(1), cx.result()];
        cx.dispatch(&WEIGHTED_SUM, variant, params, binds, 1)
    }
}
