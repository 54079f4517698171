//! Models of two towers: vectors and logits as transformers records them, labels in words, and what is refused.
//! On the CPU reference and on the GPU.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use serde_json::Value as Json;
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::dual::{DualEncoder, Wording};
use vit_gpu::labels::Scoring;
use vit_gpu::models;
use vit_gpu::models::text::TextSizes;
use vit_gpu::session::ModelFiles;
use vit_gpu::tensor::HostTensor;
use vit_gpu::text::{Passage, TooLong};
use vit_gpu::train::{Recipe, Trainer, objective};
use vit_gpu::verify::compare::{Tolerance, compare};
use vit_gpu::verify::pairs;
use vit_gpu::{Device, Error, ModelSource, Options};

const NEAR: Tolerance = Tolerance { atol: 1e-4, rtol: 1e-4 };

fn reference() -> Options {
    Options { device: Device::Reference, ..Options::default() }
}

/// The reference, and the GPU if there is one (else that is said).
fn devices() -> Vec<Options> {
    let gpu = common::gpu().map(|_| Options::default());
    [reference()].into_iter().chain(gpu).collect()
}

fn files(name: &str) -> ModelFiles {
    ModelSource::named(&format!("tests/golden/{name}")).read(true).unwrap()
}

fn recorded(name: &str) -> Checkpoint {
    Checkpoint::open(&Path::new("tests/golden").join(name).join("golden.safetensors"), false).unwrap()
}

fn case(name: &str) -> Json {
    let path = Path::new("tests/golden").join(name).join("case.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn recorded_towers_agree_with_transformers() {
    for options in devices() {
        for name in ["clip", "siglip", "siglip2_naflex"] {
            let model = DualEncoder::from_files(files(name), &options).unwrap();
            let verdicts = pairs::verdicts(&model, &recorded(name), NEAR).unwrap();
            let names: Vec<&str> = verdicts.iter().map(|v| v.name.as_str()).collect();
            assert_eq!(names, ["out.image_embeds", "out.text_embeds", "out.logits_per_image"], "{name}");
            assert!(verdicts.iter().all(|v| v.pass && !v.missing), "{name}: {verdicts:?}");
        }
    }
}

#[test]
fn recorded_towers_can_disagree() {
    // The other model's record of the same kind: every line must say so.
    let model = DualEncoder::from_files(files("clip"), &reference()).unwrap();
    let file = recorded("clip");
    let mut tensors: Vec<(String, HostTensor)> = Vec::new();
    for name in file.index().keys() {
        let tensor = file.read(name).or_else(|_| file.ids(name)).unwrap();
        let spoilt = name.starts_with("out.").then(|| {
            let mut values = tensor.to_f32();
            values[0] += 0.01;
            HostTensor::f32(tensor.shape(), values)
        });
        if name.starts_with("out.") || name == "in.pixel_values" {
            tensors.push((name.clone(), spoilt.unwrap_or(tensor)));
        }
    }
    let spoilt = Checkpoint::from_tensors("spoilt", tensors).unwrap();
    // Without texts, only what images alone give can be compared.
    let verdicts = pairs::verdicts(&model, &spoilt, NEAR).unwrap();
    assert!(!verdicts.is_empty() && verdicts.iter().all(|v| !v.pass), "{verdicts:?}");
}

/// Texts by their tokenizers, and images beside them, through the head that is made of them.
#[test]
fn a_classifier_of_words_gives_the_recorded_logits() {
    for options in devices() {
        for (name, scoring) in [("clip", Scoring::Softmax), ("siglip", Scoring::Sigmoid)] {
            let texts: Vec<String> = serde_json::from_value(case(name)["texts"].clone()).unwrap();
            let model = DualEncoder::from_files(files(name), &options).unwrap();
            assert_eq!(model.matching().scoring, scoring);
            let session = model.into_classifier(texts.clone(), &Wording::default(), TooLong::Cut).unwrap();
            assert_eq!((&session.labels().names, session.info().classes), (&texts, Some(texts.len())));
            let file = recorded(name);
            let got = session.run_tensor(&file.read("in.pixel_values").unwrap(), &["logits"]).unwrap();
            let want = file.read("out.logits_per_image").unwrap();
            let verdict = compare("logits", &got[0], &want, NEAR);
            assert!(verdict.pass, "{name}: {verdict:?}");
        }
    }
}

#[test]
fn tokenizers_give_the_recorded_ids() {
    for name in ["clip", "siglip"] {
        let model = DualEncoder::from_files(files(name), &reference()).unwrap();
        let texts: Vec<String> = serde_json::from_value(case(name)["texts"].clone()).unwrap();
        let ids = recorded(name).ids("in.input_ids").unwrap();
        let rows = ids.as_u32().unwrap().chunks(ids.shape().width());
        for (text, row) in texts.iter().zip(rows) {
            let (passage, _) = model.texts().encode((text, None), TooLong::Cut).unwrap();
            assert_eq!(passage.ids, row[..passage.ids.len()], "{name}: {text}");
            // What is left of the row is padding: of the same token as the last one in both.
            assert!(row[passage.ids.len()..].iter().all(|id| Some(id) == row.last()), "{name}: {text}");
        }
    }
}

#[test]
fn a_text_is_read_at_its_first_end() {
    let model = DualEncoder::from_files(files("clip"), &reference()).unwrap();
    let texts = model.texts();
    let (passage, _) = texts.encode(("a cat<|endoftext|> and a dog", None), TooLong::Refuse).unwrap();
    let ends = &texts.info().ends;
    assert!(passage.places[0] + 1 < passage.ids.len() && ends.contains(&passage.ids[passage.places[0]]));
    let short = model.embed_texts(&["a cat"], TooLong::Refuse).unwrap();
    let long = model.embed_texts(&["a cat<|endoftext|> and a dog"], TooLong::Refuse).unwrap();
    let apart = short[0].iter().zip(&long[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-6, "{apart}");
}

#[test]
fn templates_are_averaged() {
    let model = DualEncoder::from_files(files("siglip"), &reference()).unwrap();
    let words = |text: &str| model.embed_texts(&[text], TooLong::Refuse).unwrap().remove(0);
    let wording = Wording::new(["a photo of a {}".to_owned(), "the {}".to_owned()]).unwrap();
    let got = model.embed_labels(&["cat".to_owned()], &wording, TooLong::Refuse).unwrap().remove(0);
    let mean: Vec<f32> =
        words("a photo of a cat").iter().zip(words("the cat")).map(|(a, b)| (a + b) / 2.0).collect();
    let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (got, want) in got.iter().zip(&mean) {
        assert!((got - want / length).abs() < 1e-6, "{got} {want}");
    }
    let all = Wording::imagenet().texts("tench");
    assert_eq!(
        (all.len(), all[0].as_str(), all[79].as_str()),
        (80, "a bad photo of a tench.", "a tattoo of the tench.")
    );
}

#[test]
fn labels_that_say_nothing_are_refused() {
    let model = || DualEncoder::from_files(files("clip"), &reference()).unwrap();
    let refused = |labels: &[&str], wording: &Wording| {
        let labels: Vec<String> = labels.iter().map(|&label| label.to_owned()).collect();
        let e = model().into_classifier(labels, wording, TooLong::Refuse).err().unwrap();
        assert!(matches!(e, Error::Usage { .. }), "{e}");
        e.to_string()
    };
    let plain = Wording::default();
    assert!(refused(&[], &plain).contains("no labels"));
    assert!(refused(&["a cat", " "], &plain).contains("label 2 is empty"));
    assert!(refused(&["a cat", "a dog", "a cat "], &plain).contains("stands twice"));
    let long = "cat ".repeat(40);
    let e = refused(&["a dog", &long], &plain);
    assert!(e.contains("label \"cat cat") && e.contains("takes 24"), "{e}");
    assert!(Wording::new(["a photo".to_owned()]).unwrap_err().to_string().contains("{}"));
    assert!(Wording::new([]).is_err());
    let cut = model().into_classifier(vec![long], &plain, TooLong::Cut);
    assert!(cut.is_ok());
}

#[test]
fn an_image_tower_alone_knows_no_words() {
    for name in ["clip_vision", "vit"] {
        let e = DualEncoder::from_files(files(name), &reference()).err().unwrap().to_string();
        assert!(e.contains("knows no words"), "{e}");
    }
}

/// Two sets of labels of one size, one after the other: the second must not get the first's head.
#[test]
fn classifiers_do_not_share_heads() {
    for options in devices() {
        let image = recorded("clip").read("in.pixel_values").unwrap();
        let run = |labels: [&str; 2]| {
            let model = DualEncoder::from_files(files("clip"), &options).unwrap();
            let labels = labels.map(str::to_owned).to_vec();
            let session = model.into_classifier(labels, &Wording::default(), TooLong::Refuse).unwrap();
            session.run_tensor(&image, &["logits"]).unwrap()[0].to_f32()
        };
        let [a, b] = [run(["a cat", "two red birds"]), run(["two red birds", "a cat"])];
        assert!(
            (a[0] - b[1]).abs() < 1e-4 && (a[1] - b[0]).abs() < 1e-4 && (a[0] - a[1]).abs() > 1e-3,
            "{a:?} {b:?}"
        );
    }
}

/// Bytes (B,H,W,3) of the recorded losses below.
fn bytes(batch: usize, side: usize) -> HostTensor {
    let byte = |i: u64| ((i * i * 31 + i * 17) >> 5) as u8;
    let n = (batch * side * side * 3) as u64;
    HostTensor::u8([batch, side, side, 3], (0..n).map(byte).collect())
}

/// Lengths of gradients by the names of their tensors.
type Lengths = &'static [(&'static str, f32)];

/// Three images, of which the first and the last have one caption: loss and lengths of gradients by PyTorch, of CLIP
/// with what else is true of an image left out of the sums.
const LOSSES: &[(&str, f32, Lengths)] = &[
    (
        "clip",
        1.058_198,
        &[
            ("text_model.embeddings.token_embedding.weight", 8.287_219e-1),
            ("text_model.encoder.layers.0.self_attn.q_proj.weight", 1.646_675),
            ("vision_model.embeddings.patch_embedding.weight", 7.379_605),
            ("vision_model.encoder.layers.1.mlp.fc2.weight", 8.680_643e-1),
            ("text_projection.weight", 1.475_517),
        ],
    ),
    (
        "siglip",
        5.311_106,
        &[
            ("text_model.embeddings.token_embedding.weight", 2.244_076),
            ("text_model.encoder.layers.0.self_attn.q_proj.weight", 3.304_196),
            ("vision_model.embeddings.patch_embedding.weight", 4.738_169),
            ("vision_model.encoder.layers.1.mlp.fc2.weight", 3.131_623),
            ("text_model.head.weight", 7.878_83),
            ("vision_model.head.probe", 4.778_891e-1),
        ],
    ),
];

#[test]
fn captions_are_learned_as_by_pytorch() {
    for options in devices() {
        for &(name, want, gradients) in LOSSES {
            let (files, n) = (files(name), 3);
            let model = DualEncoder::from_files(files.clone(), &reference()).unwrap();
            let captions = ["a photo of a cat", "Two  red birds, on a table!", "a photo of a cat"];
            let read = |text: &&str| model.texts().encode((text, None), TooLong::Cut).unwrap().0;
            let passages: Vec<_> = captions.iter().map(read).collect();
            let tokens = passages.iter().map(|p| p.ids.len()).max().unwrap();
            let tower = models::text_tower(&files.config, files.checkpoint.index()).unwrap().unwrap();
            let vision = models::from_config(&files.config, files.checkpoint.index(), None).unwrap();
            let vision = vision.vision().unwrap();
            let sizes = TextSizes { batch: n, tokens, written: 0, places: 1 };
            let (matching, preprocess) = (model.matching(), model.images().preprocess().clone());
            let objective =
                objective::images_and_texts(&*vision, &*tower, matching, &preprocess, sizes).unwrap();
            let rows = |of: &dyn Fn(&Passage) -> Vec<u32>, width: usize| {
                let row = |p| {
                    let mut row = of(p);
                    row.resize(width, 0);
                    row
                };
                HostTensor::u32([n, width], passages.iter().flat_map(row).collect())
            };
            let mut inputs = vec![
                ("ids", rows(&|p| p.ids.clone(), tokens)),
                ("positions", rows(&|_| (0..tokens as u32).collect(), tokens)),
                ("types", rows(&|_| vec![], tokens)),
                ("lengths", HostTensor::u32([n], passages.iter().map(|p| p.ids.len() as u32).collect())),
                ("places", rows(&|p| p.places.iter().map(|&at| at as u32).collect(), 1)),
                ("targets", HostTensor::u32([n * tokens], vec![0; n * tokens])),
                ("pixels", bytes(n, 32)),
            ];
            let same = |i: usize| captions[i / n] == captions[i % n];
            if matching.scoring == Scoring::Sigmoid {
                inputs.push(("labels", HostTensor::u32([9], (0..9).map(|i| u32::from(!same(i))).collect())));
                inputs.push(("weights", HostTensor::f32([9], vec![1.0 / 3.0; 9])));
            } else {
                let hidden = |i: usize| if i / n != i % n && same(i) { objective::HIDDEN } else { 0.0 };
                inputs.push(("shown", HostTensor::f32([n, n], (0..9).map(hidden).collect())));
                inputs.push(("labels", HostTensor::u32([n], vec![0, 1, 2])));
                inputs.push(("weights", HostTensor::f32([n], vec![0.5 / 3.0; n])));
            }
            let mut trainer =
                Trainer::open(files, &options, objective, &|_| true, &Recipe::default()).unwrap();
            let (loss, found) = trainer.gradients(&inputs).unwrap();
            assert!((loss - want).abs() < 1e-5 * want, "{name}: {loss}, PyTorch {want}");
            for (parameter, want) in gradients {
                let (_, gradient) = found.iter().find(|(name, _)| name == parameter).unwrap();
                let length = gradient.to_f32().iter().map(|x| x * x).sum::<f32>().sqrt();
                assert!((length - want).abs() < 2e-4 * want, "{name} {parameter}: {length}, PyTorch {want}");
            }
        }
    }
}
