//! RandAR against PyTorch, which computes every step anew: scores in a random order, greedy guided tokens in
//! raster order, in a given order, several a step, after given tokens; and what the loop promises whatever
//! the order: cached equals uncached, a sample is the same in any batch.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{compare, open};
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::error::Error;
use vit_gpu::generate::{Generator, NOT_DRAWN, Order, Request};
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::ops::{Guidance, Sampling};
use vit_gpu::plan::Precision;
use vit_gpu::session::{Device, ModelSource, Options};

/// Tokens of an image.
const N: usize = 16;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/randar")
}

/// The golden model on the device under test, if there is one.
fn generator(options: Options) -> Option<Generator> {
    open(&DeviceChoice::default())?;
    Some(Generator::open(&ModelSource::Path(folder()), &options).unwrap())
}

fn golden() -> Checkpoint {
    Checkpoint::open(&folder().join("golden.safetensors"), false).unwrap()
}

/// Rows of whole numbers.
fn ids(file: &Checkpoint, name: &str) -> Vec<Vec<u32>> {
    let tensor = file.ids(name).unwrap();
    tensor.as_u32().unwrap().chunks(tensor.shape().width()).map(<[u32]>::to_vec).collect()
}

fn given_order(file: &Checkpoint) -> Order {
    Order::Given(ids(file, "in.order").concat())
}

fn greedy(first: f32, last: f32) -> Sampling {
    let guidance = Guidance { first, last, places: N as u32 };
    Sampling { seed: 1, temperature: 0.0, top_k: 0, top_p: 1.0, guidance }
}

fn request(classes: &[Option<usize>], order: Order, sampling: Sampling) -> Request {
    let classes = classes.to_vec();
    Request { classes, first: 0, sampling, prime: vec![], order, parallel: None, every: 0 }
}

fn tokens(generator: &Generator, request: &Request) -> Vec<Vec<u32>> {
    generator.generate(request, &mut |_| Ok(())).unwrap().tokens
}

#[test]
fn scores_and_tokens_are_pytorchs() {
    let file = golden();
    let labels = ids(&file, "in.labels").concat();
    let order = given_order(&file);
    let reference = Options { device: Device::Reference, ..Options::default() };
    for (name, options, tolerance) in [
        ("f32", Options::default(), 1e-4),
        ("unfused", Options { fuse: false, ..Options::default() }, 1e-4),
        ("f16", Options { precision: Some(Precision::F16), ..Options::default() }, 3e-2),
        ("reference", reference, 1e-4),
    ] {
        let Some(model) = generator(options) else { return };
        assert_eq!((model.info().family, model.info().any_order), ("randar", true));
        let logits = model.score_ordered(&order, &labels, &ids(&file, "in.ids"), &["logits"]).unwrap();
        let want = file.read("out.logits").unwrap();
        compare(&logits[0], &want, tolerance, tolerance).unwrap_or_else(|e| panic!("{name}: {e}"));
        if name == "f16" {
            continue;
        }
        let rising = |class, parallel| Request {
            parallel,
            ..request(&[Some(class)], order.clone(), greedy(1.0, 4.0))
        };
        let prime = ids(&file, "in.prime").concat();
        for (output, wanted) in [
            ("greedy_cfg2.5_class2", request(&[Some(2)], Order::Raster, greedy(2.5, 2.5))),
            ("ordered_cfg2.5_class2", request(&[Some(2)], order.clone(), greedy(2.5, 2.5))),
            ("ordered_rising_cfg4_class0", rising(0, None)),
            ("ordered_rising_cfg4_class0", rising(0, Some(N))),
            ("ordered_rising_parallel6_cfg4_class1", rising(1, Some(6))),
            ("ordered_rising_parallel2_cfg4_class4", rising(4, Some(2))),
            ("ordered_rising_primed_parallel5_cfg4_class1", Request { prime, ..rising(1, Some(5)) }),
        ] {
            assert_eq!(tokens(&model, &wanted), ids(&file, &format!("out.{output}")), "{name}: {output}");
        }
    }
}

/// Scores of every place of a sequence that was drawn token by token, against those of the whole.
#[test]
fn what_was_drawn_over_the_cache_is_what_the_whole_sequence_scores() {
    let Some(model) = generator(Options::default()) else { return };
    let Order::Given(whole) = given_order(&golden()) else { panic!("it is given") };
    let (vocabulary, scale) = (model.info().vocabulary, 3.0);
    // Nine samples have more rows than the kernels of a step take.
    for (samples, given) in [(1, 0), (2, 1), (3, 5), (1, N - 1), (9, 2)] {
        let free = whole.iter().copied().filter(|&place| place as usize >= given);
        let order: Vec<u32> = (0..given as u32).chain(free).collect();
        let classes: Vec<Option<usize>> = (0..samples).map(|i| Some(i % 5)).collect();
        let prime: Vec<u32> = (0..given as u32).map(|i| i * 7 % 64).collect();
        let wanted =
            Request { prime, ..request(&classes, Order::Given(whole.clone()), greedy(scale, scale)) };
        let made: Vec<Vec<u32>> = tokens(&model, &wanted)
            .into_iter()
            .map(|raster| order.iter().map(|&place| raster[place as usize]).collect())
            .collect();
        let fed: Vec<Vec<u32>> = made.iter().map(|t| t[..N - 1].to_vec()).collect();
        let score = |classes: Vec<u32>| {
            let order = Order::Given(order.clone());
            model.score_ordered(&order, &classes, &fed, &["logits"]).unwrap().remove(0).to_f32()
        };
        let with = score(classes.iter().map(|c| c.unwrap() as u32).collect());
        let without = score(vec![5; samples]);
        for (row, made) in made.iter().enumerate() {
            for (i, &drawn) in made.iter().enumerate().skip(given) {
                let at = (row * N + i) * vocabulary;
                let guided = |v: usize| without[at + v] + (with[at + v] - without[at + v]) * scale;
                let best = (0..vocabulary).map(guided).fold(f32::MIN, f32::max);
                let drawn = guided(drawn as usize);
                assert!(best - drawn < 1e-3, "{samples} from {given}: token {i}: {drawn} of {best}");
            }
        }
    }
}

#[test]
fn a_sample_is_the_same_in_any_batch_and_by_any_number_of_submissions() {
    let Some(model) = generator(Options::default()) else { return };
    let guidance = Guidance { first: 1.0, last: 4.0, places: 16 };
    let sampling = Sampling { seed: 77, temperature: 1.1, top_k: 40, top_p: 0.95, guidance };
    let classes = [Some(0), Some(1), Some(2), Some(3), None, Some(0)];
    for parallel in [None, Some(7)] {
        let wanted = Request { parallel, ..request(&classes, Order::Random, sampling) };
        let all = tokens(&model, &wanted);
        for n in [1, 2, 3] {
            let some = Request { classes: classes[..n].to_vec(), ..wanted.clone() };
            assert_eq!(tokens(&model, &some), all[..n], "{n} samples");
        }
        assert_ne!(all[0], all[5], "two samples of one class");
        let alone = Request { classes: vec![Some(2)], first: 2, ..wanted.clone() };
        assert_eq!(tokens(&model, &alone)[0], all[2], "one of many made again");
        let raster = Request { order: Order::Raster, ..wanted.clone() };
        assert_ne!(tokens(&model, &raster), all);

        // Where patches land, as they land.
        let (mut drawn, mut seen) = (vec![NOT_DRAWN; N], Vec::new());
        let watched = Request { every: 3, classes: classes[..2].to_vec(), ..wanted.clone() };
        let made = model.generate(&watched, &mut |p| {
            let now = &p.tokens[1];
            let known = now.iter().filter(|&&id| id != NOT_DRAWN).count();
            assert_eq!((known, now.last() != Some(&NOT_DRAWN)), (p.done, true));
            for (i, &id) in now.iter().enumerate().filter(|(_, id)| **id != NOT_DRAWN) {
                assert!([NOT_DRAWN, id].contains(&drawn[i]), "a patch that was there has changed");
                drawn[i] = id;
            }
            seen.push(p.done);
            Ok(())
        });
        let made = made.unwrap();
        assert_eq!((&made.tokens[..], &drawn), (&all[..2], &all[1]));
        assert!(made.entropy.iter().flatten().all(|e| *e > 0.0), "each place has its entropy");
        assert_eq!((seen[0], seen.last()), (1, Some(&N)));
        assert_eq!(made.stats.steps, parallel.map_or(N, |steps| steps) - 1);
    }
}

#[test]
fn patches_that_are_not_drawn_are_grey_wherever_they_are() {
    let Some(model) = generator(Options::default()) else { return };
    let mut some = vec![NOT_DRAWN; 7];
    some[6] = 5;
    let picture = model.decode(&[some]).unwrap().remove(0);
    assert_eq!((picture.height, picture.width), (4, 4));
    let grey = |i: usize| picture.pixels[i * 3..i * 3 + 3] == [128; 3];
    assert_eq!((0..N).filter(|&i| !grey(i)).collect::<Vec<_>>(), [6]);
}

#[test]
fn a_request_that_cannot_be_is_refused_in_words() {
    let Some(model) = generator(Options::default()) else { return };
    let good = request(&[Some(1)], Order::Random, greedy(1.0, 2.0));
    model.check(&good).unwrap();
    for (bad, word) in [
        (Request { parallel: Some(1), ..good.clone() }, "1 steps"),
        (Request { parallel: Some(17), ..good.clone() }, "17 steps"),
        (Request { order: Order::Given(vec![0, 1]), ..good.clone() }, "an order of 2 places"),
        (Request { order: Order::Given(vec![3; N]), ..good.clone() }, "an order"),
        (Request { prime: vec![NOT_DRAWN], ..good.clone() }, "token"),
    ] {
        let e = model.check(&bad).expect_err(word);
        assert!(matches!(&e, Error::Usage { what, .. } if what.contains(word)) && e.hint().is_some(), "{e}");
    }
    let llamagen = folder().with_file_name("llamagen");
    let llamagen = Generator::open(&ModelSource::Path(llamagen), &Options::default()).unwrap();
    let raster = Request { order: Order::Raster, ..good };
    llamagen.check(&raster).unwrap();
    let several = llamagen.check(&Request { parallel: Some(4), ..raster }).unwrap_err();
    assert!(several.to_string().contains("one patch at a time"), "{several}");
    let order = given_order(&golden());
    assert!(llamagen.score_ordered(&order, &[0], &[vec![]], &["logits"]).is_err());
}

/// Published files have LlamaGen's keys and no `model_type`: the tensor tells.
#[test]
fn a_checkpoint_is_known_by_its_instruction() {
    let copy = tempfile::tempdir().unwrap();
    for file in ["gpt.safetensors", "vq.safetensors"] {
        std::fs::copy(folder().join(file), copy.path().join(file)).unwrap();
    }
    let config = std::fs::read_to_string(folder().join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let open = |config: &serde_json::Value| {
        std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
        let options = Options { device: Device::Reference, ..Options::default() };
        Generator::open(&ModelSource::Path(copy.path().to_owned()), &options)
    };
    config.as_object_mut().unwrap().remove("model_type");
    let model = open(&config).unwrap();
    assert_eq!(model.info().family, "randar");
    assert!(!model.warnings().iter().any(|w| w.contains("not used")), "{:?}", model.warnings());
    std::fs::copy(folder().with_file_name("llamagen/gpt.safetensors"), copy.path().join("gpt.safetensors"))
        .unwrap();
    // That checkpoint is smaller, and has no instruction.
    for (key, value) in [("dim", 36), ("n_head", 3), ("n_layer", 2)] {
        config[key] = value.into();
    }
    config["model_type"] = "randar".into();
    let missing = open(&config).err().unwrap().to_string();
    assert!(missing.contains("pos_instruct_embeddings"), "{missing}");
}
