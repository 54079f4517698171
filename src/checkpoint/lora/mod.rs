//! LoRA adapters (Hu et al. 2021) in the files of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//! Beside a weight W (N,K) lie A (r,K) and B (N,r), and the weight that counts is W + s·B·A.
//!
//! What is read here is the adapter alone, checked in itself; [`Overlay`](super::Overlay) lays it over a base.

mod config;
mod save;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Json;

pub use config::LoraConfig;
pub(crate) use config::is_within;
pub use save::save;

use super::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::printable::printable;
use crate::textfile;

/// The configuration in an adapter's folder.
pub(crate) const CONFIG: &str = "adapter_config.json";
/// Its tensors.
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
/// The same as a pickle.
pub(crate) const PICKLE: &str = "adapter_model.bin";

/// What PEFT puts in front of the base model's names.
pub(crate) const PREFIX: &str = "base_model.model.";

/// Largest configuration that is read, in bytes.
const MAX_JSON: u64 = 16 << 20;

/// A LoRA adapter: its configuration, and its tensors in order. Clones share the file.
#[derive(Debug, Clone)]
pub struct Lora {
    /// What messages call it.
    pub name: String,
    /// The configuration.
    pub config: LoraConfig,
    /// The same as it is written.
    pub json: Json,
    /// The tensors under the names of the file.
    pub checkpoint: Checkpoint,
    /// Modules with low-rank factors, by name.
    pub pairs: Vec<Pair>,
    /// Tensors that replace the base's, by name.
    pub saved: Vec<Saved>,
}

/// The two factors of a module.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The module in the base model.
    pub module: String,
    /// Name of A (r,K) in the file.
    pub a: String,
    /// Name of B (N,r) in the file.
    pub b: String,
    /// r.
    pub rank: usize,
    /// s.
    pub scale: f32,
}

/// A tensor in place of the base's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The tensor in the base model.
    pub tensor: String,
    /// Name in the file.
    pub name: String,
}

impl Lora {
    /// Reads an adapter's folder.
    ///
    /// # Errors
    /// [`Error::Model`] for files that are missing or damaged, and naming the first field or tensor that is wrong
    /// or asks for what is not done here.
    pub fn open(folder: &Path, mmap: bool) -> Result<Self> {
        let shown = &folder.display();
        let file = folder.join(CONFIG);
        let json = textfile::read_json(&file, MAX_JSON)
            .map_err(|wrong| Error::model(file.display(), wrong.what, wrong.help))?;
        let json = json.ok_or_else(|| {
            let help = format!("an adapter's folder holds {CONFIG} and {WEIGHTS}, as PEFT saves them");
            Error::model(shown, format!("is no adapter: there is no {CONFIG}"), help)
        })?;
        let weights = folder.join(WEIGHTS);
        if !weights.exists() && folder.join(PICKLE).exists() {
            let what =
                format!("has only pickled weights ({PICKLE}); pickles can run code and are never read");
            let help = "load it in Python with PEFT and save it again by save_pretrained";
            return Err(Error::model(shown, what, help));
        }
        let checkpoint = Checkpoint::open(&weights, mmap)?;
        Self::new(shown.to_string(), &file.display().to_string(), &json, checkpoint)
    }

    /// An adapter of a parsed configuration, whose file is called `file` in messages, and of tensors.
    ///
    /// # Errors
    /// As [`Lora::open`].
    pub fn new(name: String, file: &str, json: &Json, checkpoint: Checkpoint) -> Result<Self> {
        let config = LoraConfig::read(file, json)?;
        let (factors, saved) = sorted(&checkpoint)?;
        let mut pairs = Vec::with_capacity(factors.len());
        for (module, [a, b]) in factors {
            let shown = printable(&module);
            let alone = |has: &str, lacks: &str| {
                let what = format!("{shown} has a {has} and no {lacks}");
                Error::model(checkpoint.name(), what, "the file is damaged; save the adapter again")
            };
            let a = a.ok_or_else(|| alone("lora_B", "lora_A"))?;
            let b = b.ok_or_else(|| alone("lora_A", "lora_B"))?;
            let rank = config.rank_of(&module)?;
            let rows = checkpoint.readable(&a)?.dims().first().copied();
            if rows != Some(rank) {
                let what = format!("`{}` has {} rows, and `r` is {rank}", printable(&a), rows.unwrap_or(0));
                return Err(Error::model(checkpoint.name(), what, format!("{CONFIG} is of another adapter")));
            }
            let scale = config.scale_of(&module, rank)?;
            pairs.push(Pair { module, a, b, rank, scale });
        }
        if pairs.is_empty() && saved.is_empty() {
            return Err(Error::model(
                checkpoint.name(),
                "has no lora_A and lora_B",
                "is it an adapter of PEFT?",
            ));
        }
        Ok(Self { name, config, json: json.clone(), checkpoint, pairs, saved })
    }

    /// Names of all tensors that it brings.
    pub fn names(&self) -> BTreeSet<&str> {
        let factors = self.pairs.iter().flat_map(|pair| [pair.a.as_str(), &pair.b]);
        factors.chain(self.saved.iter().map(|saved| saved.name.as_str())).collect()
    }
}

/// A and B by module.
type Factors = BTreeMap<String, [Option<String>; 2]>;

/// The tensors of a file by what they are for.
fn sorted(checkpoint: &Checkpoint) -> Result<(Factors, Vec<Saved>)> {
    let refused = |name: &str, why: &str, help: &str| {
        Error::model(checkpoint.name(), format!("tensor `{}` {why}", printable(name)), help)
    };
    let merge = "merge the adapter into its model by PEFT's merge_and_unload";
    let mut factors = Factors::new();
    let mut saved = Vec::new();
    let mut adapter: Option<&str> = None;
    for name in checkpoint.names() {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            let why = format!("does not begin with {PREFIX}");
            return Err(refused(name, &why, "adapters are read as PEFT's save_pretrained writes them"));
        };
        for (part, why) in [
            ("lora_embedding_", "adapts an embedding, which is not done"),
            ("lora_magnitude_vector", "is of DoRA (`use_dora`), which is not applied"),
            ("trainable_tokens", "replaces single rows of an embedding (`trainable_token_indices`)"),
        ] {
            if rest.contains(part) {
                return Err(refused(name, why, merge));
            }
        }
        let factor = ["lora_A", "lora_B"].iter().enumerate().find_map(|(i, kind)| {
            rest.split_once(&format!(".{kind}.")).map(|(module, tail)| (i, module, tail))
        });
        let Some((i, module, tail)) = factor else {
            if rest.contains("lora_") {
                return Err(refused(name, "is no lora_A or lora_B", merge));
            }
            // The base's own, which early versions saved too.
            if !rest.contains(".original_module.") {
                let tensor = rest.replace(".modules_to_save.default.", ".");
                let tensor = tensor.replace(".modules_to_save.", ".").replace(".base_layer.", ".");
                saved.push(Saved { tensor, name: name.to_owned() });
            }
            continue;
        };
        // `weight`, or `NAME.weight` in a state dict that was saved as it is.
        let (which, kind) = tail.rsplit_once('.').unwrap_or(("", tail));
        if kind != "weight" {
            return Err(refused(name, "is no weight of a factor (`lora_bias`)", merge));
        }
        match adapter {
            Some(other) if other != which => {
                let why = format!("is of another adapter than `{}`", printable(other));
                return Err(refused(name, &why, "save each adapter in a folder of its own"));
            }
            _ => adapter = Some(which),
        }
        let place = &mut factors.entry(module.to_owned()).or_default()[i];
        if let Some(other) = place.replace(name.to_owned()) {
            let why = format!("is there twice, as `{}` too", printable(&other));
            return Err(refused(name, &why, "save the adapter again"));
        }
    }
    Ok((factors, saved))
}
