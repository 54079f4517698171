//! `vit-gpu inspect` of a text model: what it is and can do, its tokenizer, and its plans: of one
//! pass over texts, or of a prompt and of a token behind it.

use crate::printable::escaped;
use std::io::{self, Write};

use serde::Serialize;

use super::facts::{CheckpointFacts, LabelFacts, default_outputs, folded, label_facts, somehow};
use super::generation::{PlanFacts, plan_facts, work};
use crate::cli::args::Plain;
use crate::cli::inspect::args::{GraphForm, InspectArgs};
use crate::cli::locate::Found;
use crate::cli::open;
use crate::cli::outcome::Outcome;
use crate::cli::output::{DeviceFacts, SCHEMA_VERSION, count, json};
use crate::cli::sink::Sink;
use crate::cli::talk::Talk;
use crate::cli::texts::TextFacts;
use crate::error::Error;
use crate::labels::Scoring;
use crate::models::text::TextSizes;
use crate::plan::Plan;
use crate::session::{Applied, Options};
use crate::text::{Kind, Task, TextSession};
use crate::tokenizer::Tokenizer;

/// Tokens of the texts that plans are shown for, where the model takes as many.
const TOKENS: usize = 128;

/// What is shown of a model, as JSON. Sizes in bytes.
#[derive(Serialize)]
struct Document {
    schema_version: u32,
    model: TextFacts,
    /// `encoder`, `decoder` or `encoder-decoder`.
    kind: &'static str,
    tasks: Vec<&'static str>,
    structure: Structure,
    checkpoint: CheckpointFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<LabelFacts>,
    /// Absent if there is none that can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokenizer: Option<TokenizerFacts>,
    outputs: Vec<String>,
    device: DeviceFacts,
    /// Texts, or samples, and tokens of each that the plans are for.
    batch: usize,
    tokens: usize,
    plans: Vec<PlanFacts>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Structure {
    layers: usize,
    /// Of an encoder-decoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    decoder_layers: Option<usize>,
    hidden: usize,
    heads: usize,
    mlp: usize,
    vocabulary: usize,
    /// Absent if positions are no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    positions: Option<usize>,
    segments: usize,
}

#[derive(Serialize)]
struct TokenizerFacts {
    file: String,
    vocabulary: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    /// Token and id by role.
    special: serde_json::Map<String, serde_json::Value>,
}

/// Runs the command and yields its exit code.
pub(super) fn run(
    args: &InspectArgs,
    (found, options): (Found, &Options),
    talk: Talk,
    out: &mut Sink<'_, Plain>,
) -> Outcome {
    if args.image_size.is_some() {
        let what = format!("--image-size is for models of images, and {} reads texts", found.id);
        return Err(Error::usage(what, "leave --image-size away").into());
    }
    let session =
        somehow(args, options, talk, |options| TextSession::from_files(found.files.clone(), options))?;
    open::say_device(session.device(), talk);
    let batch = args.batch_size as usize;
    let tokens = session.limit().map_or(TOKENS, |limit| limit.min(TOKENS));
    let all = session.output_names()?;
    let chosen = (!args.outputs.is_empty()).then_some(args.outputs.as_slice());
    let pass = chosen.map_or_else(|| default_outputs(&all), <[String]>::to_vec);
    let written = if session.info().kind == Kind::EncoderDecoder { tokens } else { 0 };
    let sizes = TextSizes { batch, tokens, written, places: 1 };
    let names: Vec<&str> = pass.iter().map(String::as_str).collect();
    if let Some(form) = args.graph {
        let graph = session.graph(sizes)?.select(&names)?;
        match form {
            GraphForm::Dot => write!(out, "{}", graph.to_dot())?,
            GraphForm::Text => write!(out, "{graph}")?,
        }
        return Ok(0);
    }
    let plans = if session.info().can(Task::Generate) && chosen.is_none() {
        // Half of the places for the prompt, half for what follows.
        let prompt = (tokens / 2).max(1);
        let plan = |step| session.writing_plan(prompt, batch, prompt, step);
        vec![("prompt", plan(false)?), ("token", plan(true)?)]
    } else {
        vec![("pass", session.plan(sizes, &names)?)]
    };
    if args.plan {
        for (i, (part, plan)) in plans.iter().enumerate() {
            let gap = if i == 0 { "" } else { "\n" };
            if plans.len() > 1 {
                writeln!(out, "{gap}{}", heading(part, batch, tokens))?;
            }
            write!(out, "{plan}")?;
        }
        return Ok(0);
    }
    let document = document((found.id, found.files.adapter.as_ref()), &session, all, (batch, tokens), &plans);
    match out.format {
        Plain::Json => json(out, &document)?,
        Plain::Text => describe(&document, &session, &pass, out)?,
    }
    Ok(0)
}

fn heading(part: &str, batch: usize, tokens: usize) -> String {
    let s = if batch == 1 { "" } else { "s" };
    match part {
        "prompt" => {
            format!("# prompt: {} tokens, and the first draw ({batch} sample{s})", (tokens / 2).max(1))
        }
        _ => format!("# token: the token drawn last, and the next draw ({batch} sample{s})"),
    }
}

fn document(
    (id, adapter): (String, Option<&Applied>),
    session: &TextSession,
    outputs: Vec<String>,
    (batch, tokens): (usize, usize),
    plans: &[(&'static str, Plan)],
) -> Document {
    let info = session.info();
    let checkpoint = session.checkpoint();
    Document {
        schema_version: SCHEMA_VERSION,
        model: TextFacts::new(id, session),
        kind: match info.kind {
            Kind::Encoder => "encoder",
            Kind::Decoder => "decoder",
            Kind::EncoderDecoder => "encoder-decoder",
        },
        tasks: info.tasks.iter().map(|&task| name(task)).collect(),
        structure: Structure {
            layers: info.layers,
            decoder_layers: (info.kind == Kind::EncoderDecoder).then_some(info.decoder_layers),
            hidden: info.hidden,
            heads: info.heads,
            mlp: info.mlp,
            vocabulary: info.vocabulary,
            positions: info.positions,
            segments: info.types.max(1),
        },
        checkpoint: CheckpointFacts::new(checkpoint, adapter),
        labels: info.classes.map(|_| label_facts(session.labels())),
        tokenizer: session.tokenizer().ok().map(tokenizer),
        outputs,
        device: open::device_facts(session.device()),
        batch,
        tokens,
        plans: plans.iter().map(|(part, plan)| plan_facts(part, plan)).collect(),
        warnings: session.warnings(),
    }
}

fn name(task: Task) -> &'static str {
    match task {
        Task::Classify => "classify",
        Task::Tag => "classify tokens",
        Task::Answer => "answer",
        Task::FillMask => "fill masks",
        Task::NextSentence => "next sentence",
        Task::Generate => "write",
    }
}

fn tokenizer(t: &Tokenizer) -> TokenizerFacts {
    let s = t.special();
    let roles = [
        ("cls", s.cls),
        ("sep", s.sep),
        ("pad", s.pad),
        ("unk", s.unk),
        ("mask", s.mask),
        ("bos", s.bos),
        ("eos", s.eos),
    ];
    let named = roles.into_iter().filter_map(|(role, id)| {
        let token = id.and_then(|id| t.token(id))?;
        Some((role.to_owned(), serde_json::json!({"token": token, "id": id})))
    });
    TokenizerFacts {
        file: t.name().to_owned(),
        vocabulary: t.vocabulary(),
        limit: t.limit(),
        special: named.collect(),
    }
}

fn describe(d: &Document, session: &TextSession, pass: &[String], out: &mut impl Write) -> io::Result<()> {
    let info = session.info();
    let s = &d.structure;
    writeln!(out, "model          {} ({}, {}), {}", d.model.id(), info.family, info.architecture, d.kind)?;
    let tasks = if d.tasks.is_empty() { "none: it makes embeddings".to_owned() } else { d.tasks.join(", ") };
    writeln!(out, "tasks          {tasks}")?;
    let decoder = s.decoder_layers.map_or(String::new(), |n| format!(" and {n} of the decoder"));
    writeln!(
        out,
        "structure      {} layers{decoder}, width {}, {} heads, MLP {}",
        s.layers, s.hidden, s.heads, s.mlp
    )?;
    let positions = s.positions.map_or("relative positions".to_owned(), |n| format!("{n} positions"));
    let segments = if s.segments > 1 { format!(", {} segments", s.segments) } else { String::new() };
    writeln!(out, "vocabulary     {} tokens, {positions}{segments}", s.vocabulary)?;
    writeln!(out, "parameters     {} ({})", count(info.parameters), info.parameters)?;
    d.checkpoint.describe(out)?;
    if let Some(labels) = &d.labels {
        let more = if labels.count > labels.first.len() { ", ..." } else { "" };
        let many = match session.labels().scoring {
            Scoring::Softmax => "",
            Scoring::Sigmoid => ", each with its own chance",
            Scoring::Raw => ", plain numbers",
        };
        let names = labels.first.join(", ");
        writeln!(out, "classes        {} ({}): {names}{more}{many}", labels.count, labels.source)?;
    }
    match session.tokenizer() {
        Ok(t) => writeln!(out, "tokenizer      {}", words(&tokenizer(t)))?,
        Err(e) => writeln!(out, "tokenizer      none: {}", escaped(&e.message()))?,
    }
    writeln!(out, "outputs        {}", folded(&d.outputs))?;
    let dtype = session.precision();
    writeln!(out, "device         {} ({}, {}), {dtype}", d.device.name, d.device.kind, d.device.backend)?;
    for plan in &d.plans {
        writeln!(out, "{:<14} {}", plan.part, work(plan))?;
    }
    let of = if d.plans.len() > 1 { String::new() } else { format!(", for {}", pass.join(", ")) };
    let s = if d.batch == 1 { "" } else { "s" };
    let what = if d.plans.len() > 1 { "sample" } else { "text" };
    writeln!(out, "batch          {} {what}{s} of {} tokens{of}", d.batch, d.tokens)?;
    for warning in &d.warnings {
        writeln!(out, "warning        {}", escaped(warning))?;
    }
    out.flush()
}

fn words(t: &TokenizerFacts) -> String {
    let special = t.special.values().map(|s| {
        let token = s["token"].as_str().unwrap_or_default();
        format!("{} {}", escaped(token), s["id"])
    });
    // One token may have several roles.
    let mut seen: Vec<String> = Vec::new();
    special.for_each(|s| {
        if !seen.contains(&s) {
            seen.push(s);
        }
    });
    let limit = t.limit.map_or(String::new(), |n| format!(", texts of {n} tokens at most"));
    format!("{}, {} tokens{limit}; {}", escaped(&t.file), t.vocabulary, seen.join(", "))
}
