//! The built-in generator: its samples are named right by the built-in classifier and differ from each
//! other; its likelihood of held-out images and its tokenizer agree with PyTorch on the same weights
//! (`tests/shapes_gpt`, written by `tools/train/train_shapes_gpt.py export`).
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::generate::{BUILTIN, GeneratedImage, Generator, Order, Request};
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::image::{DecodeOptions, Decoded, decode_file};
use vit_gpu::ops::{Guidance, Sampling};
use vit_gpu::session::{ModelSource, Options, Session};

const SAMPLES: usize = 512;
/// Least share of samples that the classifier names right.
const LEAST: f64 = 0.9;
/// Least mean absolute difference of two samples of one class, in levels of 255: that of drawings by the
/// generator of the training images is about 85.
const LEAST_APART: f64 = 60.0;

fn generator() -> Option<Generator> {
    common::open(&DeviceChoice::default())?;
    Some(Generator::open(&ModelSource::Builtin(BUILTIN.to_owned()), &Options::default()).unwrap())
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shapes_gpt").join(name)
}

fn ids(file: &Checkpoint, name: &str) -> Vec<Vec<u32>> {
    let tensor = file.ids(name).unwrap();
    tensor.as_u32().unwrap().chunks(tensor.shape().width()).map(<[u32]>::to_vec).collect()
}

fn apart(a: &GeneratedImage, b: &GeneratedImage) -> f64 {
    let sum: u64 = a.pixels.iter().zip(&b.pixels).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
    sum as f64 / a.pixels.len() as f64
}

#[test]
fn samples_are_named_right_and_differ() {
    let Some(model) = generator() else { return };
    let info = model.info();
    let (count, d) = (info.classes.unwrap(), info.defaults);
    let guidance = Guidance { first: d.cfg_scale, last: d.cfg_scale, places: 1 };
    let sampling =
        Sampling { seed: 20, temperature: d.temperature, top_k: d.top_k, top_p: d.top_p, guidance };
    let classes: Vec<Option<usize>> = (0..SAMPLES).map(|i| Some(i % count)).collect();
    let request = Request {
        classes,
        first: 0,
        sampling,
        prime: vec![],
        order: Order::Raster,
        parallel: None,
        every: 0,
    };
    let pictures = model.decode(&model.generate(&request, &mut |_| Ok(())).unwrap().tokens).unwrap();

    let judge = Session::open(&ModelSource::Builtin("shapes".to_owned()), &Options::default()).unwrap();
    let names = &judge.labels().names;
    let mut right = 0;
    let mut wrong = Vec::new();
    for (part, pictures) in pictures.chunks(64).enumerate() {
        let decoded = |p: &GeneratedImage| Decoded {
            width: p.width,
            height: p.height,
            rgb: p.pixels.clone(),
            notes: Vec::new(),
        };
        let pixels: Vec<_> =
            pictures.iter().map(|p| judge.preprocess().pixels(&decoded(p)).unwrap()).collect();
        let refs: Vec<&[u8]> = pixels.iter().map(Vec::as_slice).collect();
        let size = judge.preprocess().output_size([pictures[0].height, pictures[0].width]);
        let logits = judge.run_pixels(&refs, size, &["logits"]).unwrap().remove(0).to_f32();
        for (i, row) in logits.chunks(names.len()).enumerate() {
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            let wanted = &model.labels().names[(64 * part + i) % count];
            if names[best] == *wanted {
                right += 1;
            } else {
                wrong.push(format!("{wanted} looks like {}", names[best]));
            }
        }
    }
    println!("{right} of {SAMPLES} named right; {wrong:?}");
    assert!(right as f64 >= LEAST * SAMPLES as f64, "{right} of {SAMPLES} named right; {wrong:?}");

    for class in 0..count {
        let same: Vec<&GeneratedImage> = pictures.iter().skip(class).step_by(count).collect();
        let (mut sum, mut pairs) = (0.0, 0);
        for (i, a) in same.iter().enumerate() {
            for b in &same[..i] {
                sum += apart(a, b);
                pairs += 1;
            }
        }
        let mean = sum / f64::from(pairs);
        println!("{}: mean distance {mean:.1}", model.labels().names[class]);
        assert!(mean >= LEAST_APART, "{}: mean distance {mean:.1}", model.labels().names[class]);
    }
}

#[test]
fn held_out_likelihood_is_pytorchs() {
    let Some(model) = generator() else { return };
    let held_out = Checkpoint::open(&file("heldout.safetensors"), false).unwrap();
    let (tokens, labels) = (ids(&held_out, "ids"), ids(&held_out, "labels").concat());
    let vocabulary = model.info().vocabulary;
    // The last token is scored, and never fed.
    let fed: Vec<Vec<u32>> = tokens.iter().map(|t| t[..t.len() - 1].to_vec()).collect();
    let logits = model.score(&labels, &fed, &["logits"]).unwrap().remove(0).to_f32();
    let losses: Vec<f64> = tokens
        .iter()
        .zip(logits.chunks(vocabulary * model.info().tokens))
        .map(|(ids, rows)| {
            let losses = rows.chunks(vocabulary).zip(ids).map(|(row, &id)| {
                let top = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
                let sum: f64 = row.iter().map(|&l| (f64::from(l) - top).exp()).sum();
                sum.ln() + top - f64::from(row[id as usize])
            });
            losses.sum::<f64>() / ids.len() as f64
        })
        .collect();
    let want = held_out.read("losses").unwrap().to_f32();
    for (got, &want) in losses.iter().zip(&want) {
        assert!((got - f64::from(want)).abs() <= 1e-3, "{got} nats, PyTorch has {want}");
    }
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    let want = f64::from(held_out.read("loss").unwrap().to_f32()[0]);
    println!("{mean:.5} nats a token, PyTorch has {want:.5}");
    assert!((mean - want).abs() <= 1e-3, "{mean} nats, PyTorch has {want}");
}

#[test]
fn pictures_become_pytorchs_tokens_and_pictures_again() {
    let Some(model) = generator() else { return };
    let held_out = Checkpoint::open(&file("heldout.safetensors"), false).unwrap();
    let labels = ids(&held_out, "picture_labels").concat();
    for (label, want) in labels.iter().zip(ids(&held_out, "picture_ids")) {
        let name = &model.labels().names[*label as usize];
        let picture = decode_file(file(&format!("{name}.png")), &DecodeOptions::default()).unwrap();
        let got = model.encode(&model.fit(&picture).unwrap()).unwrap();
        assert_eq!(got, want, "{name}");
        let back = model.decode(&[got]).unwrap().remove(0);
        let want = decode_file(file(&format!("{name}_decoded.png")), &DecodeOptions::default()).unwrap();
        let most = back.pixels.iter().zip(&want.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(most <= 1, "{name}: a byte differs by {most}");
    }
}
