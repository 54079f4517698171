//! What the files of sentence-transformers beside a checkpoint say of its embeddings: what is put before a
//! text, how long it may be, how the vectors of its tokens become one, and what becomes of that.
//!
//! `modules.json` lists the steps, `1_Pooling/config.json` and `2_Dense/` hold the settings of some,
//! `sentence_bert_config.json` those of the text, `config_sentence_transformers.json` prompts and length. A
//! folder without `modules.json` says nothing. A step that is not known here is refused by name.

mod dense;
mod disk;
mod pooling;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::checkpoint::sniff;
use crate::error::{Advice, Error, Result};
use crate::hub::SENTENCE_SETTINGS;
use crate::printable::printable;
use disk::{AGAIN, json};

pub use dense::Dense;
pub use pooling::Mode;
pub(crate) use pooling::pooled;

/// What comes after pooling.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A linear layer with its activation.
    Dense(Dense),
    /// The vector is brought to length 1.
    Normalize,
}

/// What a folder says of its embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentence {
    /// How the vectors of tokens become one; several are joined.
    pub modes: Vec<Mode>,
    /// Whether the tokens of a prompt count in a mean or maximum.
    pub include_prompt: bool,
    /// What comes after that, in order.
    pub steps: Vec<Step>,
    /// So many numbers of each vector are kept.
    pub truncate: Option<usize>,
    /// Tokens of the longest text.
    pub limit: Option<usize>,
    /// Whether texts are read in small letters.
    pub lower: bool,
    /// Prompts by their names.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt that a text is read behind.
    pub prompt: Option<String>,
}

impl Sentence {
    /// Reads the files of a checkpoint's folder; `None` if there is no `modules.json`.
    ///
    /// # Errors
    /// [`Error::Model`] for files that cannot be read or contradict themselves, and for steps that are not
    /// known here.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let list = folder.join("modules.json");
        let Some(modules) = json(&list)? else { return Ok(None) };
        let wrong = |what: String| Error::model(list.display(), what, AGAIN);
        let modules = modules.as_array().ok_or_else(|| wrong("it is not a list".to_owned()))?;
        let mut found = Self {
            modes: Vec::new(),
            include_prompt: true,
            steps: Vec::new(),
            truncate: None,
            limit: None,
            lower: false,
            prompts: BTreeMap::new(),
            prompt: None,
        };
        for module in modules {
            let name = module["type"].as_str().unwrap_or_default();
            // As in "sentence_transformers.models.Pooling"; classes of others may share a name.
            let own = name.starts_with("sentence_transformers.");
            let kind = name.rsplit('.').next().filter(|_| own).unwrap_or_default();
            let path = || {
                let path = place(folder, module["path"].as_str().unwrap_or_default()).map_err(wrong)?;
                sniff::refuse_pointers(&path)?;
                Ok(path)
            };
            match (kind, found.modes.is_empty()) {
                ("Transformer", true) => found.settings(&path()?)?,
                ("Pooling", true) => found.pooling(&path()?)?,
                ("Dense", false) => found.steps.push(Step::Dense(Dense::read(&path()?)?)),
                ("Normalize", false) => found.steps.push(Step::Normalize),
                ("Dropout", _) => {}
                (_, first) => {
                    let place = if own && first { " before the pooling" } else { "" };
                    let what = format!("its embeddings are made by `{}`{place}", printable(name));
                    let what = format!("{what}, which is not known here");
                    return Err(Error::model(list.display(), what, Advice::PoolPlainly));
                }
            }
        }
        if found.modes.is_empty() {
            return Err(wrong("it lists no pooling".to_owned()));
        }
        found.prompts(folder)?;
        Ok(Some(found))
    }

    /// A text as the model reads it.
    pub fn prepared(&self, text: &str) -> String {
        let prompt = self.prompt.as_ref().and_then(|name| self.prompts.get(name));
        let whole = format!("{}{text}", prompt.map_or("", String::as_str));
        let whole = whole.trim();
        if self.lower { whole.to_lowercase() } else { whole.to_owned() }
    }

    /// The prompt alone as the model reads it, if its tokens count in no mean and no maximum.
    pub(super) fn excluded_prompt(&self) -> Option<String> {
        let prompt = self.prompts.get(self.prompt.as_ref()?)?;
        (!self.include_prompt && !prompt.is_empty()).then(|| self.prepared(""))
    }

    /// Takes another prompt; an empty name takes none.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that the folder does not have.
    pub fn choose_prompt(&mut self, name: &str) -> Result<()> {
        if !name.is_empty() && !self.prompts.contains_key(name) {
            let what = format!("there is no prompt `{}`", printable(name));
            return Err(Error::usage(what, self.prompt_names()));
        }
        self.prompt = (!name.is_empty()).then(|| name.to_owned());
        Ok(())
    }

    fn prompt_names(&self) -> String {
        let names: Vec<String> = self.prompts.keys().map(|name| format!("`{}`", printable(name))).collect();
        if names.is_empty() {
            "the folder has none".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        }
    }

    /// What the pooled numbers of one text become.
    ///
    /// # Errors
    /// [`Error::Model`] for a layer of another width.
    pub fn finish(&self, mut vector: Vec<f32>) -> Result<Vec<f32>> {
        for step in &self.steps {
            match step {
                Step::Normalize => normalize(&mut vector),
                Step::Dense(dense) if dense.widths()[0] == vector.len() => vector = dense.apply(&vector),
                Step::Dense(dense) => {
                    let [takes, _] = dense.widths();
                    let what = format!("a Dense layer takes {takes} numbers, and gets {}", vector.len());
                    return Err(Error::model("modules.json", what, AGAIN));
                }
            }
        }
        vector.truncate(self.truncate.unwrap_or(usize::MAX));
        Ok(vector)
    }

    /// Whether vectors come out at length 1.
    pub fn normalized(&self) -> bool {
        self.steps.last() == Some(&Step::Normalize) && self.truncate.is_none()
    }

    /// What pooling is called: `cls`, `max+mean`.
    pub fn pooling_name(&self) -> String {
        self.modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join("+")
    }

    fn settings(&mut self, folder: &Path) -> Result<()> {
        for name in SENTENCE_SETTINGS {
            let file = folder.join(name);
            let Some(settings) = json(&file)? else { continue };
            let limit = settings["max_seq_length"].as_u64();
            self.limit = limit.and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
            self.lower = settings["do_lower_case"].as_bool().unwrap_or(false);
            return Ok(());
        }
        Ok(())
    }

    fn pooling(&mut self, folder: &Path) -> Result<()> {
        let file = folder.join("config.json");
        let wrong = |what: String| Error::model(file.display(), what, AGAIN);
        let config = json(&file)?.ok_or_else(|| wrong("no such file".to_owned()))?;
        self.modes = pooling::modes(&config).map_err(|what| wrong(printable(&what)))?;
        self.include_prompt = config["include_prompt"].as_bool().unwrap_or(true);
        Ok(())
    }

    fn prompts(&mut self, folder: &Path) -> Result<()> {
        let file = folder.join("config_sentence_transformers.json");
        let Some(config) = json(&file)? else { return Ok(()) };
        let wrong = |what: String| Error::model(file.display(), what, AGAIN);
        for (name, prompt) in config["prompts"].as_object().into_iter().flatten() {
            let prompt =
                prompt.as_str().ok_or_else(|| wrong(format!("prompt `{}` is no text", printable(name))))?;
            self.prompts.insert(name.clone(), prompt.to_owned());
        }
        if let Some(name) = config["default_prompt_name"].as_str() {
            if !self.prompts.contains_key(name) {
                let what = format!("the default prompt `{}` is not among its prompts", printable(name));
                return Err(wrong(what));
            }
            self.prompt = Some(name.to_owned());
        }
        let truncate = &config["truncate_dim"];
        if !truncate.is_null() {
            let n = truncate.as_u64().filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
            self.truncate = Some(n.ok_or_else(|| wrong("`truncate_dim` is no count".to_owned()))?);
        }
        Ok(())
    }
}

/// Brings a vector to length 1; one of length 0 stays.
pub(crate) fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length.max(1e-12)) as f32);
}

/// The folder of a module, which lies in the model's or is it.
fn place(folder: &Path, path: &str) -> Result<PathBuf, String> {
    if path.contains(['/', '\\', ':']) || path.starts_with('.') {
        return Err(format!("the module's folder `{}` is none beside it", printable(path)));
    }
    Ok(folder.join(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A folder of such files.
    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content.to_string()).unwrap();
        }
        folder
    }

    fn modules(kinds: &[&str]) -> Value {
        let module = |(i, kind): (usize, &&str)| {
            let path =
                if i == 0 { String::new() } else { format!("{i}_{}", kind.rsplit('.').next().unwrap()) };
            json!({"idx": i, "path": path, "type": kind})
        };
        kinds.iter().enumerate().map(module).collect()
    }

    const TRANSFORMER: &str = "sentence_transformers.models.Transformer";
    const POOLING: &str = "sentence_transformers.models.Pooling";
    const NORMALIZE: &str = "sentence_transformers.models.Normalize";
    const DENSE: &str = "sentence_transformers.models.Dense";

    fn read(files: &[(&str, Value)]) -> Result<Sentence> {
        Sentence::read(folder(files).path()).map(|found| found.expect("there is a modules.json"))
    }

    #[test]
    fn what_the_files_say() {
        let mean = json!({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true});
        let list = modules(&[TRANSFORMER, POOLING, NORMALIZE]);
        let settings = json!({"max_seq_length": 256, "do_lower_case": true});
        for name in SENTENCE_SETTINGS {
            let said = read(&[
                ("modules.json", list.clone()),
                ("1_Pooling/config.json", mean.clone()),
                (name, settings.clone()),
            ]);
            let said = said.unwrap();
            assert_eq!((said.modes.as_slice(), said.limit), (&[Mode::Mean][..], Some(256)), "{name}");
            assert!(said.lower && said.normalized() && said.include_prompt, "{name}");
            assert_eq!(said.prepared(" A Cat "), "a cat");
        }
        assert_eq!(Sentence::read(tempfile::tempdir().unwrap().path()), Ok(None));
    }

    #[test]
    fn prompts_and_lengths() {
        let files = |config: Value| {
            read(&[
                ("modules.json", modules(&[TRANSFORMER, POOLING, NORMALIZE])),
                ("1_Pooling/config.json", json!({"pooling_mode": "mean", "include_prompt": false})),
                ("config_sentence_transformers.json", config),
            ])
        };
        let prompts = json!({"query": "Query: ", "passage": ""});
        let mut said =
            files(json!({"prompts": prompts, "default_prompt_name": "query", "truncate_dim": 2})).unwrap();
        assert_eq!(said.prepared("a cat"), "Query: a cat");
        assert_eq!(said.excluded_prompt().as_deref(), Some("Query:"));
        // Brought to length 1 first, and cut then.
        assert_eq!(said.finish(vec![2.0, 0.0, 0.0, 0.0]), Ok(vec![1.0, 0.0]));
        assert!(!said.normalized());
        said.choose_prompt("passage").unwrap();
        assert_eq!((said.prepared("a cat").as_str(), said.excluded_prompt()), ("a cat", None));
        said.choose_prompt("").unwrap();
        assert_eq!(said.prepared("a cat"), "a cat");
        assert!(said.choose_prompt("other").unwrap_err().to_string().contains("`other`"));
        let e = files(json!({"prompts": {}, "default_prompt_name": "query"})).unwrap_err().to_string();
        assert!(e.contains("`query` is not among"), "{e}");
    }

    #[test]
    fn a_pointer_in_a_module_folder() {
        let folder = folder(&[("modules.json", modules(&[TRANSFORMER, POOLING]))]);
        let pooling = folder.path().join("1_Pooling");
        std::fs::create_dir(&pooling).unwrap();
        std::fs::write(pooling.join("config.json"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
        let e = Sentence::read(folder.path()).unwrap_err().to_string();
        assert!(e.contains("1_Pooling") && e.contains("git-LFS pointer"), "{e}");
    }

    #[test]
    fn files_that_say_nothing_that_is_known() {
        let cls = ("1_Pooling/config.json", json!({"pooling_mode": "cls"}));
        for (list, pooling, says) in [
            (json!({}), cls.1.clone(), "not a list"),
            (modules(&[TRANSFORMER, POOLING]), json!({}), "names no way"),
            (modules(&[TRANSFORMER]), cls.1.clone(), "lists no pooling"),
            (modules(&[TRANSFORMER, DENSE, POOLING]), cls.1.clone(), "Dense` before the pooling"),
            (modules(&["custom_st.Transformer", POOLING]), cls.1.clone(), "custom_st.Transformer"),
            (modules(&[TRANSFORMER, POOLING, "mine.Normalize"]), cls.1.clone(), "mine.Normalize"),
            (modules(&[TRANSFORMER, POOLING, "sentence_transformers.models.LSTM"]), cls.1.clone(), "LSTM"),
            (json!([{"type": POOLING, "path": "../1_Pooling"}]), cls.1.clone(), "is none beside it"),
            (json!([{"type": POOLING, "path": "2_Pooling"}]), cls.1.clone(), "no such file"),
        ] {
            let e = read(&[("modules.json", list), (cls.0, pooling)]).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
        let at = folder(&[("modules.json", modules(&[TRANSFORMER, POOLING]))]);
        std::fs::create_dir(at.path().join("1_Pooling")).unwrap();
        std::fs::write(at.path().join("1_Pooling/config.json"), "[").unwrap();
        assert!(Sentence::read(at.path()).unwrap_err().to_string().contains("not valid JSON"));
    }

    #[test]
    fn a_dense_layer_behind_the_pooling() {
        let layer = |more: Value| {
            let mut config = json!({"in_features": 2, "out_features": 3, "bias": true});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let at = folder(&[
                ("modules.json", modules(&[TRANSFORMER, POOLING, DENSE])),
                ("1_Pooling/config.json", json!({"pooling_mode": "mean"})),
                ("2_Dense/config.json", config),
            ]);
            let tensor = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
            let (weight, bias) = (tensor(&[1.0, 2.0, 0.0, -1.0, 0.5, 0.5]), tensor(&[0.0, 1.0, -1.0]));
            let view = |shape, data| {
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, data).unwrap()
            };
            let tensors =
                [("linear.weight", view(vec![3, 2], &weight)), ("linear.bias", view(vec![3], &bias))];
            let bytes = safetensors::serialize(tensors, None).unwrap();
            std::fs::write(at.path().join("2_Dense/model.safetensors"), bytes).unwrap();
            Sentence::read(at.path()).map(|found| found.expect("a modules.json"))
        };
        let plain = layer(json!({"activation_function": "torch.nn.modules.linear.Identity"})).unwrap();
        // Rows (1, 2), (0, -1), (0.5, 0.5) by (3, 4), and (0, 1, -1).
        assert_eq!(plain.finish(vec![3.0, 4.0]), Ok(vec![11.0, -3.0, 2.5]));
        let tanh = layer(json!({"activation_function": "torch.nn.modules.activation.Tanh"})).unwrap();
        let expected = [11.0, -3.0, 2.5].map(|x: f64| x.tanh() as f32);
        assert_eq!(tanh.finish(vec![3.0, 4.0]), Ok(expected.to_vec()));
        assert!(plain.finish(vec![1.0]).unwrap_err().to_string().contains("takes 2 numbers"));
        for (more, says) in [
            (json!({"activation_function": "mine.Cube"}), "mine.Cube"),
            (json!({"module_input_name": "token_embeddings"}), "token_embeddings"),
            (json!({"use_residual": true}), "use_residual"),
            (json!({"out_features": 4}), "linear.weight"),
        ] {
            let e = layer(more).unwrap_err().to_string();
            assert!(e.contains(says), "{e}");
        }
    }
}
