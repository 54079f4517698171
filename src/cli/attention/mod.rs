//! `vit-gpu attention`: which tokens of a text or an image attend to which, as an image or as
//! JSON. One pass is run, and the mean over layers and heads is shown, or one of them.
//!
//! It shows weights and explains nothing: what a model attends to is not why it answers as it does.

pub(super) mod args;

use crate::printable::escaped;
use std::io::Write;

use serde::Serialize;

use super::inputs::{self, Input};
use super::locate::{Found, locate};
use super::open;
use super::outcome::Outcome;
use super::output::{DeviceFacts, SCHEMA_VERSION};
use super::pixels::{Ready, decode, decode_options, preprocess};
use super::sink::Sink;
use super::talk::Talk;
use super::texts::{self, Opened};
use crate::cli::attention::args::{AttentionArgs, Weights};
use crate::error::{Error, Result};
use crate::render::attention::{self, Panel};
use crate::render::letters;
use crate::session::ModelKind;
use crate::text::{Layers, Look, MOST_TOKENS, TooLong, mean};

/// Runs the command and yields its exit code.
pub(super) fn run(args: &AttentionArgs, talk: Talk, out: &mut Sink<'_, Weights>) -> Outcome {
    let text = args.of_texts();
    let found = match (text, &args.input) {
        (Some(flag), Some(_)) => {
            let what = format!("there is an image, and {flag} is for texts");
            return Err(Error::usage(what, "pass one of them").into());
        }
        (Some(flag), None) => texts::find(&args.model, flag, talk)?,
        (None, Some(_)) => locate(&args.model, talk)?.read(!args.model.no_mmap)?,
        (None, None) => return Err(Error::usage("no input", "pass --text, or name an image").into()),
    };
    let mut image = Vec::new();
    if let Some(input) = &args.input {
        if found.files.kind() == Some(ModelKind::Text) {
            texts::without(Some("an image"), &found.id)?;
        }
        image = inputs::expand(std::slice::from_ref(input), false)?.list;
    }
    let shown = match text {
        Some(_) => of_text(args, found, talk)?,
        None => of_image(args, found, &image, talk)?,
    };
    match out.format {
        Weights::Json => out.write_all(&shown.json()?)?,
        Weights::Svg => out.write_all(shown.scene().svg().as_bytes())?,
        Weights::Png => {
            if shown.labels().any(|token| !letters::known(&attention::short(token))) {
                talk.warn("PNG has no letters for some tokens, and boxes stand for them; SVG has");
            }
            out.write_all(&shown.scene().png()?)?;
        }
    }
    Ok(0)
}

/// Everything there is to show.
struct Shown {
    model: serde_json::Value,
    device: DeviceFacts,
    id: String,
    architecture: String,
    head: Option<usize>,
    panels: Vec<Panel>,
}

impl Shown {
    fn scene(&self) -> crate::render::plot::Scene {
        let title = format!("{} ({})", self.id, self.architecture);
        attention::draw(&title, &self.about(), &self.panels)
    }

    /// What the weights are the mean of.
    fn about(&self) -> String {
        let layers: Vec<usize> = self.panels.iter().map(|p| p.layers.len()).collect();
        let heads = self.panels.first().map_or(0, |p| p.heads);
        let of_layers = match (self.panels.first().and_then(|p| p.layers.first()), layers.iter().max()) {
            (Some(layer), Some(1)) => format!("layer {layer}"),
            (_, Some(most)) if layers.iter().all(|n| n == most) => format!("mean of {most} layers"),
            _ => "mean of all layers".to_owned(),
        };
        let of_heads = self.head.map_or(format!("mean of {heads} heads"), |head| format!("head {head}"));
        format!("Attention, {of_layers}, {of_heads}; rows look at columns")
    }

    fn labels(&self) -> impl Iterator<Item = &String> {
        self.panels.iter().flat_map(|p| p.queries.iter().chain(&p.keys))
    }

    fn json(&self) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Document<'a> {
            schema_version: u32,
            model: &'a serde_json::Value,
            device: &'a DeviceFacts,
            head: Option<usize>,
            attention: &'a [Panel],
        }
        let document = Document {
            schema_version: SCHEMA_VERSION,
            model: &self.model,
            device: &self.device,
            head: self.head,
            attention: &self.panels,
        };
        let mut bytes = serde_json::to_vec(&document).map_err(unwritable)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::Write { path: "JSON".to_owned(), what: e.to_string() }
}

/// Weights (T,S) as rows.
fn rows(weights: &[f32], keys: usize) -> Vec<Vec<f32>> {
    weights.chunks(keys.max(1)).map(<[f32]>::to_vec).collect()
}

fn layers(args: &AttentionArgs) -> Layers {
    match (args.layer, args.head) {
        (Some(layer), _) => Layers::One(layer),
        (None, Some(_)) => Layers::Last,
        (None, None) => Layers::All,
    }
}

fn check_head(head: Option<usize>, heads: usize) -> Result<()> {
    match head {
        Some(head) if head >= heads => {
            let what = format!("head {head}: this model has {heads} heads");
            Err(Error::usage(what, format!("heads go from 0 to {}", heads.saturating_sub(1))))
        }
        _ => Ok(()),
    }
}

fn of_text(args: &AttentionArgs, found: Found, talk: Talk) -> Result<Shown> {
    let id = found.id.clone();
    texts::without(args.image.given(), &id)?;
    let Some(text) = &args.text else {
        return Err(Error::usage("there is no text", "pass --text"));
    };
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let mut opened = Opened::new(found, &options, talk)?;
    let info = opened.session.info();
    check_head(args.head, info.heads)?;
    let architecture = info.architecture.clone();
    let too_long = if args.truncate { TooLong::Cut } else { TooLong::Refuse };
    let pair = (text.as_str(), args.pair.as_deref());
    let maps = opened.session.attention(pair, args.answer.as_deref(), layers(args), too_long);
    opened.say_warnings();
    let three = maps.as_ref().is_ok_and(|maps| maps.len() > 1);
    let panels = maps?.into_iter().map(|map| {
        let (name, about) = match map.look {
            Look::Encoder => ("encoder", "every token sees all tokens"),
            Look::Decoder => ("decoder", "a token sees itself and those before"),
            Look::Cross => ("cross", "the decoder sees all that the encoder read"),
        };
        let about =
            if three && map.look == Look::Decoder { "sees itself and what it wrote before" } else { about };
        Panel {
            name,
            about,
            causal: map.look == Look::Decoder,
            layers: map.layers.iter().map(|(layer, _)| *layer).collect(),
            weights: rows(&map.mean(args.head), map.keys.len()),
            heads: map.heads,
            queries: map.queries,
            keys: map.keys,
        }
    });
    let panels = panels.collect();
    let model = serde_json::to_value(&opened.model).map_err(unwritable)?;
    Ok(Shown { model, device: opened.device, id, architecture, head: args.head, panels })
}

fn of_image(args: &AttentionArgs, found: Found, inputs: &[Input], talk: Talk) -> Result<Shown> {
    let id = found.id.clone();
    let [input] = inputs else {
        let what = format!("{} images", inputs.len());
        return Err(Error::usage(what, "an image of attention is of one; name one file"));
    };
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let opened = open::open(found, &options, talk)?;
    let info = opened.session.info();
    check_head(args.head, info.heads)?;
    let preprocess = preprocess(&args.image, &opened, talk)?;
    let Ready { picture, notes, name, .. } = decode(input, &decode_options(&args.image), &preprocess);
    notes.iter().for_each(|note| talk.detail(format_args!("{}: {note}", escaped(&name))));
    let picture = picture?;

    let numbers = match layers(args) {
        Layers::All => (0..info.layers).collect(),
        Layers::Last => vec![info.layers.saturating_sub(1)],
        Layers::One(layer) if layer < info.layers => vec![layer],
        Layers::One(layer) => {
            let what = format!("layer {layer}: this model has {} layers", info.layers);
            return Err(Error::usage(what, format!("layers go from 0 to {}", info.layers.saturating_sub(1))));
        }
    };
    let grid = picture.size.grid(info.patch);
    let tokens = tokens(info.cls_token, info.prefix_tokens, grid);
    if tokens.len() > MOST_TOKENS {
        let what = format!("the image has {} tokens, of which nobody could read an image", tokens.len());
        return Err(Error::usage(what, "pass a smaller --image-size, or see `vit-gpu infer --attention`"));
    }
    let outputs: Vec<String> = numbers.iter().map(|layer| format!("attention.{layer}")).collect();
    let known = opened.session.output_names(picture.size)?;
    if let Some(missing) = outputs.iter().find(|name| !known.contains(name)) {
        return Err(Error::usage(format!("{id} does not produce `{missing}`"), "choose another model"));
    }
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let made = opened.session.run(&[&picture.pixels], picture.size, &outputs);
    opened.session.warnings().iter().for_each(|w| talk.warn(escaped(w)));
    let made: Vec<Vec<f32>> = made?.iter().map(crate::tensor::HostTensor::to_f32).collect();
    let count = made.iter().flatten().filter(|w| !w.is_finite()).count();
    if count > 0 {
        let total = made.iter().map(Vec::len).sum();
        return Err(Error::NonFinite { what: format!("attention for {name}"), count, total });
    }
    let weights = mean(made.iter().map(Vec::as_slice), info.heads, args.head);
    if weights.len() != tokens.len() * tokens.len() {
        return Err(Error::usage(format!("{id} attends in another way than patch to patch"), ""));
    }
    let panel = Panel {
        name: "image",
        about: "every token sees all tokens; patches by row and column, from 0",
        causal: false,
        layers: numbers,
        weights: rows(&weights, tokens.len()),
        queries: tokens.clone(),
        keys: tokens,
        heads: info.heads,
    };
    let architecture = info.architecture.clone();
    let model = serde_json::to_value(&opened.model).map_err(unwritable)?;
    Ok(Shown { model, device: opened.device, id, architecture, head: args.head, panels: vec![panel] })
}

/// Names of an image's tokens: those in front of the patches, then patches by row and column.
fn tokens(cls: bool, prefix: usize, [height, width]: [usize; 2]) -> Vec<String> {
    let front = (0..prefix).map(|i| if cls && i == 0 { "class".to_owned() } else { format!("extra {i}") });
    let patches = (0..height * width).map(|i| format!("{},{}", i / width, i % width));
    front.chain(patches).collect()
}

#[cfg(test)]
mod tests {
    use super::tokens;

    #[test]
    fn tokens_of_an_image() {
        assert_eq!(tokens(true, 2, [1, 2]), ["class", "extra 1", "0,0", "0,1"]);
        assert_eq!(tokens(false, 0, [2, 1]), ["0,0", "1,0"]);
    }
}
