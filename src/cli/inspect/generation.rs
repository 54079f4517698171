//! `vit-gpu inspect` of a model that draws: what it is, and its plans apart, that of a prompt,
//! of one token and of an image's decoding.

use std::io::{self, Write};

use serde::Serialize;

use super::facts::{CheckpointFacts, LabelFacts, label_facts, somehow};
use crate::checkpoint::Checkpoint;
use crate::cli::args::Plain;
use crate::cli::inspect::args::{GraphForm, InspectArgs};
use crate::cli::locate::Found;
use crate::cli::open;
use crate::cli::outcome::Outcome;
use crate::cli::output::{DeviceFacts, ModelFacts, SCHEMA_VERSION, bytes, count, json};
use crate::cli::sink::Sink;
use crate::cli::talk::Talk;
use crate::error::{Error, Result};
use crate::generate::{Codec, Generator, GeneratorInfo, bytes_read};
use crate::models::sequence::New;
use crate::plan::Plan;
use crate::session::{Applied, Options};

/// The tokenizer's table of codes (codes, width).
const CODES: &str = "quantize.embedding.weight";

/// What is shown of a model, as JSON. Sizes in bytes.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    model: ModelFacts,
    structure: Structure,
    codec: CodecFacts,
    labels: LabelFacts,
    defaults: Settings,
    checkpoint: CheckpointFacts,
    device: DeviceFacts,
    /// Samples drawn at a time.
    samples: usize,
    /// True if a sample is two rows, with its class and without.
    guided: bool,
    cache_bytes_per_sample: u64,
    plans: Vec<PlanFacts>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Structure {
    layers: usize,
    heads: usize,
    hidden: usize,
    vocabulary: usize,
    /// Rows and columns of tokens.
    grid: [usize; 2],
    tokens: usize,
    /// Rows and columns of pixels of a token.
    patch: [usize; 2],
}

#[derive(Serialize)]
struct CodecFacts {
    /// `palette` or `vq`.
    kind: &'static str,
    codes: usize,
    /// Numbers of a code.
    width: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<CheckpointFacts>,
}

#[derive(Serialize)]
struct Settings {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cfg_scale: Option<f32>,
}

#[derive(Serialize)]
pub(super) struct PlanFacts {
    /// `prompt`, `token`, `picture` or `pass`.
    pub(super) part: &'static str,
    launches: usize,
    flops: u64,
    traffic_bytes: u64,
    weight_bytes: u64,
    /// See [`bytes_read`].
    #[serde(skip_serializing_if = "Option::is_none")]
    must_read_bytes: Option<u64>,
    activation_bytes: u64,
    largest_live_set_bytes: u64,
}

/// Runs the command and yields its exit code.
pub(super) fn run(
    args: &InspectArgs,
    (found, options): (Found, &Options),
    talk: Talk,
    out: &mut Sink<'_, Plain>,
) -> Outcome {
    if args.image_size.is_some() || !args.outputs.is_empty() {
        let flag = if args.outputs.is_empty() { "--image-size" } else { "--outputs" };
        let what = format!("{flag}: {} generates images, of one size, and has no other outputs", found.id);
        return Err(Error::usage(what, format!("leave {flag} away")).into());
    }
    let generator =
        somehow(args, options, talk, |options| Generator::from_files(found.files.clone(), options))?;
    open::say_device(generator.device(), talk);
    let samples = args.batch_size as usize;
    let guided = generator.info().guided;
    if let Some(form) = args.graph {
        let graph = generator.graph(samples, guided, New::LAST)?;
        match form {
            GraphForm::Dot => write!(out, "{}", graph.to_dot())?,
            GraphForm::Text => write!(out, "{graph}")?,
        }
        return Ok(0);
    }
    let plans = plans(&generator, samples)?;
    if args.plan {
        for (i, (part, plan)) in plans.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n" };
            writeln!(out, "{gap}{}", heading(part, samples, guided))?;
            write!(out, "{plan}")?;
        }
        return Ok(0);
    }
    let document = document((found.id, found.files.adapter.as_ref()), &generator, samples, &plans)?;
    match out.format {
        Plain::Json => json(out, &document)?,
        Plain::Text => describe(&document, out)?,
    }
    Ok(0)
}

/// The plans of a prompt without tokens, of one token, and of one image unless the host decodes: more
/// images are decoded so many at a time as suits their size.
fn plans(generator: &Generator, samples: usize) -> Result<Vec<(&'static str, Plan)>> {
    let guided = generator.info().guided;
    let mut plans = Vec::new();
    for (part, new) in [("prompt", New::Prompt(0)), ("token", New::LAST)] {
        plans.push((part, generator.plan_of(&generator.graph(samples, guided, new)?)?));
    }
    if let Some((graph, _)) = generator.picture_graph(1)? {
        plans.push(("image", generator.plan_of(&graph)?));
    }
    Ok(plans)
}

fn heading(part: &str, samples: usize, guided: bool) -> String {
    let what = match part {
        "prompt" => "prompt: the class or the start token, and the first draw",
        "token" => "token: the token drawn last, and the next draw",
        _ => "image: from the tokens of one sample to pixels",
    };
    let s = if samples == 1 { "" } else { "s" };
    match (part, guided) {
        ("image", _) => format!("# {what}"),
        (_, false) => format!("# {what} ({samples} sample{s})"),
        (_, true) => format!("# {what} ({samples} sample{s}, {} rows with guidance)", 2 * samples),
    }
}

fn document(
    (id, adapter): (String, Option<&Applied>),
    generator: &Generator,
    samples: usize,
    plans: &[(&'static str, Plan)],
) -> Result<Document> {
    let info = generator.info();
    let facts = |c: &Checkpoint| CheckpointFacts::new(c, None);
    let picture = generator.picture_graph(1)?;
    let tokenizer = picture.as_ref().map(|(_, checkpoint)| *checkpoint);
    let codes = tokenizer.and_then(|c| c.index().get(CODES)).map(|s| s.dims().to_vec());
    let (codes, width) = match codes.as_deref() {
        Some(&[codes, width]) => (codes, width),
        _ => (info.vocabulary, 3),
    };
    let cache = plans.iter().find(|(part, _)| *part == "token").map_or(0, |(_, plan)| cache_bytes(plan));
    Ok(Document {
        schema_version: SCHEMA_VERSION,
        model: open::generator_facts(id, generator),
        structure: structure(info),
        codec: CodecFacts {
            kind: match info.codec {
                Codec::Palette => "palette",
                Codec::Vq => "vq",
            },
            codes,
            width,
            checkpoint: tokenizer.map(facts),
        },
        labels: label_facts(generator.labels()),
        defaults: Settings {
            temperature: info.defaults.temperature,
            top_k: info.defaults.top_k,
            top_p: info.defaults.top_p,
            cfg_scale: info.guided.then_some(info.defaults.cfg_scale),
        },
        checkpoint: CheckpointFacts::new(generator.checkpoint(), adapter),
        device: open::device_facts(generator.device()),
        samples,
        guided: info.guided,
        cache_bytes_per_sample: cache / samples as u64,
        plans: plans.iter().map(|(part, plan)| plan_facts(part, plan)).collect(),
        warnings: generator.warnings(),
    })
}

fn structure(info: &GeneratorInfo) -> Structure {
    let [rows, columns] = info.grid;
    Structure {
        layers: info.layers,
        heads: info.heads,
        hidden: info.hidden,
        vocabulary: info.vocabulary,
        grid: info.grid,
        tokens: info.tokens,
        patch: info.image_size.grid([rows.max(1), columns.max(1)]),
    }
}

/// A plan as JSON describes it.
pub(super) fn plan_facts(part: &'static str, plan: &Plan) -> PlanFacts {
    let cost = plan.cost();
    PlanFacts {
        part,
        launches: plan.steps.len(),
        flops: cost.flops,
        traffic_bytes: cost.bytes,
        weight_bytes: plan.weight_bytes(),
        must_read_bytes: (part == "token").then(|| bytes_read(plan)),
        activation_bytes: plan.activation_bytes(),
        largest_live_set_bytes: plan.largest_live_set,
    }
}

/// Bytes of keys and values.
fn cache_bytes(plan: &Plan) -> u64 {
    plan.states.iter().filter(|s| s.name.starts_with("kv.")).map(|s| s.desc.bytes() as u64).sum()
}

fn describe(d: &Document, out: &mut impl Write) -> io::Result<()> {
    let (m, s) = (&d.model, &d.structure);
    let pair = |[a, b]: [usize; 2]| format!("{a}x{b}");
    writeln!(out, "model          {} ({}, {}), generates images", m.id, m.family, m.architecture)?;
    writeln!(
        out,
        "structure      {} layers, width {}, {} heads, vocabulary {}",
        s.layers, s.hidden, s.heads, s.vocabulary
    )?;
    writeln!(
        out,
        "tokens         {}, {} patches of {} pixels: images of {}",
        s.tokens,
        pair(s.grid),
        pair(s.patch),
        m.image_size
    )?;
    writeln!(out, "parameters     {} ({})", count(m.parameters), m.parameters)?;
    d.checkpoint.describe(out)?;
    match &d.codec {
        CodecFacts { kind: "palette", codes, .. } => {
            writeln!(out, "codec          palette of {codes} colours")?;
        }
        CodecFacts { codes, width, checkpoint, .. } => {
            let file = checkpoint.as_ref().map(|c| format!("; {}, {}", bytes(c.bytes), c.dtypes));
            writeln!(out, "codec          VQ, {codes} codes of width {width}{}", file.unwrap_or_default())?;
        }
    }
    match m.classes {
        Some(classes) => {
            let more = if d.labels.count > d.labels.first.len() { ", ..." } else { "" };
            let names = d.labels.first.join(", ");
            writeln!(out, "classes        {classes} ({}): {names}{more}", d.labels.source)?;
        }
        None => writeln!(out, "classes        none: what it draws cannot be chosen")?,
    }
    writeln!(out, "defaults       {}", settings(&d.defaults))?;
    writeln!(out, "device         {} ({}, {}), {}", d.device.name, d.device.kind, d.device.backend, m.dtype)?;
    for plan in &d.plans {
        writeln!(out, "{:<14} {}", plan.part, work(plan))?;
    }
    if d.plans.iter().all(|p| p.part != "image") {
        writeln!(out, "image          looked up on the host: a colour a token")?;
    }
    let rows = if d.guided { ", with and without its class" } else { "" };
    let s = if d.samples == 1 { "" } else { "s" };
    writeln!(out, "batch          {} sample{s}", d.samples)?;
    writeln!(out, "cache          {} of keys and values a sample{rows}", bytes(d.cache_bytes_per_sample))?;
    for warning in &d.warnings {
        writeln!(out, "warning        {warning}")?;
    }
    out.flush()
}

fn settings(s: &Settings) -> String {
    let all = |none: bool, text: String| if none { "all".to_owned() } else { text };
    let guidance = s.cfg_scale.map_or_else(|| "no guidance".to_owned(), |x| format!("guidance {x}"));
    format!(
        "temperature {}, top-k {}, top-p {}, {guidance}",
        s.temperature,
        all(s.top_k == 0, s.top_k.to_string()),
        all(s.top_p == 1.0, s.top_p.to_string())
    )
}

/// What a plan takes, in words.
pub(super) fn work(p: &PlanFacts) -> String {
    let mut text = format!(
        "{} launches, {}FLOP, {} of traffic, {} of weights, {} of activations",
        p.launches,
        count(p.flops),
        bytes(p.traffic_bytes),
        bytes(p.weight_bytes),
        bytes(p.activation_bytes)
    );
    if let Some(must) = p.must_read_bytes {
        text += &format!("; must read {}", bytes(must));
    }
    text
}
