//! Generative models against PyTorch: scores of whole sequences, greedy and guided ids token for token,
//! images; and what the loop promises: cached equals uncached, a sample is the same in any batch.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{compare, open};
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::error::Error;
use vit_gpu::generate::{GeneratedImage, Generator, Order, Request};
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::image::{DecodeOptions, decode_file};
use vit_gpu::ops::{Guidance, Sampling};
use vit_gpu::plan::Precision;
use vit_gpu::session::{Device, ModelSource, Options};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

/// The model of a golden folder on the device under test, if there is one.
fn generator(case: &str, options: Options) -> Option<Generator> {
    open(&DeviceChoice::default())?;
    Some(Generator::open(&ModelSource::Path(folder(case)), &options).unwrap())
}

fn reference() -> Options {
    Options { device: Device::Reference, ..Options::default() }
}

fn golden(case: &str) -> Checkpoint {
    Checkpoint::open(&folder(case).join("golden.safetensors"), false).unwrap()
}

/// Rows of whole numbers.
fn ids(file: &Checkpoint, name: &str) -> Vec<Vec<u32>> {
    let tensor = file.ids(name).unwrap();
    tensor.as_u32().unwrap().chunks(tensor.shape().width()).map(<[u32]>::to_vec).collect()
}

fn greedy(scale: f32) -> Sampling {
    let guidance = Guidance { first: scale, last: scale, places: 1 };
    Sampling { seed: 1, temperature: 0.0, top_k: 0, top_p: 1.0, guidance }
}

fn request(classes: &[Option<usize>], sampling: Sampling) -> Request {
    Request {
        classes: classes.to_vec(),
        first: 0,
        sampling,
        prime: vec![],
        order: Order::Raster,
        parallel: None,
        every: 0,
    }
}

fn tokens(generator: &Generator, request: &Request) -> Vec<Vec<u32>> {
    generator.generate(request, &mut |_| Ok(())).unwrap().tokens
}

#[test]
fn llamagen_scores_tokens_and_picture_are_pytorchs() {
    let file = golden("llamagen");
    let labels = ids(&file, "in.labels").concat();
    for (name, options, tolerance) in [
        ("f32", Options::default(), 1e-4),
        ("unfused", Options { fuse: false, ..Options::default() }, 1e-4),
        ("f16", Options { precision: Some(Precision::F16), ..Options::default() }, 3e-2),
        ("reference", reference(), 1e-4),
    ] {
        let Some(model) = generator("llamagen", options) else { return };
        let logits = model.score(&labels, &ids(&file, "in.ids"), &["logits"]).unwrap().remove(0);
        let want = file.read("out.logits").unwrap();
        compare(&logits, &want, tolerance, tolerance).unwrap_or_else(|e| panic!("{name}: {e}"));
        if name == "f16" {
            continue;
        }
        let made = tokens(&model, &request(&[Some(2)], greedy(2.5)));
        assert_eq!(made, ids(&file, "out.greedy_cfg2.5_class2"), "{name}");
        let picture = model.decode(&made).unwrap().remove(0);
        let want = file.read("out.image").unwrap().to_f32();
        let plane = picture.height * picture.width;
        for (i, byte) in picture.pixels.iter().enumerate() {
            let x = want[i % 3 * plane + i / 3].clamp(-1.0, 1.0);
            let got = f32::from(*byte) / 127.5 - 1.0;
            assert!((got - x).abs() <= 0.51 / 127.5, "{name}: byte {i} is {got}, PyTorch has {x}");
        }
    }
}

#[test]
fn imagegpt_scores_tokens_and_colours_are_pytorchs() {
    let file = golden("imagegpt");
    let given = |name: &str| ids(&file, name).into_iter().map(|row| row[1..].to_vec()).collect::<Vec<_>>();
    for (name, options) in [("f32", Options::default()), ("reference", reference())] {
        let Some(model) = generator("imagegpt", options) else { return };
        let outputs = ["logits", "hidden.0", "hidden.1", "hidden.2"];
        let results = model.score(&[0], &given("in.input_ids"), &outputs).unwrap();
        for (output, got) in outputs.iter().zip(&results) {
            let want = file.read(&format!("out.{output}")).unwrap();
            compare(got, &want, 1e-4, 1e-4).unwrap_or_else(|e| panic!("{name} {output}: {e}"));
        }
        let prime = given("in.prompt").remove(0);
        let wanted = Request { prime, ..request(&[None], greedy(1.0)) };
        // The recorded sequence begins with the start token and ends where no further input is.
        let want = ids(&file, "out.greedy").remove(0)[1..].to_vec();
        assert_eq!(tokens(&model, &wanted)[0][..want.len()], want, "{name}");
    }
    let Some(model) = generator("imagegpt", Options::default()) else { return };
    let image = decode_file(folder("imagegpt").join("image.png"), &DecodeOptions::default()).unwrap();
    let encoded = model.encode(&model.fit(&image).unwrap()).unwrap();
    assert_eq!(vec![encoded], ids(&file, "in.image_tokens.pil"));
}

/// Scores of every place of a sequence that was drawn token by token, against those of the whole.
#[test]
fn what_was_drawn_over_the_cache_is_what_the_whole_sequence_scores() {
    for (case, classes, scale) in [("llamagen", [Some(1), Some(4)], 3.0), ("imagegpt", [None, None], 1.0)] {
        let Some(model) = generator(case, Options::default()) else { return };
        let info = model.info().clone();
        for given in [0, 1, 5, info.tokens - 1] {
            let prime: Vec<u32> = (0..given as u32).map(|i| i * 7 % info.vocabulary as u32).collect();
            let wanted = Request { prime, ..request(&classes, greedy(scale)) };
            let made = tokens(&model, &wanted);
            let fed: Vec<Vec<u32>> = made.iter().map(|t| t[..info.tokens - 1].to_vec()).collect();
            let none = info.classes.unwrap_or(0) as u32;
            let score = |conditioned: bool| {
                let class = |c: &Option<usize>| c.filter(|_| conditioned).map_or(none, |c| c as u32);
                let classes: Vec<u32> = classes.iter().map(class).collect();
                model.score(&classes, &fed, &["logits"]).unwrap().remove(0).to_f32()
            };
            let (with, without) = (score(true), score(false));
            for (row, made) in made.iter().enumerate() {
                for (place, &drawn) in made.iter().enumerate().skip(given) {
                    let at = (row * info.tokens + place) * info.vocabulary;
                    let guided = |i: usize| without[at + i] + (with[at + i] - without[at + i]) * scale;
                    let best = (0..info.vocabulary).map(guided).fold(f32::MIN, f32::max);
                    let drawn = guided(drawn as usize);
                    assert!(best - drawn < 1e-3, "{case} {given}: place {place}: {drawn} of {best}");
                }
            }
        }
    }
}

#[test]
fn a_sample_is_the_same_in_any_batch_and_by_any_number_of_submissions() {
    let Some(model) = generator("llamagen", Options::default()) else { return };
    let guidance = Guidance { first: 1.0, last: 4.0, places: 16 };
    let sampling = Sampling { seed: 77, temperature: 1.1, top_k: 40, top_p: 0.95, guidance };
    let classes = [Some(0), Some(1), Some(2), Some(3), None, Some(0)];
    let all = tokens(&model, &request(&classes, sampling));
    for n in [1, 2, 3] {
        assert_eq!(tokens(&model, &request(&classes[..n], sampling)), all[..n], "{n} samples");
    }
    assert_ne!(all[0], all[5], "two samples of one class");
    let mut seen = Vec::new();
    let wanted = Request { every: 3, ..request(&classes[..2], sampling) };
    let made = model
        .generate(&wanted, &mut |p| {
            seen.push(p.done);
            assert_eq!(p.tokens[1], all[1][..p.done]);
            Ok(())
        })
        .unwrap();
    assert_eq!((made.tokens, seen), (all[..2].to_vec(), vec![1, 4, 7, 10, 13, 16]));
    let other = tokens(&model, &request(&classes[..1], Sampling { seed: 78, ..sampling }));
    assert_ne!(other[0], all[0]);
}

/// Many samples of one first token, by frequency.
#[test]
fn tokens_are_drawn_by_their_probabilities() {
    let Some(model) = generator("llamagen", Options::default()) else { return };
    let guidance = Guidance { first: 1.0, last: 1.0, places: 1 };
    let (n, vocabulary) = (3000usize, model.info().vocabulary);
    let logits = model.score(&[2], &[vec![]], &["logits"]).unwrap().remove(0).to_f32();
    for (temperature, top_k, top_p) in [(1.0, 0, 1.0), (1.6, 0, 1.0), (1.0, 9, 1.0), (1.3, 0, 0.7)] {
        let sampling = Sampling { seed: 5, temperature, top_k, top_p, guidance };
        // One token is left to draw, so the prompt is the whole run.
        let prime = vec![];
        let mut counts = vec![0usize; vocabulary];
        let wanted = Request { prime, ..request(&vec![Some(2); n], sampling) };
        let made = model.generate(&wanted, &mut |_| Ok(())).unwrap();
        made.tokens.iter().for_each(|t| counts[t[0] as usize] += 1);
        let expected = probabilities(&logits, sampling);
        let (mut chi, mut freedom) = (0.0, -1.0);
        let (mut rare, mut rare_seen) = (0.0, 0.0);
        for (p, &seen) in expected.iter().zip(&counts) {
            let want = p * n as f64;
            assert!(*p > 0.0 || seen == 0, "a token that is cut off was drawn");
            if want < 5.0 {
                (rare, rare_seen) = (rare + want, rare_seen + seen as f64);
            } else {
                chi += (seen as f64 - want).powi(2) / want;
                freedom += 1.0;
            }
        }
        if rare >= 5.0 {
            chi += (rare_seen - rare).powi(2) / rare;
            freedom += 1.0;
        }
        // Mean and deviation of the chi-square distribution are k and sqrt(2k).
        let limit = freedom + 4.0 * (2.0f64 * freedom).sqrt();
        assert!(chi < limit, "{sampling:?}: chi-square {chi:.1}, {freedom} degrees, limit {limit:.1}");
    }
}

fn probabilities(logits: &[f32], sampling: Sampling) -> Vec<f64> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    let weight = |i: usize| f64::from(logits[i] / sampling.temperature).exp();
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k as usize);
    }
    let total: f64 = order.iter().map(|&i| weight(i)).sum();
    let mut before = 0.0;
    order.retain(|&i| {
        let keep = before / total <= f64::from(sampling.top_p);
        before += weight(i);
        keep
    });
    let total: f64 = order.iter().map(|&i| weight(i)).sum();
    let mut p = vec![0.0; logits.len()];
    order.iter().for_each(|&i| p[i] = weight(i) / total);
    p
}

#[test]
fn a_request_that_cannot_be_is_refused_in_words() {
    let Some(model) = generator("llamagen", Options::default()) else { return };
    let good = request(&[Some(1)], greedy(2.0));
    let with = |sampling: Sampling| Request { sampling, ..good.clone() };
    for (bad, word) in [
        (request(&[], greedy(1.0)), "no samples"),
        (request(&[Some(5)], greedy(1.0)), "class 5"),
        (with(Sampling { temperature: -0.5, ..greedy(1.0) }), "temperature"),
        (with(Sampling { temperature: f32::NAN, ..greedy(1.0) }), "temperature"),
        (with(Sampling { temperature: 1e9, ..greedy(1.0) }), "temperature"),
        (with(Sampling { top_p: 0.0, ..greedy(1.0) }), "top-p"),
        (with(Sampling { top_p: 1.5, ..greedy(1.0) }), "top-p"),
        (with(greedy(f32::INFINITY)), "guidance"),
        (Request { prime: vec![0; 16], ..good.clone() }, "16 tokens"),
        (Request { prime: vec![64], ..good.clone() }, "token 64"),
        (Request { order: Order::Random, ..good.clone() }, "raster"),
    ] {
        let e = model.check(&bad).expect_err(word);
        assert!(matches!(&e, Error::Usage { what, .. } if what.contains(word)) && e.hint().is_some(), "{e}");
    }
    assert!(model.decode(&[vec![64]]).is_err() && model.decode(&[vec![0; 17]]).is_err());
    let small = GeneratedImage { height: 2, width: 2, pixels: vec![0; 12] };
    assert!(model.encode(&small).is_err());
    let Some(model) = generator("imagegpt", Options::default()) else { return };
    assert!(model.check(&request(&[Some(0)], greedy(1.0))).is_err());
    assert!(model.check(&request(&[None], greedy(2.0))).is_err());
}

#[test]
fn a_sequence_that_is_not_finished_leaves_grey_patches() {
    let Some(model) = generator("llamagen", Options::default()) else { return };
    let pictures = model.decode(&[vec![], vec![1, 2, 3, 4, 5]]).unwrap();
    assert!(pictures[0].pixels.iter().all(|&b| b == 128));
    let width = model.info().image_size.width;
    let at = |y: usize, x: usize| &pictures[1].pixels[(y * width + x) * 3..][..3];
    assert_eq!(at(2, 2), [128; 3]);
    assert!((0..2).any(|x| at(2, x) != [128; 3]) && (0..width).any(|x| at(0, x) != [128; 3]));
}
