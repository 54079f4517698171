//! A checkpoint file of any content: header, elements, and the recipes that make weights of them.
//!
//! An input is a safetensors file, or its header without the length in front: then it starts with
//! `{`, the elements follow after a NUL, and they are cut or filled to the end that the header
//! names, so that a change of one number in the header still makes a sound file.

use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::checkpoint::materialise::{materialise, near, scan, unused};
use vit_gpu::graph::{Part, PositionFilter, Transform, Weight};
use vit_gpu::tensor::Shape;

/// Tensors of one file that are read and turned into weights.
const TENSORS: usize = 4;
/// Most elements of a weight that is asked for.
const ELEMENTS: usize = 1 << 16;
/// Most bytes of elements that are filled in.
const FILLED: u64 = 1 << 14;

/// Runs one input.
pub fn run(input: &[u8]) {
    let file = if input.first() == Some(&b'{') { with_length(input) } else { input.to_vec() };
    let length = file.len();
    let checkpoint = match Checkpoint::from_bytes("model.safetensors", file) {
        Ok(checkpoint) => checkpoint,
        Err(e) => {
            assert!(!e.to_string().is_empty());
            return;
        }
    };
    assert!(checkpoint.total_bytes() < length as u64, "tensors lie inside the file, after the header");
    assert!(checkpoint.parameters() <= length as u64, "a weight takes two bytes or more");
    assert!(!checkpoint.dtype_summary().is_empty());

    let mut weights = Vec::new();
    for (name, &shape) in checkpoint.index().iter().take(TENSORS) {
        if let Ok(tensor) = checkpoint.read(name) {
            assert_eq!(tensor.shape(), shape);
            let values = tensor.as_f32().expect("reading widens to f32");
            let _ = scan(values).warning(name, true);
        }
        weights.extend(recipes(name, shape));
    }
    for (weight, shape) in &weights {
        if let Ok(made) = materialise(weight, *shape, &checkpoint) {
            assert_eq!(made.shape(), *shape, "{weight}");
        }
    }
    let _ = unused(weights.iter().map(|(weight, _)| weight), &checkpoint);
    assert!(near("encoder.layer.0.attention.output.dense.weight", checkpoint.index(), 3).len() <= 3);
}

/// The file of a header and elements.
fn with_length(input: &[u8]) -> Vec<u8> {
    let (header, elements) = super::split(input);
    let json: serde_json::Value = serde_json::from_slice(header).unwrap_or_default();
    let ends = json.as_object().into_iter().flatten().filter_map(|(_, t)| t["data_offsets"][1].as_u64());
    let end = ends.max().unwrap_or(0).min(FILLED);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(elements.iter().chain(std::iter::repeat(&0x3c)).take(end as usize));
    file
}

/// Recipes that a model may have for a tensor of some shape, with the shapes they are to fill;
/// some cannot be right.
fn recipes(name: &str, found: Shape) -> Vec<(Weight, Shape)> {
    let dims = found.dims();
    let last = found.width();
    let first = dims.first().copied().unwrap_or(1);
    let inner: usize = dims.iter().skip(1).product();
    let outer = found.rows();
    let mut made = vec![(Weight::tensor(name), found)];
    let mut add = |weight: Weight, dims: &[usize]| {
        // A model's own shapes are plausible before it asks for weights; so are these.
        let plausible = Shape::checked(dims).filter(|shape| shape.elements() <= ELEMENTS);
        made.extend(plausible.map(|shape| (weight, shape)));
    };
    add(Weight::tensor(format!("{name}s")), &[1]);
    add(Weight::tensor(name), &[inner, first]);
    add(Weight::tensor(name), &[1, outer, last]);
    add(Weight::rows(name, 0..first / 2), &[first / 2, inner]);
    add(
        Weight::rows(name, first / 2..first.saturating_add(1)),
        &[first.div_ceil(2).saturating_add(1), inner],
    );
    add(Weight::transformed(name, Transform::Transpose), &[last, outer]);
    if let Some(rows) = first.checked_add(2) {
        let zeros = Part::Zeros { rows: 2 };
        add(Weight { parts: vec![zeros, Weight::tensor(name).parts.remove(0)] }, &[rows, inner]);
    }
    // A grid of one column, or a square one, beside one prefix token; a window of one column.
    let side = outer.saturating_sub(1).isqrt();
    for (from, filter) in [
        ([outer.saturating_sub(1), 1], PositionFilter::Bicubic),
        ([side, side], PositionFilter::BicubicAntialias),
        ([1, outer.saturating_sub(1)], PositionFilter::Bilinear),
    ] {
        let transform = Transform::Positions { prefix: 1, from, to: [3, 2], filter };
        add(Weight::transformed(name, transform), &[7, last]);
    }
    let window = [outer.saturating_sub(2) / 2, 1];
    add(Weight::transformed(name, Transform::RelativeBias { from: window, to: [2, 3] }), &[last, 7, 7]);
    made
}
