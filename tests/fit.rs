//! Runs of training: that a run which was interrupted gives the same bits as one which was not, that what is saved
//! opens, that frozen features change nothing, and that a loss which is no number ends a run.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::open;
use vit_gpu::gpu::DeviceChoice;
use vit_gpu::session::ModelFiles;
use vit_gpu::train::data::{Augment, ImageSet, Images, Mix, read_documents};
use vit_gpu::train::lora::LoraWishes;
use vit_gpu::train::save::{self, Output, State};
use vit_gpu::train::texts::masked_words;
use vit_gpu::train::{
    AdamW, Decay, Drawing, DrawnImages, Event, Feeding, ImageClasses, MaskedImages, Optimizer, Reading,
    Recipe, Run, Schedule, Scope, Sgd, Task, Trainer, fit, scope,
};
use vit_gpu::{Device, Generator, ModelSource, Options, Session};

const SIDE: usize = 32;

/// A small run on shapes of 32 pixels.
#[derive(Clone)]
struct Small {
    device: Device,
    optimizer: Optimizer,
    scope: Scope,
    feeding: Feeding,
    epochs: usize,
    fresh: bool,
    rate: f32,
    /// Rank of an adapter.
    lora: Option<usize>,
}

impl Small {
    fn on(device: Device) -> Self {
        let augment = Augment { scale: [0.5, 1.0], jitter: 0.2, erase: 0.3, ..Augment::default() };
        let feeding = Feeding {
            batch: 8,
            seed: 5,
            augment: Some(augment),
            mix: Mix { mixup: 0.4, cutmix: 0.5 },
            smoothing: 0.1,
            decode: Default::default(),
        };
        let optimizer = Optimizer::AdamW(AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.05 });
        Self { device, optimizer, scope: Scope::All, feeding, epochs: 3, fresh: true, rate: 1e-3, lora: None }
    }

    fn plain(self) -> Self {
        let feeding = Feeding { augment: None, mix: Mix::default(), smoothing: 0.0, ..self.feeding };
        Self { feeding, ..self }
    }

    /// Goes on with what is in the folder, if there is something, until `stop` steps are done. Returns the state and
    /// the losses of the steps.
    fn run(&self, folder: &Path, stop: u32) -> vit_gpu::Result<(State, Vec<f32>)> {
        let output = Output::new(folder)?;
        let going_on = output.is_taken();
        let place = if going_on { output.last() } else { "tests/golden/vit".into() };
        let files = ModelSource::Path(place.clone()).read(false)?;
        let mut sets = ImageSet::shapes(9, 40, 20, SIDE);
        if let Images::Shapes { fresh, .. } = &mut sets[0].images {
            *fresh = self.fresh;
        }
        let options =
            Options { device: self.device.clone(), tuning_budget: Duration::ZERO, ..Options::default() };
        let mut task = ImageClasses::new(files, sets, &self.feeding)?;
        if let Some(rank) = self.lora.filter(|_| !going_on) {
            task.adapt(&LoraWishes {
                base: std::path::absolute(&place).unwrap().display().to_string(),
                rank,
                alpha: 8.0,
                rank_stabilised: false,
                targets: vec![],
                modules_to_save: vec![],
                initial: vec![],
                seed: 5,
            })?;
        }
        let recipe = Recipe { optimizer: self.optimizer, clip: 1.0, decays: &scope::decays };
        let trainer = task.trainer(&options, self.scope, &recipe)?;
        let files = task.files().clone();
        go_on(&mut task, trainer, &files, &output, (self.epochs, self.rate), stop)
    }
}

/// Takes a task from where the run in a folder is through so many epochs, until `stop` steps are done.
fn go_on(
    task: &mut dyn Task,
    mut trainer: Trainer,
    files: &ModelFiles,
    output: &Output,
    (epochs, rate): (usize, f32),
    stop: u32,
) -> vit_gpu::Result<(State, Vec<f32>)> {
    let mut state = State::default();
    if output.is_taken() {
        state = save::read_state(&output.last())?;
        save::resume(&mut trainer, &output.last(), &state)?;
    }
    let steps = (epochs * task.batches()) as u32;
    let schedule = Schedule { rate, least: 0.0, warmup: 3, steps, decay: Decay::Cosine };
    let run = Run { epochs, schedule, save_every: 0 };
    let mut losses = Vec::new();
    let watch = &mut |event: Event<'_>| match event {
        Event::Step { step, loss, .. } => {
            losses.push(loss);
            step < stop
        }
        _ => true,
    };
    let state = fit::fit(&mut trainer, task, files, &run, state, output, watch)?;
    Ok((state, losses))
}

/// The same of a masked autoencoder, and of a model that draws, on small shapes.
fn pixels(folder: &Path, model: &str, device: &Device, stop: u32) -> vit_gpu::Result<(State, Vec<f32>)> {
    let output = Output::new(folder)?;
    let place = if output.is_taken() { output.last() } else { Path::new("tests/golden").join(model) };
    let files = ModelSource::Path(place).read(false)?;
    let options = Options { device: device.clone(), tuning_budget: Duration::ZERO, ..Options::default() };
    let adamw = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.05 };
    let recipe = Recipe { optimizer: Optimizer::AdamW(adamw), clip: 1.0, decays: &scope::decays };
    let sets = ImageSet::shapes(9, 40, 20, SIDE);
    let feeding = Feeding { batch: 8, seed: 5, ..Feeding::default() };
    if model == "vit_mae" {
        let augment = Some(Augment { scale: [0.5, 1.0], ..Augment::default() });
        let mut task = MaskedImages::new(files, sets, &Feeding { augment, ..feeding }, None)?;
        let (trainer, files) = (task.trainer(&options, Scope::All, &recipe)?, task.files().clone());
        return go_on(&mut task, trainer, &files, &output, (3, 3e-3), stop);
    }
    let drawing = Drawing { class_dropout: None, flip: 0.5 };
    let mut task = DrawnImages::new(files, sets, &feeding, drawing)?;
    let (trainer, files) = (task.trainer(&options, Scope::All, &recipe)?, task.files().clone());
    go_on(&mut task, trainer, &files, &output, (3, 3e-3), stop)
}

/// Losses of an uninterrupted run, which one with interruptions has too, and its validations.
fn interrupted_pixels(model: &str, device: &Device, stops: &[u32]) -> (Vec<f32>, Vec<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let (state, losses) = pixels(&whole, model, device, u32::MAX).unwrap();
    assert_eq!((state.step, losses.len()), (15, 15));
    let mut all = Vec::new();
    for &stop in stops.iter().chain([&u32::MAX]) {
        all.extend(pixels(&parts, model, device, stop).unwrap().1);
    }
    assert_eq!(all, losses);
    same(&whole, &parts);
    let found: Vec<f64> = state.log.iter().map(|row| row.found[0].1).collect();
    let least = found.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(state.best.unwrap().1, least, "the best epoch is the one of the least loss: {found:?}");
    (losses, found)
}

#[test]
fn an_interrupted_run_of_masked_images_gives_the_same_bits_and_paints_better() {
    let (losses, found) = interrupted_pixels("vit_mae", &Device::Reference, &[1, 5, 8]);
    assert!(found[2] < 0.9 * f64::from(losses[0]), "{losses:?} {found:?}");
    // What is fixed in the original stays.
    let folder = tempfile::tempdir().unwrap();
    pixels(folder.path(), "vit_mae", &Device::Reference, 2).unwrap();
    let [old, new] = [Path::new("tests/golden/vit_mae"), &folder.path().join("last")]
        .map(|path| vit_gpu::checkpoint::Checkpoint::open(&path.join("model.safetensors"), false).unwrap());
    let stays = |name: &&String| old.read(name).unwrap() == new.read(name).unwrap();
    let fixed: Vec<&String> = old.index().keys().filter(stays).collect();
    assert_eq!(fixed, ["decoder.decoder_pos_embed", "vit.embeddings.position_embeddings"]);
}

#[test]
fn an_interrupted_run_of_images_by_tokens_gives_the_same_bits_and_knows_them_better() {
    let (losses, found) = interrupted_pixels("imagegpt", &Device::Reference, &[2, 5, 11]);
    // Of 32 colours none is likelier than the others at ln 32; the weights were drawn, and are worse than that.
    assert!(losses[0] > 32f32.ln() && found[2] < 32f64.ln() - 0.5, "{losses:?} {found:?}");
}

/// Folders of the embedded generator's own kind of pictures, by class.
fn own_pictures() -> ImageSet {
    let classes = ["triangle", "drop", "ring", "rectangle"].map(str::to_owned);
    let files = classes.iter().zip(0..).map(|(class, i)| (format!("tests/shapes_gpt/{class}.png").into(), i));
    ImageSet { images: Images::Files(files.collect()), classes: classes.to_vec() }
}

#[test]
fn the_embedded_generator_begins_with_the_loss_that_it_has_and_learns() {
    let choice = DeviceChoice::default();
    if open(&choice).is_none() {
        return;
    }
    let options =
        Options { device: Device::Gpu(choice), tuning_budget: Duration::ZERO, ..Options::default() };
    let files = ModelSource::Builtin("shapes-gpt".to_owned()).read(false).unwrap();
    // What it thinks of these pictures, asked as generation asks.
    let generator = Generator::from_files(files.clone(), &options).unwrap();
    let Images::Files(images) = own_pictures().images else { panic!() };
    let tokens: Vec<Vec<u32>> = images
        .iter()
        .map(|(path, _)| {
            let image = vit_gpu::image::decode_file(path, &Default::default()).unwrap();
            generator.encode(&generator.fit(&image).unwrap()).unwrap()
        })
        .collect();
    let names = &generator.labels().names;
    let own = own_pictures().classes;
    let classes: Vec<u32> =
        own.iter().map(|class| names.iter().position(|name| name == class).unwrap() as u32).collect();
    let read: Vec<Vec<u32>> = tokens.iter().map(|tokens| tokens[..63].to_vec()).collect();
    let logits = generator.score(&classes, &read, &["logits"]).unwrap().remove(0).to_f32();
    let unlikely = |(row, token): (&[f32], u32)| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
        sum.ln() - f64::from(row[token as usize] - most)
    };
    let want = logits.chunks(512).zip(tokens.concat()).map(unlikely).sum::<f64>() / 256.0;
    // That of held-out pictures is 1.05.
    assert!((0.6..1.6).contains(&want), "{want}");

    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path()).unwrap();
    let feeding = Feeding { batch: 4, seed: 5, ..Feeding::default() };
    let drawing = Drawing { class_dropout: Some(0.0), flip: 0.0 };
    let mut task = DrawnImages::new(files, [own_pictures(), own_pictures()], &feeding, drawing).unwrap();
    assert!(!task.new_classes(), "it knows these by name");
    let recipe = Recipe { optimizer: Optimizer::AdamW(AdamW::default()), clip: 1.0, decays: &scope::decays };
    let trainer = task.trainer(&options, Scope::All, &recipe).unwrap();
    let files = task.files().clone();
    let (state, losses) = go_on(&mut task, trainer, &files, &output, (4, 1e-3), u32::MAX).unwrap();
    assert!((f64::from(losses[0]) - want).abs() < 1e-4 * want, "{losses:?} {want}");
    assert!(f64::from(losses[3]) < want - 0.05 && state.log[3].found[0].1 < want - 0.1, "{losses:?}");
    // What is saved is a generator as any other, with its codec and the names of its classes.
    let saved = Generator::open(&ModelSource::Path(output.best()), &options).unwrap();
    assert_eq!(saved.labels().names, generator.labels().names);
    assert_eq!(saved.decode(&tokens[..1]).unwrap(), generator.decode(&tokens[..1]).unwrap());
}

#[test]
fn interrupted_runs_of_pixels_give_the_same_bits_on_this_adapter() {
    let choice = DeviceChoice::default();
    if open(&choice).is_some() {
        for model in ["vit_mae", "imagegpt"] {
            interrupted_pixels(model, &Device::Gpu(choice.clone()), &[3, 10]);
        }
    }
}

/// Contents of all files of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            all.extend(contents(&path).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            all.insert(name, std::fs::read(&path).unwrap());
        }
    }
    all
}

#[track_caller]
fn same(a: &Path, b: &Path) {
    let [a, b] = [a, b].map(contents);
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let differing: Vec<&String> = a.keys().filter(|name| a[*name] != b[*name]).collect();
    assert!(differing.is_empty(), "{differing:?} differ");
}

/// One run as it is, one interrupted after these steps, one after the other: the same bits.
fn interrupted(small: &Small, stops: &[u32]) {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let (state, losses) = small.run(&whole, u32::MAX).unwrap();
    assert_eq!((state.step, state.epoch, losses.len()), (15, 3, 15));
    let mut all = Vec::new();
    for &stop in stops.iter().chain([&u32::MAX]) {
        let (state, losses) = small.run(&parts, stop).unwrap();
        assert_eq!(state.step, stop.min(15));
        all.extend(losses);
    }
    assert_eq!(all, losses);
    same(&whole, &parts);
    // What is saved is a model as any other.
    let options = Options { device: Device::Reference, ..Options::default() };
    let session = Session::open(&ModelSource::Path(parts.join("best")), &options).unwrap();
    assert_eq!((session.labels().names.len(), session.labels().names[2].as_str()), (16, "ring"));
}

#[test]
fn an_interrupted_run_gives_the_same_bits_on_the_reference() {
    interrupted(&Small::on(Device::Reference), &[1, 5, 6, 14]);
}

#[test]
fn an_interrupted_run_gives_the_same_bits_on_this_adapter() {
    let choice = DeviceChoice::default();
    if open(&choice).is_some() {
        let small = Small::on(Device::Gpu(choice));
        interrupted(&small, &[1, 2, 3, 4, 6, 7, 9, 10, 12, 13]);
        let momentum = Optimizer::Sgd(Sgd { momentum: 0.9, decay: 1e-4, nesterov: false });
        interrupted(
            &Small { optimizer: momentum, scope: Scope::Last(1), ..small.clone().plain() },
            &[4, 10, 15],
        );
        interrupted(&Small { lora: Some(2), ..small }, &[3, 8]);
    }
}

/// A run on masked words, which are drawn anew in every epoch, until `stop` steps are done; the losses of the steps.
fn masked(device: &Device, folder: &Path, stop: u32) -> Vec<f32> {
    let output = Output::new(&folder.join("run")).unwrap();
    let going_on = output.is_taken();
    let place = if going_on { output.last() } else { "tests/toys/bert-toy".into() };
    let text = folder.join("story.txt");
    let line =
        |i: usize| format!("{} has the {} hat.\n", ["Anna", "Ben"][i % 2], ["red", "blue", "green"][i % 3]);
    std::fs::write(&text, (0..30).map(line).collect::<String>()).unwrap();
    let documents = read_documents(&text, 0.2, 1).unwrap();
    let files = ModelSource::Path(place.clone()).read(false).unwrap();
    let mut task = masked_words(files, documents, &Reading { batch: 2, seed: 3, longest: Some(16) }).unwrap();
    let options = Options { device: device.clone(), tuning_budget: Duration::ZERO, ..Options::default() };
    let optimizer = Optimizer::AdamW(AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.05 });
    let recipe = Recipe { optimizer, clip: 1.0, decays: &scope::decays };
    let mut trainer = task.trainer(&options, Scope::All, &recipe).unwrap();
    let mut state = State::default();
    if going_on {
        state = save::read_state(&place).unwrap();
        save::resume(&mut trainer, &place, &state).unwrap();
    }
    let steps = (2 * task.batches()) as u32;
    assert!(steps > 8, "{steps} steps");
    let schedule = Schedule { rate: 1e-3, least: 0.0, warmup: 2, steps, decay: Decay::Cosine };
    let run = Run { epochs: 2, schedule, save_every: 0 };
    let (files, mut losses) = (task.files().clone(), Vec::new());
    let watch = &mut |event: Event<'_>| match event {
        Event::Step { step, loss, .. } => {
            losses.push(loss);
            step < stop
        }
        _ => true,
    };
    fit::fit(&mut trainer, &mut task, &files, &run, state, &output, watch).unwrap();
    losses
}

#[test]
fn an_interrupted_run_on_masked_words_gives_the_same_bits() {
    let choice = DeviceChoice::default();
    let adapter = open(&choice).map(|_| Device::Gpu(choice));
    for device in [Some(Device::Reference), adapter].into_iter().flatten() {
        let [whole, parts] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let losses = masked(&device, whole.path(), u32::MAX);
        let mut all = Vec::new();
        for stop in [2, 7, u32::MAX] {
            all.extend(masked(&device, parts.path(), stop));
        }
        assert_eq!(all, losses);
        // The least perplexity of both epochs is the best one.
        let state = save::read_state(&whole.path().join("run/last")).unwrap();
        let least = state.log.iter().map(|row| row.found[0].1).fold(f64::INFINITY, f64::min);
        assert_eq!(state.best.unwrap().1, least);
        same(&whole.path().join("run"), &parts.path().join("run"));
    }
}

#[test]
fn features_that_are_computed_once_train_the_same_classifier() {
    let choice = DeviceChoice::default();
    if open(&choice).is_none() {
        return;
    }
    for device in [Device::Reference, Device::Gpu(choice)] {
        for scope in [Scope::Head, Scope::Last(1)] {
            let kept = Small { scope, fresh: false, ..Small::on(device.clone()).plain() };
            // A mixture of nothing still asks for every image anew.
            let feeding = Feeding {
                augment: Some(Augment { scale: [1.0; 2], flip: 0.0, ..Augment::default() }),
                ..kept.feeding.clone()
            };
            let anew = Small { feeding, ..kept.clone() };
            let folder = tempfile::tempdir().unwrap();
            let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
            let (_, kept) = kept.run(&a, u32::MAX).unwrap();
            let (_, anew) = anew.run(&b, u32::MAX).unwrap();
            for (x, y) in kept.iter().zip(&anew) {
                assert!((x - y).abs() <= 2e-5 * y.abs(), "{scope:?}: {kept:?} {anew:?}");
            }
        }
    }
}

#[test]
fn only_what_is_meant_changes() {
    let folder = tempfile::tempdir().unwrap();
    let changed = |scope: Scope| {
        let path = folder.path().join(format!("{scope:?}"));
        Small { scope, ..Small::on(Device::Reference).plain() }.run(&path, 2).unwrap();
        let [old, new] = [Path::new("tests/golden/vit"), &path.join("last")].map(|path| {
            vit_gpu::checkpoint::Checkpoint::open(&path.join("model.safetensors"), false).unwrap()
        });
        let differs = |name: &&String| old.read(name).unwrap() != new.read(name).unwrap();
        old.index().keys().filter(differs).cloned().collect::<Vec<_>>()
    };
    assert_eq!(changed(Scope::Head), ["classifier.bias", "classifier.weight"]);
    let last = changed(Scope::Last(1));
    assert!(
        last.iter().any(|name| name.contains("layer.1."))
            && last.iter().any(|name| name.contains("layernorm")),
        "{last:?}"
    );
    assert!(!last.iter().any(|name| name.contains("layer.0.") || name.contains("embeddings")), "{last:?}");
    let all = changed(Scope::All);
    assert!(all.iter().any(|name| name.contains("position_embeddings")) && all.len() > 30, "{all:?}");
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wild = Small { rate: 1e30, ..Small::on(Device::Reference).plain() };
    let e = wild.run(folder.path(), u32::MAX).unwrap_err();
    assert!(matches!(e, vit_gpu::Error::NonFinite { .. }) && e.message().contains("step "), "{e}");
    assert!(!folder.path().join("last").exists());
    let [calm, wild] = [
        Small { epochs: 1, ..Small::on(Device::Reference) },
        Small { rate: f32::MAX, ..Small::on(Device::Reference) },
    ];
    calm.run(folder.path(), u32::MAX).unwrap();
    let before = contents(&folder.path().join("last"));
    assert!(wild.run(folder.path(), u32::MAX).is_err());
    assert!(before == contents(&folder.path().join("last")), "the last good checkpoint is still there");
}
