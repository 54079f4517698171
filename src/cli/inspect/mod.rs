//! `vit-gpu inspect`: what a model is, what it costs, and what will be run. It needs no
//! adapter: without one the plan is made for WebGPU's default limits, and that is said.

pub(super) mod args;
use std::io::{self, Write};

use serde::Serialize;

pub(super) mod facts;
mod generation;
mod texts;

use super::args::Plain;
use super::locate::locate;
use super::open;
use super::outcome::Outcome;
use super::output::{DeviceFacts, ModelFacts, SCHEMA_VERSION, bytes, count, json};
use super::sink::Sink;
use super::talk::Talk;
use crate::cli::inspect::args::{GraphForm, InspectArgs};
use crate::error::Error;
use crate::image::preprocess::{Backend, Geometry, Preprocess, Resize};
use crate::session::ModelKind;
use crate::tensor::Size;
use facts::{CheckpointFacts, LabelFacts, WordsFacts, default_outputs, folded, label_facts, somehow};

/// What is shown of a model, as JSON. Sizes in bytes.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    model: ModelFacts,
    structure: Structure,
    checkpoint: CheckpointFacts,
    preprocess: String,
    labels: LabelFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<WordsFacts>,
    outputs: Vec<String>,
    device: DeviceFacts,
    plan: PlanFacts,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Structure {
    patch: [usize; 2],
    channels: usize,
    prefix_tokens: usize,
    cls_token: bool,
    tokens: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    mlp: usize,
}

#[derive(Serialize)]
struct PlanFacts {
    batch: usize,
    image_size: Size,
    outputs: Vec<String>,
    launches: usize,
    flops: u64,
    traffic_bytes: u64,
    weight_bytes: u64,
    activation_bytes: u64,
    largest_live_set_bytes: u64,
}

/// Runs the command and yields its exit code.
pub(super) fn run(args: &InspectArgs, talk: Talk, out: &mut Sink<'_, Plain>) -> Outcome {
    if (args.graph.is_some() || args.plan) && out.format != Plain::Text {
        return Err(Error::usage("graphs and plans are written as text", "name the file .txt or .dot").into());
    }
    let found = locate(&args.model, talk)?.read(!args.model.no_mmap)?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    match found.files.kind() {
        Some(ModelKind::Text) => return texts::run(args, (found, &options), talk, out),
        Some(ModelKind::Generator) => return generation::run(args, (found, &options), talk, out),
        None | Some(ModelKind::Vision) => {}
    }
    let opened = somehow(args, &options, talk, |options| open::open(found.clone(), options, talk))?;
    let session = &opened.session;
    let own = session.preprocess().size().unwrap_or(session.info().image_size);
    let size = args.image_size.unwrap_or(own);
    let all = session.output_names(size)?;
    let outputs = match args.outputs.as_slice() {
        [] => default_outputs(&all),
        chosen => chosen.to_vec(),
    };
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let batch = args.batch_size as usize;
    if let Some(form) = args.graph {
        let graph = session.graph(batch, size, &names)?;
        match form {
            GraphForm::Dot => write!(out, "{}", graph.to_dot())?,
            GraphForm::Text => write!(out, "{graph}")?,
        }
        return Ok(0);
    }
    let plan = session.plan(batch, size, &names)?;
    if args.plan {
        write!(out, "{plan}")?;
        return Ok(0);
    }
    let info = session.info();
    let cost = plan.cost();
    let labels = session.labels();
    let document = Document {
        schema_version: SCHEMA_VERSION,
        model: opened.model.clone(),
        structure: Structure {
            patch: info.patch,
            channels: info.channels,
            prefix_tokens: info.prefix_tokens,
            cls_token: info.cls_token,
            tokens: info.prefix_tokens + size.grid(info.patch).iter().product::<usize>(),
            hidden: info.hidden,
            layers: info.layers,
            heads: info.heads,
            mlp: info.mlp,
        },
        checkpoint: CheckpointFacts::new(session.checkpoint(), found.files.adapter.as_ref()),
        preprocess: pixels(session.preprocess()),
        labels: label_facts(labels),
        words: WordsFacts::new(&found.files)?,
        outputs: all,
        device: opened.device.clone(),
        plan: PlanFacts {
            batch,
            image_size: size,
            outputs,
            launches: plan.steps.len(),
            flops: cost.flops,
            traffic_bytes: cost.bytes,
            weight_bytes: plan.weight_bytes(),
            activation_bytes: plan.activation_bytes(),
            largest_live_set_bytes: plan.largest_live_set,
        },
        warnings: session.warnings(),
    };
    match out.format {
        Plain::Json => json(out, &document)?,
        Plain::Text => describe(&document, out)?,
    }
    Ok(0)
}

/// The steps from an image to the model's input, in words.
fn pixels(p: &Preprocess) -> String {
    let resize = match p.geometry {
        Geometry::Hf { resize, crop } => {
            let resize = match resize {
                Resize::None => "no resize".to_owned(),
                Resize::Exact { height, width } => format!("resize to {height}x{width}"),
                Resize::ShortestEdge { edge, longest: None } => format!("resize the short side to {edge}"),
                Resize::ShortestEdge { edge, longest: Some(longest) } => {
                    format!("resize the short side to {edge}, the long one to {longest} at most")
                }
                Resize::Patches { patch, most } => {
                    format!("resize to at most {most} patches of {patch}x{patch}")
                }
                Resize::Within { height, width } => format!("resize to fit {height}x{width}"),
            };
            crop.map_or(resize.clone(), |(height, width)| format!("{resize}, centre crop {height}x{width}"))
        }
        Geometry::Timm { height, width, crop_pct, mode } => {
            format!("resize for {height}x{width} at crop_pct {crop_pct}, crop mode {mode:?}").to_lowercase()
        }
    };
    let filter = format!("{:?}", p.filter).to_lowercase();
    let backend = match p.backend {
        Backend::TorchvisionFloats => "torchvision on floats".to_owned(),
        by => format!("{by:?}").to_lowercase(),
    };
    let rescale = p.rescale.map_or(String::new(), |r| format!(", times {r:.6}"));
    let normalise =
        p.mean_std.map_or(String::new(), |(mean, std)| format!(", mean {mean:?}, deviation {std:?}"));
    let processor = if p.processor.eq_ignore_ascii_case(&backend) {
        backend
    } else {
        format!("{} as {backend}", p.processor)
    };
    format!("{processor} does: {resize}, {filter}{rescale}{normalise}")
}

fn describe(d: &Document, out: &mut impl Write) -> io::Result<()> {
    let (m, s, p) = (&d.model, &d.structure, &d.plan);
    let pair = |[a, b]: [usize; 2]| format!("{a}x{b}");
    writeln!(out, "model          {} ({}, {})", m.id, m.family, m.architecture)?;
    writeln!(
        out,
        "structure      {} layers, width {}, {} heads, MLP {}, patches {} of {} pixels",
        s.layers,
        s.hidden,
        s.heads,
        s.mlp,
        pair(s.patch),
        m.image_size
    )?;
    let cls = if s.cls_token { ", the first the class token" } else { "" };
    writeln!(
        out,
        "tokens         {} at {} pixels, {} in front of the patches{cls}",
        s.tokens, p.image_size, s.prefix_tokens
    )?;
    writeln!(out, "parameters     {} ({})", count(m.parameters), m.parameters)?;
    d.checkpoint.describe(out)?;
    if d.labels.count > 0 {
        let more = if d.labels.count > d.labels.first.len() { ", ..." } else { "" };
        writeln!(
            out,
            "classes        {} ({}): {}{more}",
            d.labels.count,
            d.labels.source,
            d.labels.first.join(", ")
        )?;
    } else {
        writeln!(out, "classes        none: the checkpoint has no head")?;
    }
    if let Some(words) = &d.words {
        words.describe(out)?;
    }
    writeln!(out, "preprocessing  {}", d.preprocess)?;
    writeln!(out, "outputs        {}", folded(&d.outputs))?;
    writeln!(out, "device         {} ({}, {}), {}", d.device.name, d.device.kind, d.device.backend, m.dtype)?;
    writeln!(
        out,
        "work           {}FLOP and {} of traffic for {} in {} launches, batch {}",
        count(p.flops),
        bytes(p.traffic_bytes),
        p.outputs.join(", "),
        p.launches,
        p.batch
    )?;
    writeln!(
        out,
        "memory         {} of weights, {} of activations (largest live set {})",
        bytes(p.weight_bytes),
        bytes(p.activation_bytes),
        bytes(p.largest_live_set_bytes)
    )?;
    for warning in &d.warnings {
        writeln!(out, "warning        {warning}")?;
    }
    out.flush()
}
