//! `adapter_config.json` of a LoRA adapter, as PEFT writes it.

use fancy_regex::Regex;
use serde_json::Value as Json;

use crate::error::{Error, Result};
use crate::printable::printable;

/// Highest rank that is read.
const MOST: u64 = 1 << 16;

/// What makes of an adapter something else than W + s·B·A: fields that must be absent, false or empty.
const REFUSED: &[(&str, &str)] = &[
    ("use_dora", "DoRA scales the rows of the weights besides"),
    ("lora_bias", "biases of the low-rank factors are not added"),
    ("target_parameters", "parameters that are no module's weight are not adapted"),
    ("layer_replication", "layers are not repeated"),
    ("trainable_token_indices", "single rows of an embedding are not replaced"),
    ("alora_invocation_tokens", "an adapter is on from the first token on"),
    ("arrow_config", "one adapter is applied, and none are chosen among"),
    ("use_qalora", "QA-LoRA pools what its factors read"),
    ("use_bdlora", "block-diagonal factors are not read"),
    ("kasa_config", "KaSA has singular values between its factors"),
    ("monteclora_config", "MonteCLoRA draws its weights at random"),
];

/// Ways to begin that leave the base as it is; others change it, and hold only against what they made of it.
const INITIAL: &[&str] = &["gaussian", "eva", "orthogonal", "true", "false"];

/// What a LoRA adapter's configuration says.
#[derive(Debug, Clone)]
pub struct LoraConfig {
    /// `base_model_name_or_path`: the model that it was made for.
    pub base: Option<String>,
    /// `r`: columns of A's rows that are added, where no pattern says otherwise.
    pub rank: usize,
    /// `lora_alpha`.
    pub alpha: f64,
    /// `use_rslora`: the factor is alpha / sqrt(r), not alpha / r.
    pub rank_stabilised: bool,
    /// `modules_to_save`: endings of the names of modules that are replaced as a whole.
    pub modules_to_save: Vec<String>,
    ranks: Patterns,
    alphas: Patterns,
    /// For messages.
    file: String,
}

/// A pattern of names, as it is written, and a number.
type Patterns = Vec<(String, Regex, f64)>;

impl LoraConfig {
    /// Reads the parsed file; `file` is its name for messages.
    ///
    /// # Errors
    /// [`Error::Model`] naming the first field that is wrong, or asks for what is not done here.
    pub fn read(file: &str, json: &Json) -> Result<Self> {
        let wrong = |what: String, help: &str| Error::model(file, what, help);
        if !json.is_object() {
            return Err(wrong("is not a JSON object".into(), "is it an adapter's configuration?"));
        }
        let said = |key: &str| json.get(key).filter(|value| !value.is_null());
        match said("peft_type").and_then(Json::as_str) {
            Some("LORA") => {}
            Some(other) => {
                let what = format!("`peft_type` is {}, which is not applied", printable(other));
                return Err(wrong(what, "LORA is; merge others into their model by PEFT's merge_and_unload"));
            }
            None => return Err(wrong("has no `peft_type`".into(), "is it an adapter of PEFT?")),
        }
        for (key, why) in REFUSED {
            if said(key).is_some_and(|value| !empty(value)) {
                let what = format!("`{key}` is set: {why}");
                return Err(wrong(what, "merge it into its model by PEFT's merge_and_unload"));
            }
        }
        if let Some(initial) = said("init_lora_weights") {
            let word = initial.as_str().map_or_else(|| initial.to_string(), str::to_owned);
            if !INITIAL.contains(&word.as_str()) {
                let what = format!("`init_lora_weights` is {}, which changes the base", printable(&word));
                return Err(wrong(
                    what,
                    "convert it to a plain adapter when saving: see PEFT's save_pretrained",
                ));
            }
        }
        let switch = |key: &str| match said(key) {
            None => Ok(false),
            Some(Json::Bool(on)) => Ok(*on),
            Some(other) => Err(wrong(format!("`{key}` is {other}, expected true or false"), "")),
        };
        // PEFT goes by the class of a layer, whatever this says, and so is done here.
        switch("fan_in_fan_out")?;
        match said("bias") {
            None => {}
            Some(Json::String(bias)) if ["none", "all", "lora_only"].contains(&bias.as_str()) => {}
            Some(other) => {
                return Err(wrong(format!("`bias` is {other}"), "none, all and lora_only are known"));
            }
        }
        let rank = said("r").and_then(Json::as_u64).filter(|r| (1..=MOST).contains(r));
        let rank = rank.ok_or_else(|| wrong(format!("`r` is no rank from 1 to {MOST}"), ""))?;
        let alpha = said("lora_alpha").and_then(Json::as_f64).filter(|alpha| alpha.is_finite());
        let modules_to_save = match said("modules_to_save") {
            None => vec![],
            Some(list) => {
                strings(list).ok_or_else(|| wrong("`modules_to_save` is no list of names".into(), ""))?
            }
        };
        Ok(Self {
            base: said("base_model_name_or_path")
                .and_then(Json::as_str)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            rank: usize::try_from(rank).unwrap_or(usize::MAX),
            alpha: alpha.ok_or_else(|| wrong("`lora_alpha` is no number".into(), ""))?,
            rank_stabilised: switch("use_rslora")?,
            modules_to_save,
            ranks: patterns(file, json, "rank_pattern")?,
            alphas: patterns(file, json, "alpha_pattern")?,
            file: file.to_owned(),
        })
    }

    /// The rank of a module's factors. `module` is its name in the base model.
    ///
    /// # Errors
    /// [`Error::Model`] for a rank that is none, and where patterns contradict each other.
    pub fn rank_of(&self, module: &str) -> Result<usize> {
        match self.matched("rank_pattern", &self.ranks, module)? {
            None => Ok(self.rank),
            Some(r) if r.fract() == 0.0 && (1.0..=MOST as f64).contains(&r) => Ok(r as usize),
            Some(r) => {
                let what = format!("`rank_pattern` gives {} the rank {r}", printable(module));
                Err(Error::model(&self.file, what, "ranks are whole numbers from 1 on"))
            }
        }
    }

    /// The factor on a module's B·A of this rank.
    ///
    /// # Errors
    /// [`Error::Model`] where patterns contradict each other.
    pub fn scale_of(&self, module: &str, rank: usize) -> Result<f32> {
        let alpha = self.matched("alpha_pattern", &self.alphas, module)?.unwrap_or(self.alpha);
        let rank = rank as f64;
        Ok((alpha / if self.rank_stabilised { rank.sqrt() } else { rank }) as f32)
    }

    /// Whether a tensor's module, by its name in the base model, is replaced as a whole.
    pub fn is_saved(&self, tensor: &str) -> bool {
        let module = tensor.rsplit_once('.').map_or(tensor, |(module, _)| module);
        self.modules_to_save.iter().any(|name| is_within(module, name))
    }

    /// What the first pattern that fits a module says. The order of the file is lost in reading, so all that fit
    /// must agree.
    fn matched(&self, key: &str, patterns: &Patterns, module: &str) -> Result<Option<f64>> {
        let mut found: Option<(&str, f64)> = None;
        for (text, pattern, number) in patterns {
            let fits = pattern.is_match(module).map_err(|e| {
                let what = format!("`{key}`: {} cannot be matched: {e}", printable(text));
                Error::model(&self.file, what, "name the modules themselves")
            })?;
            match found {
                Some((other, before)) if fits && before != *number => {
                    let (a, b, module) = (printable(other), printable(text), printable(module));
                    let what = format!("`{key}`: {a} and {b} both fit {module}, and differ");
                    return Err(Error::model(&self.file, what, "let one pattern fit each module"));
                }
                None if fits => found = Some((text, *number)),
                _ => {}
            }
        }
        Ok(found.map(|(_, number)| number))
    }
}

/// Whether a module, or one that it is a part of, has a name that ends so, as PEFT reads `modules_to_save`.
pub(crate) fn is_within(module: &str, name: &str) -> bool {
    let dots = module.match_indices('.').map(|(at, _)| at).chain([module.len()]);
    dots.into_iter().any(|end| module[..end].ends_with(name))
}

/// PEFT's `get_pattern_key`: a pattern stands for the end of a name, from a dot on.
fn patterns(file: &str, json: &Json, key: &str) -> Result<Patterns> {
    let wrong = |what: String| Error::model(file, format!("`{key}`: {what}"), "see PEFT's LoraConfig");
    let object = match json.get(key) {
        None | Some(Json::Null) => return Ok(vec![]),
        Some(Json::Object(object)) => object,
        Some(_) => return Err(wrong("is no object of patterns and numbers".into())),
    };
    object
        .iter()
        .map(|(text, number)| {
            let number = number.as_f64().filter(|n| n.is_finite());
            let number = number.ok_or_else(|| wrong(format!("{} has no number", printable(text))))?;
            let pattern = Regex::new(&format!(r"^(?:.*\.)?(?:{text})$"))
                .map_err(|e| wrong(format!("{} is no pattern: {e}", printable(text))))?;
            Ok((text.clone(), pattern, number))
        })
        .collect()
}

fn strings(list: &Json) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn empty(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::Array(list) => list.is_empty(),
        Json::Object(object) => object.is_empty(),
        Json::String(text) => text.is_empty(),
        Json::Bool(true) | Json::Number(_) => false,
    }
}
