//! Cases of what only training needs: losses and their gradients, clipping, optimizers. What a step leaves in
//! its states is compared, too.

use super::case::{Case, case, noise, x};
use super::sequence::{States, with_states};
use crate::graph::{Graph, Storage, Value, differentiate};
use crate::ops::{AdamW, CrossEntropyGrad, Lion, Sgd, SquaredErrorGrad};
use crate::tensor::{DType, HostTensor, Shape, TensorDesc};

pub(super) fn all(cases: &mut Vec<Case>) {
    cross_entropy(cases);
    squared_error(cases);
    weighted_sum(cases);
    clipping(cases);
    optimizers(cases);
    blends(cases);
}

fn labels(g: &mut Graph, rows: usize) -> Value {
    g.input("labels", TensorDesc::new(DType::U32, [rows]))
}

/// A loss by other weights than 1, so that a gradient must carry them.
fn weighted(g: &mut Graph, losses: Value) -> Value {
    let shape = g.shape(losses);
    let weights = g.input("weights", TensorDesc::f32(shape));
    g.weighted_sum(losses, weights)
}

fn gradient(g: &mut Graph, loss: Value, of: Value) -> Value {
    differentiate(g, loss, &[of]).expect("these ops have gradients")[0]
}

/// Of 7 classes, most labels are ignored.
fn cross_entropy(cases: &mut Vec<Case>) {
    for (rows, width, smoothing) in [
        (1, 1, 0.0),
        (3, 2, 0.1),
        (29, 7, 0.0),
        (29, 7, 0.1),
        (5, 31, 0.2),
        (4, 33, 0.0),
        (7, 257, 0.1),
        (2, 1031, 0.0),
        (64, 1000, 0.1),
    ] {
        let logits = |g: &mut Graph| {
            let x = x(g, [rows, width]);
            g.scale(x, 8.0)
        };
        cases.push(case(format!("cross_entropy {rows}x{width}, {smoothing}"), 1e-5, |g| {
            let (logits, labels) = (logits(g), labels(g, rows));
            g.cross_entropy(logits, labels, smoothing)
        }));
        cases.push(case(format!("cross_entropy_grad {rows}x{width}, {smoothing}"), 1e-5, |g| {
            let (logits, labels) = (logits(g), labels(g, rows));
            let dy = g.input("dy", TensorDesc::f32([rows]));
            let dy = g.scale(dy, 2.0);
            g.push(CrossEntropyGrad { smoothing }, vec![logits, labels, dy])
        }));
    }
    cases.push(case("gradient through cross_entropy 29x7", 1e-5, |g| {
        let (x, labels) = (x(g, [29, 7]), labels(g, 29));
        let losses = g.cross_entropy(x, labels, 0.1);
        let loss = weighted(g, losses);
        gradient(g, loss, x)
    }));
    for of_logits in [false, true] {
        let name = format!("cross_entropy of ignored rows that are infinite, gradient={of_logits}");
        cases.push(with_states(name, 1e-5, |s| {
            let labels = HostTensor::u32([4], vec![0, u32::MAX, 6, 7]);
            let labels = s.state("labels", labels, Storage::AsDeclared);
            let logits = infinite(s, "logits", [4, 7].into());
            if !of_logits {
                return s.graph.cross_entropy(logits, labels, 0.1);
            }
            let dy = infinite(s, "dy", [4].into());
            s.graph.push(CrossEntropyGrad { smoothing: 0.1 }, vec![logits, labels, dy])
        }));
    }
}

/// Noise, with infinity in rows 1 and 3. A state with infinity in it would be compared as one.
fn infinite(s: &mut States, name: &str, shape: Shape) -> Value {
    let mut values = noise(21, shape.elements());
    let width = shape.elements() / shape.dims()[0];
    for (i, v) in values.iter_mut().enumerate() {
        *v = if i / width % 2 == 1 { 1e30 } else { *v * 1e-30 };
    }
    let v = s.state(name, HostTensor::f32(shape, values), Storage::AsDeclared);
    s.graph.scale(v, 1e30)
}

fn squared_error(cases: &mut Vec<Case>) {
    for (rows, width) in [(1, 1), (3, 2), (5, 31), (4, 33), (7, 255), (3, 257), (2, 1031), (196, 768)] {
        let operands = |g: &mut Graph| {
            let x = x(g, [rows, width]);
            [g.scale(x, 2.0), g.input("target", TensorDesc::f32([rows, width]))]
        };
        cases.push(case(format!("squared_error {rows}x{width}"), 1e-5, |g| {
            let [x, target] = operands(g);
            g.squared_error(x, target)
        }));
        cases.push(case(format!("squared_error_grad {rows}x{width}"), 1e-5, |g| {
            let [x, target] = operands(g);
            let dy = g.input("dy", TensorDesc::f32([rows]));
            g.push(SquaredErrorGrad, vec![x, target, dy])
        }));
    }
    for of_target in [false, true] {
        cases.push(case(format!("gradient through squared_error 5x31, of target={of_target}"), 1e-5, |g| {
            let [x, target] = [x(g, [5, 31]), g.input("target", TensorDesc::f32([5, 31]))];
            let losses = g.squared_error(x, target);
            let loss = weighted(g, losses);
            gradient(g, loss, if of_target { target } else { x })
        }));
    }
}

fn weighted_sum(cases: &mut Vec<Case>) {
    for rows in [1, 7, 31, 257, 1031] {
        cases.push(case(format!("weighted_sum {rows}"), 1e-5, |g| {
            let x = x(g, [rows]);
            weighted(g, x)
        }));
    }
    cases.push(with_states("weighted_sum without rows that are infinite", 1e-5, |s| {
        let x = infinite(s, "x", [5].into());
        let weights = HostTensor::f32([5], vec![0.5, 0.0, 2.0, -0.0, 0.25]);
        let weights = s.state("weights", weights, Storage::AsDeclared);
        s.graph.weighted_sum(x, weights)
    }));
}

fn clipping(cases: &mut Vec<Case>) {
    for (count, index, max_norm) in [
        (1, 0, 1.0),
        (7, 2, 0.0),
        (257, 1, 5.0),
        (8191, 0, 0.5),
        (8192, 1, 9e9),
        (8193, 2, 1.0),
        (100_003, 1, 2.0),
    ] {
        cases.push(with_states(format!("square_sum of {count}, clipped to {max_norm}"), 1e-5, |s| {
            let sums = s.state("sums", HostTensor::f32([3], vec![1.0, 2.0, 3.0]), Storage::AsDeclared);
            let x = x(s.graph, [count]);
            s.graph.square_sum(x, sums, index);
            s.graph.clip_factor(sums, max_norm)
        }));
    }
    for count in [1, 31, 257, 1031] {
        cases.push(case(format!("clip_factor {count}"), 1e-5, |g| {
            let x = x(g, [count]);
            let sums = g.mul(x, x);
            g.clip_factor(sums, 1.0)
        }));
    }
    cases.push(with_states("clipped step", 1e-5, |s| {
        let sums = s.state("sums", HostTensor::f32([2], vec![7.0, 7.0]), Storage::AsDeclared);
        let rates = s.state("rates", HostTensor::f32([4], vec![0.1, 0.0, 0.0, 0.0]), Storage::AsDeclared);
        let gradients = [("x", 35), ("z", 3)].map(|(name, n)| s.graph.input(name, TensorDesc::f32([n])));
        for (i, gradient) in gradients.into_iter().enumerate() {
            s.graph.square_sum(gradient, sums, i);
        }
        let clip = s.graph.clip_factor(sums, 0.5);
        for (i, gradient) in gradients.into_iter().enumerate() {
            let shape = s.graph.shape(gradient);
            let states = ["parameter", "buffer"].map(|name| moment(s, &format!("{name} {i}"), shape));
            let op = Sgd { momentum: 0.9, decay: 0.1, ..Sgd::default() };
            s.graph.sgd(op, states, [gradient, clip, rates]);
        }
        clip
    }));
}

/// A state that is kept in part, kept whole, and begun anew whatever it held.
fn blends(cases: &mut Vec<Case>) {
    for (count, shares) in
        [(1, [0.9, 0.1]), (65, [1.0, 0.25]), (257, [0.0, 0.5]), (1031, [0.999, 0.001]), (70_001, [0.5, -2.0])]
    {
        cases.push(with_states(format!("blend {count}, {shares:?}"), 1e-6, |s| {
            let held = if shares[0] == 0.0 { vec![f32::NAN; count] } else { noise(5, count) };
            let state = s.state("average", HostTensor::f32([count], held), Storage::AsDeclared);
            // Narrowed where activations are.
            let value = x(s.graph, [count]);
            let value = s.graph.scale(value, 0.5);
            let shares = s.state("shares", HostTensor::f32([2], shares.to_vec()), Storage::AsDeclared);
            s.graph.blend(state, value, shares);
            value
        }));
    }
}

/// A state of numbers of 0 and more.
fn moment(s: &mut States, name: &str, shape: Shape) -> Value {
    let values = noise(name.len() as u64, shape.elements()).iter().map(|v| v.abs()).collect();
    s.state(name, HostTensor::f32(shape, values), Storage::AsDeclared)
}

/// A gradient, a factor it is clipped by, and rates.
fn step_operands(s: &mut States, shape: Shape, clip: [f32; 3], rates: HostTensor) -> [Value; 3] {
    // Narrowed where activations are, and of another shape than the parameter.
    let gradient = x(s.graph, [shape.elements()]);
    let gradient = s.graph.scale(gradient, 0.5);
    let clip = s.state("clip", HostTensor::f32([3], clip.to_vec()), Storage::AsDeclared);
    [gradient, clip, s.state("rates", rates, Storage::AsDeclared)]
}

fn optimizers(cases: &mut Vec<Case>) {
    let adamw = AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-6, decay: 0.05, scale: 0.75 };
    let on = [0.7, 3.0, 1.0];
    for (dims, clip) in [
        (vec![1], on),
        (vec![7, 9], on),
        (vec![65], [1.0, 0.1, 1.0]),
        (vec![5, 3, 131], on),
        (vec![384, 384], on),
        (vec![9, 8], [0.0, 3.0, 0.0]),
    ] {
        let shape = Shape::new(&dims);
        let rates = HostTensor::f32([4], vec![0.1, 0.0, 0.0, 0.0]);
        let called =
            |op: &str| format!("{op} {dims:?}{}", if clip[2] == 0.0 { ", norm not finite" } else { "" });
        cases.push(with_states(called("adamw"), 1e-5, |s| {
            let states = ["parameter", "first", "second"].map(|name| moment(s, name, shape));
            let others = step_operands(s, shape, clip, adamw.rates(0.1, 3));
            s.graph.adamw(adamw, states, others);
            others[0]
        }));
        for nesterov in [false, true] {
            let name = called(if nesterov { "sgd nesterov" } else { "sgd" });
            cases.push(with_states(name, 1e-5, |s| {
                let states = ["parameter", "buffer"].map(|name| moment(s, name, shape));
                let others = step_operands(s, shape, clip, rates.clone());
                s.graph.sgd(Sgd { momentum: 0.9, decay: 0.02, nesterov, scale: 0.5 }, states, others);
                others[0]
            }));
        }
        cases.push(with_states(called("lion"), 1e-5, |s| {
            let states = ["parameter", "momentum"].map(|name| moment(s, name, shape));
            let others = step_operands(s, shape, clip, rates);
            s.graph.lion(Lion { beta1: 0.9, beta2: 0.98, decay: 0.3, scale: 0.75 }, states, others);
            others[0]
        }));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::reference;

    /// Makes the losses of rows from x.
    type Losses<'a> = &'a dyn Fn(&mut Graph, Value) -> Value;

    /// The weighted loss and its gradient with regard to x.
    fn run(build: Losses, x: &[f32], shape: [usize; 2]) -> (f32, Vec<f32>) {
        let mut g = Graph::new();
        let v = g.input("x", TensorDesc::f32(shape));
        let losses = build(&mut g, v);
        let loss = weighted(&mut g, losses);
        // The gradient comes to the weighted sum as 2.5.
        let more = g.input("more", TensorDesc::f32([1]));
        let loss = g.weighted_sum(loss, more);
        let dx = gradient(&mut g, loss, v);
        g.output("loss", loss);
        g.output("dx", dx);
        let inputs = [
            ("x", HostTensor::f32(shape, x.to_vec())),
            ("labels", HostTensor::u32([4], vec![1, u32::MAX, 4, 0])),
            ("other", HostTensor::f32(shape, noise(3, x.len()))),
            ("weights", HostTensor::f32([4], vec![0.5, 1.5, -2.0, 0.0])),
            ("more", HostTensor::f32([1], vec![2.5])),
        ];
        let found = reference::run(&g, &|w, s| Ok(crate::selftest::weight(w, s)), &inputs).unwrap();
        (found[0].to_f32()[0], found[1].to_f32())
    }

    #[test]
    fn gradients_are_central_differences() {
        let entropy = |smoothing: f32| {
            move |g: &mut Graph, x: Value| {
                let labels = labels(g, 4);
                g.cross_entropy(x, labels, smoothing)
            }
        };
        let other = |g: &mut Graph| g.input("other", TensorDesc::f32([4, 5]));
        let prediction = |g: &mut Graph, x: Value| {
            let target = other(g);
            g.squared_error(x, target)
        };
        let target = |g: &mut Graph, x: Value| {
            let prediction = other(g);
            g.squared_error(prediction, x)
        };
        let losses: [(&str, Losses); 4] = [
            ("cross entropy", &entropy(0.0)),
            ("smoothed", &entropy(0.2)),
            ("prediction", &prediction),
            ("target", &target),
        ];
        for (name, build) in losses {
            let at: Vec<f32> = noise(17, 20).iter().map(|v| 2.0 * v).collect();
            let (_, dx) = run(build, &at, [4, 5]);
            assert!(dx.iter().any(|d| d.abs() > 0.1), "{name}: {dx:?}");
            for (i, dx) in dx.into_iter().enumerate() {
                let beside = |h: f32| {
                    let mut x = at.clone();
                    x[i] += h;
                    f64::from(run(build, &x, [4, 5]).0)
                };
                let h = 0.01;
                let want = (beside(h) - beside(-h)) / (2.0 * f64::from(h));
                assert!((f64::from(dx) - want).abs() < 2e-3, "{name}, {i}: {dx}, not {want}");
            }
        }
    }

    #[test]
    fn weights_are_data() {
        let mut g = Graph::new();
        let [x, w] = ["x", "w"].map(|name| g.input(name, TensorDesc::f32([3])));
        let loss = g.weighted_sum(x, w);
        let e = differentiate(&mut g, loss, &[x, w]).unwrap_err().to_string();
        assert!(e.contains("weighted_sum"), "{e}");
    }
}
