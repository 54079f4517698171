//! Fields of `config.json`, read with the family's defaults and checked before anything is sized
//! by them. Every error names the field, what it holds and what it should hold.

use std::cell::RefCell;

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::ops::Act;

/// What errors call the configuration.
pub(crate) const FILE: &str = "config.json";

/// Widest token, MLP, vocabulary or image side that is believed; everything real is far below.
const MAX_WIDTH: usize = 1 << 20;
/// Most layers or heads that are believed.
const MAX_DEPTH: usize = 1024;

/// The fields of one JSON object.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Json>,
    /// Numbers read so far, for hints about tensors that do not fit.
    seen: RefCell<Vec<(String, usize)>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(config: &'a Json) -> Result<Self> {
        let object = config.as_object().ok_or_else(|| Error::model(FILE, "is not a JSON object", ""))?;
        Ok(Self { object, seen: RefCell::default() })
    }

    /// The value under a key; `null` counts as absent, as it does in the originals.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Json> {
        self.object.get(key).filter(|v| !v.is_null())
    }

    /// The fields of a nested object.
    pub(crate) fn nested(&self, key: &str) -> Result<Option<Fields<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Json::Object(object)) => Ok(Some(Fields { object, seen: RefCell::default() })),
            Some(other) => Err(wrong(key, other, "an object")),
        }
    }

    /// The keys that are set.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.object.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k.as_str())
    }

    /// A count that may be absent.
    pub(crate) fn optional(&self, key: &str, least: usize, most: usize) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let expected = || format!("a whole number from {least} to {most}");
        let n = value.as_u64().and_then(|n| usize::try_from(n).ok());
        let n = n.filter(|n| (least..=most).contains(n)).ok_or_else(|| wrong(key, value, &expected()))?;
        self.note(key, n);
        Ok(Some(n))
    }

    /// A width: at least 1.
    pub(crate) fn width(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional(key, 1, MAX_WIDTH)?.unwrap_or_else(|| self.note(key, default)))
    }

    /// A number of layers or heads: at least 1.
    pub(crate) fn depth(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional(key, 1, MAX_DEPTH)?.unwrap_or_else(|| self.note(key, default)))
    }

    /// A number of tokens or classes: may be 0.
    pub(crate) fn count(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional(key, 0, MAX_WIDTH)?.unwrap_or_else(|| self.note(key, default)))
    }

    /// An image or patch size: one number for a square, or `[height, width]`.
    pub(crate) fn size(&self, key: &str, default: usize) -> Result<[usize; 2]> {
        Ok(self.optional_size(key)?.unwrap_or_else(|| [self.note(key, default); 2]))
    }

    /// A size that may be absent.
    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<[usize; 2]>> {
        match self.get(key) {
            Some(value @ Json::Array(sides)) => {
                let side = |v: &Json| {
                    let n = v.as_u64().and_then(|n| usize::try_from(n).ok());
                    n.filter(|n| (1..=MAX_WIDTH).contains(n))
                };
                match sides.iter().map(side).collect::<Option<Vec<_>>>().as_deref() {
                    Some(&[h, w]) => {
                        self.note(key, h);
                        self.note(key, w);
                        Ok(Some([h, w]))
                    }
                    Some(&[side]) => Ok(Some([self.note(key, side); 2])),
                    _ => Err(wrong(key, value, "one or two whole numbers")),
                }
            }
            _ => Ok(self.optional(key, 1, MAX_WIDTH)?.map(|n| [n; 2])),
        }
    }

    /// A finite number, not negative: epsilons and ratios.
    pub(crate) fn number(&self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value
            .as_f64()
            .filter(|x| x.is_finite() && *x >= 0.0)
            .ok_or_else(|| wrong(key, value, "a number that is not negative"))
    }

    /// A width given as a factor on another, rounded down.
    pub(crate) fn scaled(&self, width: usize, key: &str, default: f64) -> Result<usize> {
        let scaled = width as f64 * self.number(key, default)?;
        if !(1.0..=MAX_WIDTH as f64).contains(&scaled) {
            return Err(Error::model(
                FILE,
                format!("`{key}` makes a width of {scaled}, expected 1 to {MAX_WIDTH}"),
                "",
            ));
        }
        Ok(self.note(key, scaled as usize))
    }

    /// A switch.
    pub(crate) fn switch(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.optional_switch(key)?.unwrap_or(default))
    }

    /// A switch that may be absent.
    pub(crate) fn optional_switch(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| wrong(key, value, "true or false"))
    }

    /// A text that may be absent.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| wrong(key, value, "a string"))
    }

    /// One id or several.
    pub(crate) fn ids(&self, key: &str, default: &[u32]) -> Result<Vec<u32>> {
        let Some(value) = self.get(key) else { return Ok(default.to_vec()) };
        let id = |v: &Json| v.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = match value {
            Json::Array(all) if all.len() <= 64 => all.iter().map(id).collect(),
            one => id(one).map(|id| vec![id]),
        };
        ids.ok_or_else(|| wrong(key, value, "an id, or up to 64 of them"))
    }

    /// An activation by the name that transformers or timm gives it.
    pub(crate) fn act(&self, key: &str, default: &str) -> Result<Act> {
        act_named(key, self.text(key)?.unwrap_or(default))
    }

    /// The first entry of `architectures`, or a default.
    pub(crate) fn architecture(&self, default: &str) -> String {
        let first = self.get("architectures").and_then(|a| a.get(0)).and_then(Json::as_str);
        first.unwrap_or(default).to_owned()
    }

    /// A sentence naming the fields that hold one of the given numbers.
    pub(crate) fn hint(&self, numbers: &[usize]) -> String {
        let seen = self.seen.borrow();
        let mut said: Vec<String> = Vec::new();
        for (key, n) in seen.iter().filter(|(_, n)| *n > 1 && numbers.contains(n)) {
            let words = format!("{key} {n}");
            if !said.contains(&words) {
                said.push(words);
            }
        }
        if said.is_empty() {
            "the configuration and the weights do not belong together".to_owned()
        } else {
            format!("`{FILE}` says {}; the weights look like another model's", said.join(", "))
        }
    }

    fn note(&self, key: &str, n: usize) -> usize {
        self.seen.borrow_mut().push((key.to_owned(), n));
        n
    }
}

/// An activation by the name that transformers or timm gives it; `key` is where it stands.
pub(crate) fn act_named(key: &str, name: &str) -> Result<Act> {
    match name.to_lowercase().as_str() {
        "gelu" | "gelu_python" => Ok(Act::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh" | "gelu_python_tanh"
        | "gelu_tanh" => Ok(Act::GeluTanh),
        "quick_gelu" => Ok(Act::QuickGelu),
        "relu" => Ok(Act::Relu),
        "silu" | "swish" => Ok(Act::Silu),
        "tanh" => Ok(Act::Tanh),
        "sigmoid" => Ok(Act::Sigmoid),
        _ => Err(Error::model(
            FILE,
            format!("`{key}` is `{name}`, which is not supported"),
            "supported: gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, relu, silu, tanh, sigmoid",
        )),
    }
}

/// The error for a field of the wrong kind or out of range.
pub(crate) fn wrong(key: &str, value: &Json, expected: &str) -> Error {
    let mut shown = value.to_string();
    if shown.len() > 60 {
        shown = shown.chars().take(57).chain("...".chars()).collect();
    }
    Error::model(FILE, format!("`{key}` is {shown}, expected {expected}"), "")
}

/// Checks that heads divide the width.
pub(crate) fn check_heads(hidden: (&str, usize), heads: (&str, usize)) -> Result<()> {
    if hidden.1.is_multiple_of(heads.1) {
        return Ok(());
    }
    Err(Error::model(
        FILE,
        format!("`{}` {} is not a multiple of `{}` {}", hidden.0, hidden.1, heads.0, heads.1),
        "",
    ))
}

/// Checks that an image holds at least one patch.
pub(crate) fn check_patch(image: [usize; 2], patch: [usize; 2]) -> Result<()> {
    if patch[0] <= image[0] && patch[1] <= image[1] {
        return Ok(());
    }
    Err(Error::model(
        FILE,
        format!("patch_size {}x{} is larger than image_size {}x{}", patch[0], patch[1], image[0], image[1]),
        "",
    ))
}
