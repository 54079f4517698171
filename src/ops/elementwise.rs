//! Elementwise ops: activations, scaling, broadcast sums and products, gated linear units.

use super::def::{OpDef, arity, f32s, is_suffix};
use super::lower::{LowerCx, to_u32};
use crate::error::Result;
use crate::graph::{Backward, Gradient, Graph, Value};
use crate::kernel::{Kernel, Variant, params, shader};
use crate::tensor::{HostTensor, TensorDesc};

/// Activation functions, as named by Hugging Face's `ACT2FN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// x·Φ(x) with the exact error function (`gelu`).
    Gelu,
    /// The tanh form (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// x·σ(1.702·x) (`quick_gelu`).
    QuickGelu,
    /// max(x, 0).
    Relu,
    /// x·σ(x) (`silu`, `swish`).
    Silu,
    /// Hyperbolic tangent.
    Tanh,
    /// Logistic function σ(x).
    Sigmoid,
}

impl Act {
    /// Code under which `lib/act.wgsl` knows the function; 0 is the identity.
    pub(super) fn code(self) -> usize {
        match self {
            Act::Gelu => 1,
            Act::GeluTanh => 2,
            Act::QuickGelu => 3,
            Act::Relu => 4,
            Act::Silu => 5,
            Act::Tanh => 6,
            Act::Sigmoid => 7,
        }
    }

    /// The function itself, evaluated in f64.
    pub fn apply(self, x: f32) -> f32 {
        let x = f64::from(x);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let y = match self {
            Act::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            Act::GeluTanh => {
                let c = (2.0 / std::f64::consts::PI).sqrt();
                0.5 * x * (1.0 + (c * (x + 0.044715 * x * x * x)).tanh())
            }
            Act::QuickGelu => x * sigmoid(1.702 * x),
            Act::Relu => return if x > 0.0 || x.is_nan() { x as f32 } else { 0.0 },
            Act::Silu => x * sigmoid(x),
            Act::Tanh => x.tanh(),
            Act::Sigmoid => sigmoid(x),
        };
        y as f32
    }
}

impl Act {
    /// Its derivative, evaluated in f64; that of `Relu` at 0 is 0.
    pub fn slope(self, x: f32) -> f32 {
        let x = f64::from(x);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let y = match self {
            Act::Gelu => {
                let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)) + x * density
            }
            Act::GeluTanh => {
                let c = (2.0 / std::f64::consts::PI).sqrt();
                let t = (c * (x + 0.044715 * x * x * x)).tanh();
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x)
            }
            Act::QuickGelu => {
                let s = sigmoid(1.702 * x);
                s + 1.702 * x * s * (1.0 - s)
            }
            Act::Relu if x.is_nan() => x,
            Act::Relu => f64::from(u8::from(x > 0.0)),
            Act::Silu => sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x))),
            Act::Tanh => 1.0 - x.tanh() * x.tanh(),
            Act::Sigmoid => sigmoid(x) * (1.0 - sigmoid(x)),
        };
        y as f32
    }
}

/// Error function: Maclaurin series near zero, Legendre's continued fraction beyond
/// (Abramowitz & Stegun 7.1.5 and 7.1.14); good to about 1e-13.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a.is_nan() {
        return x;
    }
    if a > 6.0 {
        return x.signum();
    }
    if a < 2.5 {
        let (mut term, mut sum) = (a, a);
        for n in 1..80 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return x.signum() * sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let fraction = (1..=120).rev().fold(0.0, |f, n| f64::from(n) / 2.0 / (a + f));
    let erfc = (-a * a).exp() / std::f64::consts::PI.sqrt() / (a + fraction);
    x.signum() * (1.0 - erfc)
}

/// Activation or scaling of every element: y = factor · act(x).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unary {
    /// The activation; `None` is the identity.
    pub act: Option<Act>,
    /// Factor applied afterwards.
    pub factor: f32,
}

/// Which elementwise operation a [`Binary`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryKind {
    /// a + b
    Add,
    /// a · b
    Mul,
}

/// a ∘ b where b's shape is a suffix of a's, broadcast over outer dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary {
    /// Sum or product.
    pub kind: BinaryKind,
}

/// Gated linear unit: (…, 2F) to (…, F), act(first half) · second half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glu {
    /// Activation of the gate.
    pub act: Act,
}

params! {
    /// Parameters of the elementwise kernels.
    struct ElementwiseParams { count: u32, period: u32, factor: f32 }
}

static UNARY: Kernel = Kernel {
    name: "unary",
    source: shader!("lib/finite.wgsl", "lib/act.wgsl", "unary.wgsl"),
    params: ElementwiseParams::FIELDS,
};
static BINARY: Kernel =
    Kernel { name: "binary", source: shader!("binary.wgsl"), params: ElementwiseParams::FIELDS };
static GLU: Kernel = Kernel {
    name: "glu",
    source: shader!("lib/finite.wgsl", "lib/act.wgsl", "glu.wgsl"),
    params: ElementwiseParams::FIELDS,
};

/// Invocations of a workgroup of the elementwise and layout kernels.
pub(super) const LANES: usize = 64;

impl Graph {
    /// Applies an activation to every element.
    pub fn act(&mut self, x: Value, act: Act) -> Value {
        self.push(Unary { act: Some(act), factor: 1.0 }, vec![x])
    }

    /// Multiplies every element by a number.
    pub fn scale(&mut self, x: Value, factor: f32) -> Value {
        self.push(Unary { act: None, factor }, vec![x])
    }

    /// a + b; b's shape is a suffix of a's.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.push(Binary { kind: BinaryKind::Add }, vec![a, b])
    }

    /// a · b; b's shape is a suffix of a's.
    pub fn mul(&mut self, a: Value, b: Value) -> Value {
        self.push(Binary { kind: BinaryKind::Mul }, vec![a, b])
    }

    /// act(first half) · second half of every row. x: (…, 2F); returns (…, F).
    pub fn glu(&mut self, x: Value, act: Act) -> Value {
        self.push(Glu { act }, vec![x])
    }
}

fn groups(elements: usize) -> usize {
    elements.div_ceil(LANES)
}

impl OpDef for Unary {
    fn name(&self) -> &'static str {
        match self.act {
            Some(_) => "act",
            None => "scale",
        }
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let f = |&x: &f32| self.factor * self.act.map_or(x, |a| a.apply(x));
        HostTensor::f32(out.shape, f32s(inputs[0]).iter().map(f).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        out.shape.elements() as u64
    }

    fn narrows(&self) -> bool {
        true
    }

    fn row_operands(&self, _inputs: &[TensorDesc]) -> Vec<usize> {
        vec![0]
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let (x, dy) = (at.inputs[0], at.dy);
        Some(vec![Gradient::Whole(match self.act {
            Some(act) => at.g.act_grad(x, dy, act, self.factor),
            None => at.g.scale(dy, self.factor),
        })])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = cx.output().shape.elements();
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_u32("ACT", self.act.map_or(0, Act::code))
            .with_u32("WG", LANES);
        let params = ElementwiseParams { count: to_u32("elements", count)?, period: 1, factor: self.factor };
        cx.dispatch(&UNARY, variant, params, vec![cx.operand(0), cx.result()], groups(count))
    }
}

impl OpDef for Binary {
    fn name(&self) -> &'static str {
        match self.kind {
            BinaryKind::Add => "add",
            BinaryKind::Mul => "mul",
        }
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 2)?;
        if !is_suffix(&inputs[1].shape, &inputs[0].shape) {
            return Err(format!("{} does not broadcast to {}", inputs[1].shape, inputs[0].shape));
        }
        Ok(TensorDesc::f32(inputs[0].shape))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let (a, b) = (f32s(inputs[0]), f32s(inputs[1]));
        let f = |(i, &a): (usize, &f32)| match self.kind {
            BinaryKind::Add => a + b[i % b.len()],
            BinaryKind::Mul => a * b[i % b.len()],
        };
        HostTensor::f32(out.shape, a.iter().enumerate().map(f).collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        out.shape.elements() as u64
    }

    fn row_operands(&self, inputs: &[TensorDesc]) -> Vec<usize> {
        let [a, b] = [inputs[0].shape, inputs[1].shape];
        match (a == b, b.elements() == b.width()) {
            (true, _) => vec![0, 1],
            (false, true) => vec![0],
            (false, false) => vec![],
        }
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let ([a, b], dy) = ([at.inputs[0], at.inputs[1]], at.dy);
        let shape = at.g.shape(b);
        Some(match self.kind {
            BinaryKind::Add => vec![at.of(0, |_| dy), at.of(1, |g| g.sum_to(dy, shape))],
            BinaryKind::Mul => {
                let da = at.of(0, |g| g.mul(dy, b));
                let db = at.of(1, |g| {
                    let product = g.mul(dy, a);
                    g.sum_to(product, shape)
                });
                vec![da, db]
            }
        })
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = cx.output().shape.elements();
        let variant = Variant::new()
            .with_type("A", cx.input(0).dtype)
            .with_type("B", cx.input(1).dtype)
            .with_type("Y", cx.output().dtype)
            .with_bool("MUL", self.kind == BinaryKind::Mul)
            .with_u32("WG", LANES);
        let params = ElementwiseParams {
            count: to_u32("elements", count)?,
            period: cx.input(1).shape.elements() as u32,
            factor: 1.0,
        };
        cx.dispatch(&BINARY, variant, params, vec![cx.operand(0), cx.operand(1), cx.result()], groups(count))
    }
}

impl OpDef for Glu {
    fn name(&self) -> &'static str {
        "glu"
    }

    fn infer(&self, inputs: &[TensorDesc]) -> Result<TensorDesc, String> {
        arity(inputs, 1)?;
        let width = inputs[0].shape.width();
        if !width.is_multiple_of(2) {
            return Err(format!("width {width} does not halve"));
        }
        Ok(TensorDesc::f32(inputs[0].shape.with_width(width / 2)))
    }

    fn reference(&self, inputs: &[&HostTensor], out: &TensorDesc) -> HostTensor {
        let f = out.shape.width();
        let rows = f32s(inputs[0]).chunks(2 * f);
        let y = rows.flat_map(|row| (0..f).map(|i| self.act.apply(row[i]) * row[f + i]));
        HostTensor::f32(out.shape, y.collect())
    }

    fn flops(&self, _inputs: &[TensorDesc], out: &TensorDesc) -> u64 {
        2 * out.shape.elements() as u64
    }

    fn narrows(&self) -> bool {
        true
    }

    fn row_operands(&self, _inputs: &[TensorDesc]) -> Vec<usize> {
        vec![0]
    }

    fn vjp(&self, at: &mut Backward) -> Option<Vec<Gradient>> {
        let (x, dy) = (at.inputs[0], at.dy);
        Some(vec![Gradient::Whole(at.g.glu_grad(x, dy, self.act))])
    }

    fn lower(&self, cx: &mut LowerCx) -> Result<()> {
        let count = cx.output().shape.elements();
        let variant = Variant::new()
            .with_type("X", cx.input(0).dtype)
            .with_type("Y", cx.output().dtype)
            .with_u32("ACT", self.act.code())
            .with_u32("WG", LANES);
        let params = ElementwiseParams {
            count: to_u32("elements", 2 * count)? / 2,
            period: cx.output().shape.width() as u32,
            factor: 1.0,
        };
        cx.dispatch(&GLU, variant, params, vec![cx.operand(0), cx.result()], groups(count))
    }
}

#[cfg(test)]
mod tests {
    use super::erf;

    #[test]
    fn erf_matches_tabulated_values() {
        // Abramowitz & Stegun, table 7.1.
        for (x, want) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)]
        {
            assert!((erf(x) - want).abs() < 1e-9, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + want).abs() < 1e-9);
        }
        assert!((erf(2.499_999) - erf(2.500_001)).abs() < 1e-7);
        assert!((1.0 - erf(3.0) - 2.209_049_70e-5).abs() < 1e-12);
    }
}
