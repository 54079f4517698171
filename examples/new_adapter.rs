//! Makes a new LoRA adapter for a model of images or texts, in the files of PEFT: `tools/peft/check.py` loads it there.
//!
//! ```sh
//! cargo run --example new_adapter -- tests/golden/vit /tmp/adapter q_proj v_proj
//! ```
//!
//! Without names of layers it is for all linear ones but the heads; `+classifier` trains that module as a whole.

#![allow(missing_docs, reason = "an example")]

use std::path::Path;

use vit_gpu::checkpoint::lora;
use vit_gpu::models::text::TextSizes;
use vit_gpu::models::{self, AnyModel};
use vit_gpu::train::lora::{LoraWishes, fresh};
use vit_gpu::train::objective;
use vit_gpu::{Error, ModelSource, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, out, targets @ ..] = &arguments[..] else {
        return Err(Error::usage(
            "new_adapter BASE OUT [LAYER...] [+MODULE...]",
            "pass a model and a folder",
        ));
    };
    let files = ModelSource::named(base).read(true)?;
    // The layers that there are: those of a pass with a loss behind it.
    let graph = match models::from_config(&files.config, files.checkpoint.index(), None)? {
        AnyModel::Vision(model) => objective::classes_of_images(&*model, 1, 0.0)?.graph,
        AnyModel::Text(model) => {
            let sizes = TextSizes { batch: 1, tokens: 4, written: 4, places: 1 };
            objective::texts(&*model, sizes, objective::usual(&*model))?.graph
        }
        AnyModel::Generator(model) => objective::next_patch(&*model, 1)?.graph,
    };
    let (saved, targets): (Vec<_>, Vec<_>) = targets.iter().cloned().partition(|name| name.starts_with('+'));
    let wishes = LoraWishes {
        base: Path::new(base).canonicalize().map_or(base.clone(), |path| path.display().to_string()),
        rank: 4,
        alpha: 8.0,
        rank_stabilised: false,
        targets,
        modules_to_save: saved.iter().map(|name| name.trim_start_matches('+').to_owned()).collect(),
        initial: vec![],
        seed: 1,
    };
    let adapter = fresh(&files, &graph, &wishes)?;
    let tensors =
        adapter.names().into_iter().map(|name| Ok((name.to_owned(), adapter.checkpoint.read(name)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    lora::save(Path::new(out), &adapter.json, &tensors)?;
    println!("{out}: {} layers", adapter.pairs.len());
    Ok(())
}
