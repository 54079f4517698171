//! Models of texts against their originals (transformers 5.23, tiny random checkpoints in `tests/golden/`):
//! hidden states and scores of every text, greedy ids exactly; on the reference and on the adapter, in f32
//! and f16. And what sessions promise: a result depends on no padding and no neighbour, a step of the token
//! loop gives what one pass gives, a table may be larger than a binding.
//! `VIT_GPU_TEXT_GOLDENS=<folder>` runs the cases of another folder.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{compare, open};
use serde_json::Value as Json;
use vit_gpu::checkpoint::Checkpoint;
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::models::text::TextSizes;
use vit_gpu::models::{FAMILIES, ModelKind};
use vit_gpu::plan::Precision;
use vit_gpu::session::{Device, ModelSource, Options};
use vit_gpu::tensor::HostTensor;
use vit_gpu::text::{Beams, Kind, Passage, Search, Task, TextSession, TooLong};

const TOLERANCE: f32 = 1e-4;
/// Weights are wide and scores of T5 unscaled, so that rounding is seen.
const F16_TOLERANCE: f32 = 8e-2;

fn root() -> PathBuf {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::env::var_os("VIT_GPU_TEXT_GOLDENS").map_or_else(here, PathBuf::from)
}

/// A recorded case: its session and its tensors.
struct Case {
    name: String,
    session: TextSession,
    file: Checkpoint,
}

/// Every text case, with the folder that holds its weights joined to its own configuration.
fn cases(options: &Options) -> Vec<Case> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root()).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    folders.into_iter().filter_map(|folder| case(&folder, options)).collect()
}

fn case(folder: &Path, options: &Options) -> Option<Case> {
    let name = folder.file_name()?.to_string_lossy().into_owned();
    let json: Json = serde_json::from_slice(&std::fs::read(folder.join("case.json")).ok()?).unwrap();
    let family = json["family"].as_str()?;
    if !FAMILIES.iter().any(|f| f.kind() == ModelKind::Text && f.name == family)
        || !folder.join("config.json").exists()
    {
        return None;
    }
    let temporary = tempfile::tempdir().unwrap();
    let mut source = folder.to_owned();
    if let Some(other) = json["weights_from"].as_str() {
        for (from, file) in [(folder, "config.json"), (&root().join(other), "model.safetensors")] {
            std::fs::copy(from.join(file), temporary.path().join(file)).unwrap();
        }
        source = temporary.path().to_owned();
    }
    let options = Options { mmap: false, ..options.clone() };
    let session = TextSession::open(&ModelSource::Path(source), &options).unwrap();
    let file = Checkpoint::open(&folder.join("golden.safetensors"), false).unwrap();
    Some(Case { name, session, file })
}

impl Case {
    fn rows(&self, name: &str) -> Option<Vec<Vec<u32>>> {
        let tensor = self.file.contains(name).then(|| self.file.ids(name).unwrap())?;
        Some(tensor.as_u32().unwrap().chunks(tensor.shape().width()).map(<[u32]>::to_vec).collect())
    }

    /// The recorded texts without their padding.
    fn passages(&self) -> Vec<Passage> {
        let info = self.session.info();
        let masks = self.rows("in.attention_mask");
        let types = self.rows("in.token_type_ids");
        let written = self.rows("in.decoder_input_ids");
        let texts = self.rows("in.input_ids").unwrap().into_iter().enumerate().map(|(i, ids)| {
            let length = masks.as_ref().map_or(ids.len(), |m| m[i].iter().filter(|&&m| m != 0).count());
            let written = written.as_ref().map_or_else(Vec::new, |w| w[i].clone());
            let scored = if written.is_empty() { length } else { written.len() };
            let last = ids[..length].iter().rposition(|&id| Some(id) != info.pad).unwrap_or(0);
            let reads_last = info.kind == Kind::Decoder && info.can(Task::Classify);
            Passage {
                places: if reads_last { vec![last] } else { (0..scored).collect() },
                types: types.as_ref().map_or_else(Vec::new, |t| t[i][..length].to_vec()),
                ids: ids[..length].to_vec(),
                written,
                targets: vec![],
            }
        });
        texts.collect()
    }

    /// Compares every recorded output; returns what is wrong.
    fn failures(&self, tolerance: f32) -> Vec<String> {
        let known = self.session.output_names().unwrap();
        let passages = self.passages();
        let mut failures = Vec::new();
        let mut compared = 0;
        for name in self.file.index().keys().filter_map(|n| n.strip_prefix("out.")) {
            let fails = match name {
                "greedy" if tolerance == TOLERANCE => self.greedy(&passages).err(),
                "greedy" | "mean_pooled_normalized" => continue,
                "mean_pooled" => self.output(name, "mean", &passages, tolerance).err(),
                _ if known.iter().any(|n| n == name) => self.output(name, name, &passages, tolerance).err(),
                _ => Some("it is not produced".to_owned()),
            };
            compared += 1;
            failures.extend(fails.map(|e| format!("{} {name}: {e}", self.name)));
        }
        assert!(compared > 0, "{}: nothing is recorded", self.name);
        failures
    }

    fn output(&self, name: &str, output: &str, passages: &[Passage], tolerance: f32) -> Result<(), String> {
        let want = self.file.read(&format!("out.{name}")).unwrap();
        let got = self.session.run(passages, &[output]).map_err(|e| e.to_string())?;
        let shape = want.shape();
        let (rows, recorded) = (passages.len(), want.to_f32());
        assert_eq!(shape.dims()[0], rows);
        for (i, passage) in passages.iter().enumerate() {
            let got = got[i][0].to_f32();
            let per = recorded.len() / rows;
            let by_token = shape.dims().len() == 3 || name == "start_logits" || name == "end_logits";
            let of_decoder = !passage.written.is_empty() && !name.starts_with("encoder");
            let length = if of_decoder { passage.written.len() } else { passage.ids.len() };
            let n = if by_token { per / shape.dims()[1] * length } else { per };
            let flat = |data: &[f32]| HostTensor::f32([n], data[..n].to_vec());
            let want = &recorded[i * per..];
            compare(&flat(&got), &flat(want), tolerance, tolerance).map_err(|e| format!("row {i}: {e}"))?;
        }
        Ok(())
    }

    fn greedy(&self, passages: &[Passage]) -> Result<(), String> {
        for (passage, want) in passages.iter().zip(self.rows("out.greedy").unwrap()) {
            let begin = match self.session.info().kind {
                Kind::Decoder => passage.ids.clone(),
                _ => vec![self.session.info().start.unwrap()],
            };
            let (made, _) = self.session.greedy(&passage.ids, want.len() - begin.len(), false).unwrap();
            let got: Vec<u32> = begin.into_iter().chain(made).collect();
            if got != want[..got.len()] {
                return Err(format!("{got:?}, recorded {want:?}"));
            }
        }
        Ok(())
    }
}

fn check(options: &Options, tolerance: f32) {
    let cases = cases(options);
    assert!(cases.len() >= 4, "{} cases", cases.len());
    let failures: Vec<String> = cases.iter().flat_map(|case| case.failures(tolerance)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_reference_is_the_original() {
    check(&Options { device: Device::Reference, ..Options::default() }, TOLERANCE);
}

#[test]
fn the_adapter_is_the_original() {
    if open(&DeviceChoice::default()).is_none() {
        return;
    }
    check(&Options::default(), TOLERANCE);
}

#[test]
fn the_adapter_is_near_the_original_in_f16() {
    let Some(gpu) = open(&DeviceChoice::default()) else { return };
    if !gpu.target().f16 {
        eprintln!("SKIP: `{}` has no f16", gpu.report().name);
        return;
    }
    check(&Options { precision: Some(Precision::F16), ..Options::default() }, F16_TOLERANCE);
}

/// Texts of many lengths give the same alone, in a batch, and beside longer ones.
#[test]
fn no_result_depends_on_padding_or_neighbours() {
    if open(&DeviceChoice::default()).is_none() {
        return;
    }
    for (name, output) in [
        ("bert_seqcls", "logits"),
        ("bert_qa", "start_logits"),
        ("roberta_seqcls", "mean"),
        ("gpt2", "last_hidden_state"),
        ("t5_v10", "encoder_last_hidden_state"),
    ] {
        let case = case(&root().join(name), &Options::default()).unwrap();
        let text = |n: usize, seed: usize| {
            let ids: Vec<u32> = (0..n).map(|i| (5 + (i * 31 + seed * 17) % 80) as u32).collect();
            Passage { ids, places: vec![0], ..Passage::default() }
        };
        let texts: Vec<Passage> =
            [3, 17, 8, 1, 30, 9, 17, 2, 25, 12].into_iter().enumerate().map(|(i, n)| text(n, i)).collect();
        let together = case.session.run(&texts, &[output]).unwrap();
        for (text, together) in texts.iter().zip(&together) {
            let alone = case.session.run(std::slice::from_ref(text), &[output]).unwrap();
            let by_token = output.contains("hidden") || output.starts_with("start");
            let all = together[0].to_f32();
            let width = if output.starts_with("start") { 1 } else { case.session.info().hidden };
            let n = if by_token { text.ids.len() * width } else { all.len() };
            let flat = |data: &[f32]| HostTensor::f32([n], data[..n].to_vec());
            compare(&flat(&all), &flat(&alone[0][0].to_f32()), 1e-5, 1e-5)
                .unwrap_or_else(|e| panic!("{name} of {} tokens: {e}", text.ids.len()));
        }
    }
}

/// The probabilities of a text's tokens are those of its scores, and the token loop draws the likeliest.
#[test]
fn log_probabilities_are_those_of_the_scores() {
    if open(&DeviceChoice::default()).is_none() {
        return;
    }
    let case = case(&root().join("gpt2"), &Options::default()).unwrap();
    let ids = case.rows("in.input_ids").unwrap().remove(0);
    let targets = ids[1..].to_vec();
    let n = targets.len();
    let passage = Passage { places: (0..n).collect(), targets: targets.clone(), ids, ..Passage::default() };
    let results = case.session.run(&[passage], &["logits", "log_probability"]).unwrap().remove(0);
    let logits = results[0].to_f32();
    let want: Vec<f32> = logits
        .chunks(case.session.info().vocabulary)
        .zip(&targets)
        .map(|(row, &id)| {
            let top = row.iter().copied().fold(f32::MIN, f32::max);
            row[id as usize] - top - row.iter().map(|l| (l - top).exp()).sum::<f32>().ln()
        })
        .collect();
    let got = HostTensor::f32([n], results[1].to_f32()[..n].to_vec());
    compare(&got, &HostTensor::f32([n], want), 1e-5, 1e-5).unwrap();
}

/// Bad input is refused by name, and nothing runs.
#[test]
fn wrong_texts_are_refused() {
    let options = Options { device: Device::Reference, ..Options::default() };
    let case = case(&root().join("bert_seqcls"), &options).unwrap();
    let text = |ids: &[u32]| Passage { ids: ids.to_vec(), ..Passage::default() };
    let long = Passage { ids: vec![7; 41], ..Passage::default() };
    let segment = Passage { types: vec![0, 2], ..text(&[5, 6]) };
    for (passage, says) in [
        (text(&[]), "no tokens"),
        (text(&[5, 101]), "token 101 of a vocabulary of 101"),
        (long, "41 tokens, the model takes 40"),
        (segment, "segment 2 of 2"),
    ] {
        let error = case.session.run(&[text(&[5]), passage], &["logits"]).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("text 2"), "{error}");
    }
    assert!(case.session.tokenizer().is_err(), "the folder has no tokenizer");
    assert!(case.session.greedy(&[5], 3, false).unwrap_err().to_string().contains("cannot write texts"));
}

/// Beam searches of transformers 5.23: `tests/golden/beams.json`.
#[test]
fn beams_are_those_of_the_original() {
    if open(&DeviceChoice::default()).is_none() {
        return;
    }
    let text = std::fs::read(root().join("beams.json")).unwrap();
    let searches: Vec<Json> = serde_json::from_slice(&text).unwrap();
    let mut failures = Vec::new();
    let mut last: Option<Case> = None;
    for search in &searches {
        let name = search["case"].as_str().unwrap();
        let case = match last.take().filter(|case| case.name == name) {
            Some(case) => case,
            None => case(&root().join(name), &Options::default()).unwrap(),
        };
        let ids = |key: &str| -> Vec<u32> {
            search[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
        };
        let beams = Beams {
            search: Search {
                beams: search["beams"].as_u64().unwrap() as usize,
                length_penalty: search["length_penalty"].as_f64().unwrap() as f32,
                early: search["early"].as_bool().unwrap(),
            },
            constraints: Default::default(),
            tokens: Some(search["new"].as_u64().unwrap() as usize),
            too_long: TooLong::Refuse,
        };
        let found = case.session.beams_of(&ids("prompt"), &beams).unwrap().remove(0);
        let score = search["score"].as_f64().unwrap();
        let want = ids("ids");
        // What follows an end is padding.
        let padded = want.len() >= found.ids.len()
            && want[found.ids.len()..].iter().all(|&id| Some(&id) == want.last());
        if !padded || found.ids != want[..found.ids.len()] || (found.score - score).abs() > 1e-4 {
            failures.push(format!("{name} {beams:?}: {found:?}, recorded {:?} {score}", ids("ids")));
        }
        last = Some(case);
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), searches.len(), failures.join("\n"));
}

/// A table beyond the binding limit is stored in parts: as embedding, as head, in one pass and in the loop.
#[test]
fn a_table_may_be_larger_than_a_binding() {
    // The table of T5's words takes 14,544 bytes; any other weight can be stored in parts of 9,728 or less.
    let small = DeviceChoice { max_binding_bytes: Some(10_000), ..DeviceChoice::default() };
    if open(&small).is_none() {
        return;
    }
    let whole = case(&root().join("t5_v10"), &Options::default()).unwrap();
    let options = Options { device: Device::Gpu(small), ..Options::default() };
    let parts = case(&root().join("t5_v10"), &options).unwrap();
    let ids: Vec<u32> = whole.passages()[0].ids[..8].to_vec();
    let sizes = TextSizes { batch: 1, tokens: 8, written: 8, places: 4 };
    let plan = parts.session.plan(sizes, &["logits"]).unwrap();
    let tables = plan.weights.iter().filter(|w| w.shape.dims() == [101, 36]);
    assert!(tables.clone().count() > 0 && tables.clone().all(|w| w.parts.len() > 1), "{plan}");
    let passage = Passage {
        ids: ids.clone(),
        written: vec![0, 5, 100, 7],
        places: vec![0, 1, 2, 3],
        ..Passage::default()
    };
    let [got, want] = [&parts, &whole].map(|case| {
        let made = case.session.run(std::slice::from_ref(&passage), &["logits"]).unwrap();
        (made[0][0].clone(), case.session.greedy(&ids, 6, true).unwrap().0)
    });
    compare(&got.0, &want.0, 1e-5, 1e-5).unwrap();
    assert_eq!(got.1, want.1);
}
