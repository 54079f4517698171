//! A run of training: epochs of steps, a validation behind each, and what is worth keeping on disk.

use super::save::{Output, Row, State};
use super::schedule::Schedule;
use super::trainer::Trainer;
use crate::error::{Error, Result};
use crate::session::ModelFiles;
use crate::tensor::HostTensor;

/// What is learned: batches, and how well it is known.
pub trait Task {
    /// Batches of an epoch.
    fn batches(&self) -> usize;

    /// What is to be done before the first step, with how far it is; false where an end was asked for.
    ///
    /// # Errors
    /// If the data cannot be read; device errors.
    fn prepare(&mut self, _: &mut Trainer, _: &mut dyn FnMut(usize, usize) -> bool) -> Result<bool> {
        Ok(true)
    }

    /// Begins an epoch (from 0) at a batch.
    fn begin(&mut self, epoch: usize, batch: usize);

    /// The inputs of the next step.
    ///
    /// # Errors
    /// If the data cannot be read.
    fn next(&mut self) -> Result<Inputs>;

    /// The numbers of a validation. The first says which epoch is best, the next ones among equals.
    fn metrics(&self) -> &'static [Metric];

    /// The numbers of a validation, by the names of [`Task::metrics`].
    ///
    /// # Errors
    /// If the data cannot be read; device errors.
    fn validate(&mut self, trainer: &mut Trainer) -> Result<Vec<(String, f64)>>;

    /// What a user should hear since the last call: images that were left out.
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// A number of a validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in rows and tables.
    pub name: &'static str,
    /// Whether it is a share of 1, which people read as percent.
    pub share: bool,
    /// Which of two values is better.
    pub better: Better,
}

/// Which of two values of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The greater: shares of what is right.
    Greater,
    /// The smaller: losses.
    Smaller,
}

impl Better {
    /// Whether a value is better than the best so far.
    pub fn than(self, value: f64, best: f64) -> bool {
        match self {
            Better::Greater => value > best,
            Better::Smaller => value < best,
        }
    }
}

impl Metric {
    /// A share of what is right.
    pub const fn share(name: &'static str) -> Self {
        Self { name, share: true, better: Better::Greater }
    }

    /// A loss, or what grows with one.
    pub const fn loss(name: &'static str) -> Self {
        Self { name, share: false, better: Better::Smaller }
    }
}

/// Of classes: shares whose class is the first or among the first five, and the mean cross entropy.
pub const CLASSES: &[Metric] = &[Metric::share("top1"), Metric::share("top5"), Metric::loss("loss")];

/// Inputs of a step by name, as the objective declares them.
pub type Inputs = Vec<(&'static str, HostTensor)>;

/// What happened in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// What is computed once of each image (features of frozen layers, tokens): so many images of all.
    Features {
        /// Images done.
        done: usize,
        /// Images in all.
        total: usize,
    },
    /// A step: its number in the run (from 1), its loss and learning rate.
    Step {
        /// Steps taken.
        step: u32,
        /// The loss before the step.
        loss: f32,
        /// The learning rate.
        rate: f32,
    },
    /// An epoch was validated; all rows so far.
    Epoch(&'a [Row]),
    /// Something that a user should hear.
    Note(&'a str),
}

/// How long a run is, and how its learning rate goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Epochs.
    pub epochs: usize,
    /// The learning rate of every step.
    pub schedule: Schedule,
    /// Batches of a step, one after the other.
    pub parts: usize,
    /// Steps between two saves of `last` within an epoch; 0 saves at its end only.
    pub save_every: u32,
}

/// Trains until the last epoch, or until `watch` asks for an end by `false`: then the state is saved, and can be
/// gone on with. Saves `last` behind every epoch, and `best` where its validation was better than any before.
/// Returns the state.
///
/// # Errors
/// [`Error::NonFinite`] for a loss or gradients that are not numbers: what was saved last is still there. Errors of
/// task, device and disk.
pub fn fit(
    trainer: &mut Trainer,
    task: &mut dyn Task,
    files: &ModelFiles,
    run: &Run,
    mut state: State,
    output: &Output,
    watch: &mut dyn FnMut(Event) -> bool,
) -> Result<State> {
    let parts = run.parts.max(1);
    let steps = task.batches() / parts;
    if steps == 0 {
        return Err(Error::usage(
            "there is less to train on than one step takes",
            "take a smaller batch, or fewer of them for a step",
        ));
    }
    if state.epoch < run.epochs
        && !task.prepare(trainer, &mut |done, total| watch(Event::Features { done, total }))?
    {
        output.save(files, trainer, &state)?;
        return Ok(state);
    }
    while state.epoch < run.epochs {
        task.begin(state.epoch, state.batch * parts);
        while state.batch < steps {
            let inputs = (0..parts).map(|_| task.next()).collect::<Result<Vec<_>>>()?;
            let rate = run.schedule.at(state.step);
            let batch: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
            let progress = trainer.step_of(&batch, rate)?;
            if !progress.loss.is_finite() || !progress.norm.is_finite() {
                return Err(not_finite(trainer, &inputs, state.step + 1));
            }
            state.step += 1;
            state.batch += 1;
            state.losses += f64::from(progress.loss);
            for note in task.notes() {
                watch(Event::Note(&note));
            }
            let goes_on = watch(Event::Step { step: state.step, loss: progress.loss, rate });
            if !goes_on {
                output.save(files, trainer, &state)?;
                return Ok(state);
            }
            if run.save_every > 0 && state.step.is_multiple_of(run.save_every) && state.batch < steps {
                output.save(files, trainer, &state)?;
            }
        }
        let found = task.validate(trainer)?;
        if let Some((name, value)) = found.iter().find(|(_, value)| !value.is_finite()) {
            let what = format!("step {}: the {name} of the validation ({value})", state.step);
            return Err(Error::NonFinite { what, count: 1, total: 1 });
        }
        state.epoch += 1;
        state.log.push(Row {
            epoch: state.epoch,
            step: state.step,
            train_loss: state.losses / steps as f64,
            rate: run.schedule.at(state.step - 1),
            found,
        });
        (state.batch, state.losses) = (0, 0.0);
        let first = state.log.last().and_then(|row| row.found.first()).map_or(0.0, |(_, value)| *value);
        let better = is_best(&state, task.metrics());
        if better {
            state.best = Some((state.epoch, first));
        }
        output.save(files, trainer, &state)?;
        if better {
            output.keep_best(files, trainer)?;
        }
        output.write_text("summary.csv", &summary(&state.log))?;
        if !watch(Event::Epoch(&state.log)) {
            break;
        }
    }
    Ok(state)
}

/// Whether the last epoch is better than the best before: by the first metric, among equals by the next ones.
fn is_best(state: &State, metrics: &[Metric]) -> bool {
    let best = state.best.and_then(|(epoch, _)| state.log.iter().find(|row| row.epoch == epoch));
    let (Some(last), Some(best)) = (state.log.last(), best) else { return true };
    let pairs = metrics.iter().zip(last.found.iter().zip(&best.found));
    let decided = pairs.map(|(metric, ((_, new), (_, old)))| (metric.better, *new, *old));
    decided
        .into_iter()
        .find(|(_, new, old)| new != old)
        .is_some_and(|(better, new, old)| better.than(new, old))
}

/// The table of epochs, as timm writes it.
fn summary(log: &[Row]) -> String {
    let names = log.first().map(|row| row.found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    let mut out = format!("epoch,step,train_loss,lr,{}\n", names.unwrap_or_default().join(","));
    for row in log {
        let found: Vec<String> = row.found.iter().map(|(_, value)| value.to_string()).collect();
        out += &format!("{},{},{},{},{}\n", row.epoch, row.step, row.train_loss, row.rate, found.join(","));
    }
    out
}

/// Which tensor is not finite: a parameter, else a gradient, the first in the order of the forward pass.
fn not_finite(trainer: &mut Trainer, parts: &[Inputs], step: u32) -> Error {
    let bad = |what: String, tensor: &HostTensor| {
        let values = tensor.as_f32().unwrap_or_default();
        let count = values.iter().filter(|x| !x.is_finite()).count();
        (count > 0).then_some(Error::NonFinite { what, count, total: values.len() })
    };
    let names: Vec<String> = trainer.parameters().iter().map(|p| p.name.clone()).collect();
    for name in &names {
        match trainer.parameter(name) {
            Ok(tensor) => {
                if let Some(e) = bad(format!("step {step}: the parameter `{name}`"), &tensor) {
                    return e;
                }
            }
            Err(e) => return e,
        }
    }
    let mut last = f32::NAN;
    for inputs in parts {
        let (loss, gradients) = match trainer.gradients(inputs) {
            Ok(found) => found,
            Err(e) => return e,
        };
        let ordered = names.iter().filter_map(|name| gradients.iter().find(|(known, _)| known == name));
        let mut found = ordered
            .filter_map(|(name, gradient)| bad(format!("step {step}: the gradient of `{name}`"), gradient));
        if let Some(e) = found.next() {
            return e;
        }
        last = loss;
        if !loss.is_finite() {
            break;
        }
    }
    Error::NonFinite { what: format!("step {step}: the loss ({last})"), count: 1, total: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn among_equal_epochs_the_one_of_least_loss_is_best() {
        let mut state = State::default();
        for (epoch, (top1, loss, is)) in
            [(0.5, 1.0, true), (0.5, 0.9, true), (0.5, 0.95, false), (0.4, 0.1, false), (0.6, 2.0, true)]
                .into_iter()
                .enumerate()
        {
            let found = [("top1", top1), ("top5", 1.0), ("loss", loss)];
            let found = found.map(|(name, value): (&str, f64)| (name.to_owned(), value)).into();
            state.log.push(Row { epoch: epoch + 1, step: 0, train_loss: 0.0, rate: 0.0, found });
            assert_eq!(is_best(&state, CLASSES), is, "epoch {}", epoch + 1);
            if is {
                state.best = Some((epoch + 1, top1));
            }
        }
    }
}
