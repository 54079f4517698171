//! The embedded model of images and words, `builtin:shapes-clip`, on pictures that nobody trained on: it names them by
//! colour and kind, and finds them by words. Without an adapter the reference answers.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use vit_gpu::dual::DualEncoder;
use vit_gpu::image::Decoded;
use vit_gpu::synthetic::shapes::{LABELS, picture};
use vit_gpu::text::TooLong;
use vit_gpu::{Device, ModelSource, Options};

const PICTURES: u64 = 500;
const SEED: u64 = 20_261_128;

#[test]
fn shapes_are_named_and_found_by_words() {
    let options = match common::gpu() {
        Some(_) => Options::default(),
        None => Options { device: Device::Reference, ..Options::default() },
    };
    let model = DualEncoder::open(&ModelSource::named("builtin:shapes-clip"), &options).unwrap();
    let preprocess = model.images().preprocess();
    let (mut vectors, mut names) = (Vec::new(), Vec::new());
    for first in (0..PICTURES).step_by(50) {
        let mut pixels = Vec::new();
        for i in first..first + 50 {
            let drawn = picture(SEED, i, 64);
            names.push(drawn.colour.map(|colour| format!("{colour} {}", LABELS[drawn.label])));
            let image = Decoded { width: 64, height: 64, rgb: drawn.pixels, notes: vec![] };
            pixels.push(preprocess.pixels(&image).unwrap());
        }
        let pixels: Vec<&[u8]> = pixels.iter().map(Vec::as_slice).collect();
        vectors.extend(model.embed_pixels(&pixels, [64, 64]).unwrap());
    }
    // Where two names of a colour are as good, a picture says nothing of the model.
    let clear: Vec<(usize, &String)> =
        names.iter().enumerate().filter_map(|(i, name)| Some((i, name.as_ref()?))).collect();
    assert!(clear.len() > 300, "{} pictures of {PICTURES} have a colour with a name", clear.len());
    let colours: BTreeSet<&str> = clear.iter().map(|(_, name)| name.split_once(' ').unwrap().0).collect();
    assert_eq!(colours.len(), 12, "{colours:?}");
    let labels: Vec<String> =
        colours.iter().flat_map(|colour| LABELS.map(|kind| format!("{colour} {kind}"))).collect();
    let texts: Vec<String> = labels.iter().map(|label| format!("a {label}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let words = model.embed_texts(&texts, TooLong::Refuse).unwrap();
    let cosine = |i: usize, label: usize| -> f32 {
        vectors[i].iter().zip(&words[label]).map(|(x, y)| x * y).sum::<f32>()
    };

    let (mut among_all, mut among_nine) = (0, 0);
    for &(i, name) in &clear {
        let own = labels.iter().position(|label| label == name).unwrap();
        let best = (0..labels.len()).max_by(|&a, &b| cosine(i, a).total_cmp(&cosine(i, b))).unwrap();
        among_all += usize::from(best == own);
        let others = (1..=8).map(|n| (own + n * 37 + i) % labels.len()).filter(|other| *other != own);
        among_nine += usize::from(others.into_iter().all(|other| cosine(i, other) < cosine(i, own)));
    }
    let share = |right: usize| right as f64 / clear.len() as f64;
    println!("named: {:.3} among {}, {:.3} among 9", share(among_all), labels.len(), share(among_nine));
    assert!(share(among_nine) >= 0.95, "{:.3} among nine labels", share(among_nine));
    assert!(share(among_all) >= 0.93, "{:.3} among {} labels", share(among_all), labels.len());

    // Of each description with at least three pictures: how many of the first so many, ten at most, are of it.
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    clear.iter().for_each(|(_, name)| *counts.entry(name).or_default() += 1);
    let asked: Vec<(&String, usize)> = counts.into_iter().filter(|(_, count)| *count >= 3).collect();
    let precision = asked.iter().map(|&(name, count)| {
        let label = labels.iter().position(|label| label == name).unwrap();
        let mut order: Vec<&(usize, &String)> = clear.iter().collect();
        order.sort_by(|a, b| cosine(b.0, label).total_cmp(&cosine(a.0, label)));
        let first = count.min(10);
        order[..first].iter().filter(|(_, found)| *found == name).count() as f64 / first as f64
    });
    let mean = precision.sum::<f64>() / asked.len() as f64;
    println!("found: precision {mean:.3} over {} descriptions", asked.len());
    assert!(asked.len() >= 20 && mean >= 0.9, "{mean:.3} over {} descriptions", asked.len());
}
