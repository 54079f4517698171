//! A model defined outside the crate: an MLP-Mixer-like toy with one attention block, weights made
//! on the spot. It shows that a model is one function that builds a graph: the same graph runs on
//! the GPU and on the CPU reference, and the plan prints as text.
//!
//! `cargo run --release --example custom_model`
#![allow(missing_docs, reason = "an example")]

use std::sync::Arc;

use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::checkpoint::materialise::materialise;
use vit_gpu::gpu::{DeviceChoice, Executor, Gpu, Store};
use vit_gpu::graph::{Graph, Value, Weight};
use vit_gpu::ops::{Act, Op, Scores};
use vit_gpu::plan::{self, Options};
use vit_gpu::reference;
use vit_gpu::tensor::{HostTensor, Shape, TensorDesc};

const PATCH: usize = 4;
const WIDTH: usize = 32;
const HEADS: usize = 4;
const CLASSES: usize = 5;

/// image: (B,3,H,W); returns logits (B, CLASSES).
fn build(g: &mut Graph, image: Value) -> Value {
    g.scope("embed");
    let patches = g.patchify(image, [PATCH, PATCH]); // (B, N, 3·P·P)
    let x = linear(g, patches, "embed", WIDTH);

    g.scope("attention");
    let h = norm(g, x, "norm1");
    let qkv = ["q", "k", "v"].map(|name| {
        let y = linear(g, h, name, WIDTH);
        g.split_heads(y, HEADS) // (B, H, T, D)
    });
    let scale = 1.0 / ((WIDTH / HEADS) as f32).sqrt();
    let a = g.attention(qkv, Scores::scaled(scale)); // (B, T, C)
    let a = linear(g, a, "proj", WIDTH);
    let x = g.add(x, a);

    g.scope("mlp");
    let h = norm(g, x, "norm2");
    let h = linear(g, h, "fc1", 4 * WIDTH);
    let h = g.act(h, Act::Gelu);
    let h = linear(g, h, "fc2", WIDTH);
    let x = g.add(x, h);

    g.scope("head");
    let tokens = g.shape(x).dims()[1];
    let pooled = g.mean_tokens(x, 0..tokens); // (B, C)
    linear(g, pooled, "head", CLASSES)
}

fn linear(g: &mut Graph, x: Value, name: &str, out: usize) -> Value {
    let inner = g.shape(x).width();
    let weight = g.weight(Weight::tensor(format!("{name}.weight")), [out, inner]);
    let bias = g.weight(Weight::tensor(format!("{name}.bias")), [out]);
    g.linear(x, weight, Some(bias))
}

fn norm(g: &mut Graph, x: Value, name: &str) -> Value {
    let [gain, bias] =
        ["weight", "bias"].map(|part| g.weight(Weight::tensor(format!("{name}.{part}")), [WIDTH]));
    g.layer_norm(x, gain, bias, 1e-6)
}

/// Stands in for a file: a tensor of numbers for every weight that the graph names.
fn checkpoint(graph: &Graph) -> vit_gpu::Result<Checkpoint> {
    let weights = graph.nodes().iter().filter_map(|node| match &node.op {
        Op::Weight(weight) => Some((weight.to_string(), node.desc.shape)),
        _ => None,
    });
    let tensor = |(i, shape): (usize, Shape)| {
        HostTensor::f32(
            shape,
            (0..shape.elements()).map(|n| ((n + 41 * i) as f32 * 0.7).sin() * 0.3).collect(),
        )
    };
    let tensors = weights.enumerate().map(|(i, (name, shape))| (name, tensor((i, shape))));
    Checkpoint::from_tensors("toy", tensors)
}

fn main() -> vit_gpu::Result<()> {
    let image = HostTensor::f32([1, 3, 16, 16], (0..768).map(|i| (i as f32 * 0.37).cos()).collect());
    let mut graph = Graph::new();
    let input = graph.input("image", TensorDesc::f32([1, 3, 16, 16]));
    let logits = build(&mut graph, input);
    graph.output("logits", logits);

    let gpu = Arc::new(Gpu::open(&DeviceChoice::default())?);
    let plan = plan::compile(&graph, gpu.target(), Options::default())?;
    print!("{plan}");
    // Plans may ask for weights joined or in part (here q, k and v as one): `materialise` makes them.
    let checkpoint = checkpoint(&graph)?;
    let weight = |weight: &Weight, shape: Shape| materialise(weight, shape, &checkpoint);
    let store = Store::new();
    store.load(&gpu, &plan, &weight)?;
    let on_gpu = Executor::new(gpu, plan, &store)?.run(&[("image", &image)])?.remove(0).to_f32();
    let on_cpu = reference::run(&graph, &weight, &[("image", image)])?.remove(0).to_f32();
    println!("GPU       {on_gpu:.5?}\nreference {on_cpu:.5?}");
    assert!(on_gpu.iter().zip(&*on_cpu).all(|(a, b)| (a - b).abs() < 1e-4), "they must agree");
    Ok(())
}
