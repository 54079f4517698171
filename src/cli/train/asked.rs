//! What a run was asked for: everything that decides its bits, as it lies in the run's folder.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::args::{Objective, Opt, Sched, TrainArgs};
use crate::error::{Error, Result};
use crate::image::DecodeOptions;
use crate::models::{self, ModelKind};
use crate::train::data::{
    Augment, ImageSet, Mix, has_captions, has_texts, read_captions, read_folder, read_pictures,
};
use crate::train::lora::LoraWishes;
use crate::train::{
    AdamW, Decay, Drawing, Feeding, Lion, Optimizer, Reading, Recipe, Run, Schedule, Scope, Sgd,
};

/// Name of the pictures that are drawn on the fly.
const SHAPES: &str = "builtin:shapes";
/// Fewest pictures for validation: of shares that are right, and of images that are many tokens each.
const LEAST_HELD_OUT: usize = 500;
const LEAST_HELD_OUT_DRAWN: usize = 64;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// Absolute path, or `builtin:shapes`.
    pub(super) data: String,
    /// The model it began with, as an adapter names its base.
    pub(super) model: String,
    pub(super) trainable: Scope,
    /// What is learned from texts, if it was said.
    #[serde(default)]
    pub(super) objective: Option<Objective>,
    epochs: usize,
    opt: Opt,
    lr: f32,
    sched: Sched,
    warmup_epochs: f32,
    min_lr: f32,
    weight_decay: f32,
    momentum: f32,
    clip_grad: f32,
    smoothing: f32,
    grad_accum_steps: usize,
    grad_checkpointing: bool,
    layer_decay: f32,
    model_ema_decay: Option<f32>,
    seed: u64,
    save_every: u32,
    batch_size: usize,
    val_split: f32,
    epoch_size: usize,
    augment: Option<Augment>,
    mix: Mix,
    max_tokens: Option<usize>,
    #[serde(default)]
    mask_ratio: Option<f32>,
    #[serde(default)]
    class_dropout: Option<f32>,
    /// Probability of being mirrored, of images that are varied in no other way.
    #[serde(default)]
    flip: f32,
    lora: Option<LoraAsked>,
}

/// What a model learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Classes of images or texts.
    Classes,
    /// What is hidden of images.
    Masked,
    /// The next token of images.
    Drawn,
    /// Which captions are true of an image.
    Captions,
}

impl Kind {
    /// What a model of this configuration learns from this data.
    pub(super) fn of(config: &Json, data: &Path, objective: Option<Objective>) -> Self {
        let captions = || objective.is_none() && data != Path::new(SHAPES) && has_captions(data);
        match (models::kind(config), models::family_name(config)) {
            _ if models::has_text_tower(config)
                && (objective == Some(Objective::Contrastive) || captions()) =>
            {
                Self::Captions
            }
            (Some(ModelKind::Generator), _) => Self::Drawn,
            (_, Some("vit_mae")) => Self::Masked,
            _ => Self::Classes,
        }
    }

    /// Refuses flags that say nothing to what is learned.
    fn check(self, args: &TrainArgs) -> Result<()> {
        let feed = &args.feed;
        let varied =
            feed.scale.is_some() || feed.aa.is_some() || feed.color_jitter.is_some() || feed.reprob.is_some();
        let mixed = feed.mixup > 0.0 || feed.cutmix > 0.0;
        let unclassed = self != Self::Classes;
        let wrong = [
            (feed.mask_ratio.is_some() && self != Self::Masked, "--mask-ratio is of masked autoencoders"),
            (
                feed.class_dropout.is_some() && self != Self::Drawn,
                "--class-dropout is of generators of images",
            ),
            (
                varied && self == Self::Drawn,
                "--scale, --aa, --color-jitter, --reprob: images that become tokens once are only mirrored by --hflip",
            ),
            (mixed && unclassed, "--mixup and --cutmix mix classes, and none are learned"),
            (args.course.smoothing > 0.0 && unclassed, "--smoothing is of classes, and none are learned"),
            (
                args.lora.is_some() && unclassed && self != Self::Captions,
                "--lora trains a classifier beside it, and there is none",
            ),
            (args.trainable == Scope::Head && unclassed, "--trainable head: there is no classifier"),
        ];
        match wrong.iter().find(|(wrong, _)| *wrong) {
            Some((_, what)) => {
                Err(Error::usage(*what, "leave it out; see --help for what is learned by which model"))
            }
            None => Ok(()),
        }
    }
}

/// What a new adapter is to be like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LoraAsked {
    rank: usize,
    alpha: f64,
    targets: Vec<String>,
}

impl Asked {
    /// What the command line asks for.
    ///
    /// # Errors
    /// [`Error::Input`] for data that is not there.
    pub(super) fn new(args: &TrainArgs, model: String, kind: Kind) -> Result<Self> {
        kind.check(args)?;
        let (course, feed) = (&args.course, &args.feed);
        let data = args.data.clone().unwrap_or_default();
        let drawn = data == SHAPES;
        let data = match drawn {
            true => SHAPES.to_owned(),
            false => {
                let path = std::path::absolute(&data).unwrap_or_else(|_| data.clone().into());
                let text = path.to_str().map(str::to_owned);
                let missing = || {
                    Error::input(
                        path.display(),
                        "there is no such file or folder",
                        "name a folder of images, or a list of texts",
                    )
                };
                text.filter(|_| path.exists()).ok_or_else(missing)?
            }
        };
        let usual = Augment::default();
        let given = feed.scale.is_some()
            || feed.hflip.is_some()
            || feed.aa.is_some()
            || feed.color_jitter.is_some()
            || feed.reprob.is_some();
        let augment = Augment {
            scale: match feed.scale.as_deref() {
                Some(&[least, most]) if least > 0.0 && least <= most => [least.into(), most.into()],
                Some(_) => {
                    return Err(Error::usage(
                        "--scale: a crop has a share of the area above 0",
                        "give the least first: 0.5 1",
                    ));
                }
                None if drawn => [1.0; 2],
                // As He et al. 2021 crop.
                None if kind == Kind::Masked => [0.2, 1.0],
                None => usual.scale,
            },
            flip: feed.hflip.map_or(if drawn { 0.0 } else { usual.flip }, f64::from),
            rand: feed.aa,
            jitter: feed.color_jitter.map_or(usual.jitter, f64::from),
            erase: feed.reprob.map_or(usual.erase, f64::from),
            ..usual
        };
        let begun = args.new.is_some() || args.lora.is_some() || args.trainable == Scope::Head;
        let usual_rate = match course.opt {
            Opt::Adamw if begun => 1e-3,
            Opt::Adamw => 1e-4,
            Opt::Sgd => 0.01,
            Opt::Lion if begun => 3e-4,
            Opt::Lion => 3e-5,
        };
        let lr = course.lr.unwrap_or(usual_rate);
        if course.min_lr > lr {
            let what = format!("--min-lr {} is above the highest learning rate, {lr}", course.min_lr);
            return Err(Error::usage(what, "let the rate fall: a --min-lr below --lr, or none"));
        }
        Ok(Self {
            data,
            model,
            trainable: args.trainable,
            objective: args.objective,
            epochs: course.epochs as usize,
            opt: course.opt,
            lr,
            sched: course.sched,
            warmup_epochs: course.warmup_epochs.unwrap_or(course.epochs as f32 / 20.0),
            min_lr: course.min_lr,
            weight_decay: course.weight_decay,
            momentum: course.momentum,
            clip_grad: course.clip_grad,
            smoothing: course.smoothing,
            grad_accum_steps: course.grad_accum_steps as usize,
            grad_checkpointing: course.grad_checkpointing,
            layer_decay: course.layer_decay.unwrap_or(1.0),
            model_ema_decay: course.model_ema_decay,
            seed: course.seed,
            save_every: course.save_every,
            batch_size: feed.batch_size as usize,
            val_split: feed.val_split,
            epoch_size: feed.epoch_size as usize,
            augment: (kind != Kind::Drawn && !feed.no_aug && (!drawn || given)).then_some(augment),
            mix: Mix { mixup: feed.mixup.into(), cutmix: feed.cutmix.into() },
            max_tokens: feed.max_tokens.map(|n| n as usize),
            mask_ratio: feed.mask_ratio,
            class_dropout: feed.class_dropout,
            flip: feed.hflip.unwrap_or_default(),
            lora: args.lora.map(|rank| LoraAsked {
                rank: rank as usize,
                alpha: args.lora_alpha.map_or(2.0 * f64::from(rank), f64::from),
                targets: args.lora_targets.clone(),
            }),
        })
    }

    /// Images to train and to validate on; those that are drawn have this side in pixels.
    ///
    /// # Errors
    /// As [`read_folder`].
    pub(super) fn images(&self, side: usize, kind: Kind) -> Result<[ImageSet; 2]> {
        if self.data == SHAPES {
            let least = if kind == Kind::Drawn { LEAST_HELD_OUT_DRAWN } else { LEAST_HELD_OUT };
            let held_out = (self.epoch_size / 4).max(least);
            return Ok(ImageSet::shapes(self.seed, self.epoch_size, held_out, side));
        }
        read_folder(Path::new(&self.data), self.val_split.into(), self.seed)
    }

    /// The same, whose classes are their captions, or names of classes where there are none.
    ///
    /// # Errors
    /// As [`read_captions`] and [`read_folder`].
    pub(super) fn captioned(&self, side: usize) -> Result<[ImageSet; 2]> {
        let path = Path::new(&self.data);
        match self.data != SHAPES && has_captions(path) {
            true => read_captions(path, self.val_split.into(), self.seed),
            false => self.images(side, Kind::Captions),
        }
    }

    /// The same, where classes do not matter.
    ///
    /// # Errors
    /// As [`read_pictures`].
    pub(super) fn pictures(&self, side: usize, kind: Kind) -> Result<[ImageSet; 2]> {
        match self.data == SHAPES {
            true => self.images(side, kind),
            false => read_pictures(Path::new(&self.data), self.val_split.into(), self.seed),
        }
    }

    /// What a model of this configuration learns.
    pub(super) fn kind(&self, config: &Json) -> Kind {
        Kind::of(config, Path::new(&self.data), self.objective)
    }

    /// Where lists of texts lie, if that is what the data is.
    pub(super) fn texts(&self) -> Option<&Path> {
        let path = Path::new(&self.data);
        (self.data != SHAPES && has_texts(path)).then_some(path)
    }

    /// The share of texts that is kept for validation, and what chooses them.
    pub(super) fn split(&self) -> (f64, u64) {
        (self.val_split.into(), self.seed)
    }

    /// What a new adapter is to be like, if one is to be trained.
    pub(super) fn lora(&self) -> Option<LoraWishes> {
        self.lora.as_ref().map(|lora| LoraWishes {
            base: self.model.clone(),
            rank: lora.rank,
            alpha: lora.alpha,
            rank_stabilised: false,
            targets: lora.targets.clone(),
            modules_to_save: vec![],
            initial: vec![],
            seed: self.seed,
        })
    }

    pub(super) fn reading(&self) -> Reading {
        Reading { batch: self.batch_size, seed: self.seed, longest: self.max_tokens }
    }

    /// Share of patches that is hidden, where it is not the model's own.
    pub(super) fn mask_ratio(&self) -> Option<f32> {
        self.mask_ratio
    }

    pub(super) fn drawing(&self) -> Drawing {
        Drawing { class_dropout: self.class_dropout, flip: self.flip }
    }

    pub(super) fn feeding(&self, images: usize) -> Feeding {
        Feeding {
            // A small folder is one batch.
            batch: self.batch_size.min(images.max(1)),
            seed: self.seed,
            augment: self.augment,
            mix: self.mix,
            smoothing: self.smoothing,
            decode: DecodeOptions::default(),
        }
    }

    /// Takes a batch apart: halves, or the fewest equal parts, and as many more of them for a step.
    pub(super) fn split_batch(&mut self, batch: usize) {
        let parts = (2..=batch).find(|parts| batch.is_multiple_of(*parts)).unwrap_or(1);
        self.batch_size = batch / parts;
        self.grad_accum_steps *= parts;
    }

    /// How a step is made.
    pub(super) fn recipe(&self) -> Recipe<'static> {
        let decay = self.weight_decay;
        let optimizer = match self.opt {
            Opt::Adamw => Optimizer::AdamW(AdamW { decay, ..AdamW::default() }),
            Opt::Sgd => Optimizer::Sgd(Sgd { momentum: self.momentum, decay, ..Sgd::default() }),
            Opt::Lion => Optimizer::Lion(Lion { decay, ..Lion::default() }),
        };
        Recipe {
            optimizer,
            clip: self.clip_grad,
            parts: self.grad_accum_steps,
            layer_decay: self.layer_decay,
            average: self.model_ema_decay,
            recompute: self.grad_checkpointing,
            ..Recipe::default()
        }
    }

    /// How long the run is, where an epoch has so many batches.
    pub(super) fn run(&self, batches: usize) -> Run {
        let parts = self.grad_accum_steps;
        let epoch = batches / parts;
        let steps = u32::try_from(self.epochs.saturating_mul(epoch)).unwrap_or(u32::MAX);
        let warmup = (self.warmup_epochs * epoch as f32).round() as u32;
        let decay = match self.sched {
            Sched::Constant => Decay::Constant,
            Sched::Linear => Decay::Linear,
            Sched::Cosine => Decay::Cosine,
        };
        let schedule =
            Schedule { rate: self.lr, least: self.min_lr, warmup: warmup.min(steps), steps, decay };
        Run { epochs: self.epochs, schedule, parts, save_every: self.save_every }
    }
}
