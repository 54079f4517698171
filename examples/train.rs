//! Trains the classifier of the embedded model on shapes that are drawn on the fly.
//!
//! ```sh
//! cargo run --release --example train -- /tmp/run
//! ```

use std::path::Path;

use vit_gpu::train::data::ImageSet;
use vit_gpu::train::save::{Output, State};
use vit_gpu::train::{AdamW, Decay, Event, Feeding, ImageClasses, Optimizer};
use vit_gpu::train::{Recipe, Run, Schedule, Scope, Task, fit};
use vit_gpu::{ModelSource, Options};

fn main() -> vit_gpu::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "run".to_owned());
    let files = ModelSource::named("builtin:shapes").read(true)?;
    let sets = ImageSet::shapes(7, 256, 128, 64);
    let mut task = ImageClasses::new(files, sets, &Feeding { batch: 32, seed: 7, ..Feeding::default() })?;

    let optimizer = Optimizer::AdamW(AdamW { decay: 0.05, ..AdamW::default() });
    let recipe = Recipe { optimizer, ..Recipe::default() };
    let mut trainer = task.trainer(&Options::default(), Scope::Head, &recipe)?;

    let steps = 2 * task.batches() as u32;
    let schedule = Schedule { rate: 1e-3, least: 0.0, warmup: 4, steps, decay: Decay::Cosine };
    let run = Run { epochs: 2, schedule, parts: 1, save_every: 0 };
    let (files, output) = (task.files().clone(), Output::new(Path::new(&folder))?);
    fit::fit(&mut trainer, &mut task, &files, &run, State::default(), &output, &mut |event| {
        if let Event::Epoch(rows) = event {
            println!("{:?}", rows[rows.len() - 1]);
        }
        true
    })?;
    Ok(())
}
