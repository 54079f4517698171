//! `vit-gpu generate` with a model that writes: text to standard output as it comes, and to a
//! file at the end.
//!
//! The likeliest token is taken unless a flag asks for chance, as in transformers. Several samples are
//! written after each other, though they are drawn together: the first as it comes.

mod document;
mod page;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::cli::args::{Plain, first};
use crate::cli::generate::args::{GenerateArgs, When};
use crate::cli::locate::Found;
use crate::cli::open;
use crate::cli::outcome::Outcome;
use crate::cli::outfile::OutFile;
use crate::cli::sink::{SinkArgs, resolve};
use crate::cli::talk::{Talk, say};
use crate::cli::texts::{self, Opened};
use crate::error::{Error, Result};
use crate::generate::recipe::random_seed;
use crate::ops::Sampling;
use crate::text::{
    Beams, Constraints, Ended, GenerateOptions, GenerateStats, GenerationConfig, Piece, Search, TextSession,
    TooLong,
};
use document::{Sample, Way, document};
use page::{Page, plain};

/// Runs the command on a model that writes and yields its exit code.
pub(super) fn run(args: &GenerateArgs, found: Found, talk: Talk, out: &mut impl Write) -> Outcome {
    without_pictures(args, &found.id)?;
    let (format, file) = format(args, talk)?;
    let prompt = match (&args.write.prompt, &args.write.prompt_file) {
        (Some(prompt), _) => prompt.clone(),
        (None, Some(path)) => without_line_end(texts::read(path, "--prompt-file")?),
        (None, None) => {
            let what = format!("{} writes texts, and there is nothing to begin with", found.id);
            return Err(Error::usage(what, "pass --prompt or --prompt-file").into());
        }
    };
    check(args)?;
    let file = file.as_deref().map(OutFile::create).transpose()?;
    let options = open::options(&args.device, !args.model.no_mmap, talk)?;
    let mut opened = Opened::new(found, &options, talk)?;
    let way = way(args, opened.session.generation(), talk)?;
    let silent = if file.is_some() { talk.is_quiet() } else { format == Plain::Json };
    let mut page = Page::new(&mut *out, samples(args), silent);
    let begun = Instant::now();
    let constraints = constraints(args, opened.session.generation());
    let written = write(args, &opened.session, (&prompt, way, &constraints), &mut |piece| page.hear(piece));
    opened.say_warnings();
    let (samples, stats) = page.end(written)?;
    let whole = || match format {
        Plain::Text => Ok(plain(&samples.iter().map(|s| s.text.as_str()).collect::<Vec<_>>()).into_bytes()),
        Plain::Json => document(&opened, &prompt, (way, &constraints), &samples, stats.as_ref()),
    };
    match file {
        Some(file) => file.finish(&whole()?)?,
        None if format == Plain::Json => out.write_all(&whole()?)?,
        None => {}
    }
    if args.stats {
        say(&told(&samples, stats.as_ref(), begun.elapsed()));
    }
    Ok(0)
}

fn samples(args: &GenerateArgs) -> usize {
    args.write.samples.unwrap_or(1) as usize
}

/// Writes by chance, greedily, or by a search.
fn write(
    args: &GenerateArgs,
    session: &TextSession,
    (prompt, way, constraints): (&str, Way, &Constraints),
    hear: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<(Vec<Sample>, Option<GenerateStats>)> {
    let too_long = if args.write.truncate { TooLong::Cut } else { TooLong::Refuse };
    let (tokens, keep_special) = (args.what.count.map(|n| n as usize), args.write.keep_special);
    let sampling = match way {
        Way::Beams { beams, length_penalty, early_stopping: early } => {
            let search = Search { beams, length_penalty, early };
            let beams = Beams { search, constraints: constraints.clone(), tokens, too_long };
            let mut found = session.beams(prompt, &beams)?;
            found.truncate(samples(args));
            let tokenizer = session.tokenizer()?;
            let mut told = Vec::new();
            for (sample, beam) in found.into_iter().enumerate() {
                let ended = beam.ids.last().is_some_and(|id| session.ends().contains(id));
                let ended = if ended { Ended::EndToken } else { Ended::Length };
                let text = tokenizer.decode(&beam.ids, keep_special);
                hear(Piece { sample, text: &text })?;
                let score = Some(beam.score);
                told.push(Sample { score, ..Sample::new(sample, text, beam.ids, &ended) });
            }
            return Ok((told, None));
        }
        Way::Greedy {} => Sampling::greedy(),
        Way::Chance { seed, temperature, top_k, top_p } => {
            Sampling { seed, temperature, top_k, top_p, ..Sampling::greedy() }
        }
    };
    let mut writing = GenerateOptions {
        samples: samples(args),
        tokens,
        sampling,
        constraints: constraints.clone(),
        too_long,
        keep_special,
        ..GenerateOptions::by(session.generation(), prompt)
    };
    if !args.write.stop.is_empty() {
        writing.stop.clone_from(&args.write.stop);
    }
    let written = session.generate(&writing, hear)?;
    let all = written.texts.into_iter().zip(written.ids).zip(&written.ended).enumerate();
    let told = all.map(|(i, ((text, ids), ended))| Sample::new(i, text, ids, ended));
    Ok((told.collect(), Some(written.stats)))
}

/// Refuses flags that are about images.
fn without_pictures(args: &GenerateArgs, id: &str) -> Result<()> {
    let (what, how, files) = (&args.what, &args.how, &args.files);
    let flag = first(&[
        ("--class", !what.class.is_empty()),
        ("--init-image", what.init_image.is_some()),
        ("--reproduce", what.reproduce.is_some()),
        ("--cfg-scale", how.cfg_scale.is_some()),
        ("--cfg-schedule", how.cfg_schedule.is_some()),
        ("--order", how.order.is_some()),
        ("--num-steps", how.num_steps.is_some()),
        ("--files", files.files),
        ("--columns", files.columns.is_some()),
        ("--zoom", files.zoom.is_some()),
        ("--animate", files.animate.is_some()),
        ("--frames-dir", files.frames_dir.is_some()),
        ("--every", files.every.is_some()),
        ("--entropy", files.entropy.is_some()),
        ("--tokens", files.tokens.is_some()),
        ("--preview", args.preview == When::Always),
    ]);
    let Some(flag) = flag else { return Ok(()) };
    let what = format!("{flag} is for models that generate images, and {id} writes texts");
    Err(Error::usage(what, format!("leave {flag} away")))
}

/// What the checkpoint asks of tokens, where no flag says otherwise.
fn constraints(args: &GenerateArgs, generation: &GenerationConfig) -> Constraints {
    let (write, usual) = (&args.write, generation.constraints.clone());
    Constraints {
        repetition_penalty: write.repetition_penalty.unwrap_or(usual.repetition_penalty),
        no_repeat_ngram: write.no_repeat_ngram.unwrap_or(usual.no_repeat_ngram),
        min_length: if write.min_tokens.is_some() { 0 } else { usual.min_length },
        min_new_tokens: write.min_tokens.unwrap_or(usual.min_new_tokens),
        ..usual
    }
}

/// Refuses flags that contradict each other, whatever the model.
fn check(args: &GenerateArgs) -> Result<()> {
    match (args.write.beams, args.write.samples) {
        (Some(beams), Some(samples)) if samples > beams => {
            let what = format!("{beams} beams end in {beams} texts at most");
            Err(Error::usage(what, "pass as many --beams as --samples"))
        }
        _ => Ok(()),
    }
}

/// As the checkpoint says, greedy if it says nothing, unless something asks for chance or for a search.
fn way(args: &GenerateArgs, generation: &GenerationConfig, talk: Talk) -> Result<Way> {
    let (how, write) = (&args.how, &args.write);
    if let Some(beams) = write.beams {
        let length_penalty = write.length_penalty.unwrap_or(1.0);
        return Ok(Way::Beams { beams: beams as usize, length_penalty, early_stopping: false });
    }
    let asked = how.temperature.is_some() || how.top_k.is_some() || how.top_p.is_some();
    if let Some(Search { beams, length_penalty, early }) = generation.search.filter(|_| !asked) {
        if write.stop.is_empty() && samples(args) <= beams {
            if how.seed.is_some() {
                talk.note("--seed changes nothing: a search draws nothing; --temperature 1 draws");
            }
            talk.note(format_args!(
                "the checkpoint asks for a search of {beams} beams (--temperature 0 takes the likeliest token each time)"
            ));
            return Ok(Way::Beams { beams, length_penalty, early_stopping: early });
        }
        let flag = if write.stop.is_empty() { "--samples" } else { "--stop" };
        talk.note(format_args!(
            "{flag} does not go with the {beams} beams that the checkpoint asks for: no search"
        ));
    }
    let greedy = Sampling::greedy();
    let usual = generation.sampling.unwrap_or(Sampling { temperature: 1.0, ..greedy });
    let chance = asked || generation.sampling.is_some();
    let temperature = how.temperature.unwrap_or(if chance { usual.temperature } else { 0.0 });
    if temperature == 0.0 {
        if write.samples.is_some_and(|n| n > 1) {
            let what = "all samples would be the same: the likeliest token is taken each time";
            return Err(Error::usage(what, "pass --temperature 1, or --top-k or --top-p"));
        }
        if how.seed.is_some() {
            talk.note("--seed changes nothing: the likeliest token is taken; --temperature 1 draws");
        }
        return Ok(Way::Greedy {});
    }
    let seed = how.seed.unwrap_or_else(random_seed);
    if how.seed.is_none() {
        talk.note(format_args!("seed {seed} (--seed {seed} writes the same again)"));
    }
    let (top_k, top_p) = (how.top_k.unwrap_or(usual.top_k), how.top_p.unwrap_or(usual.top_p));
    if !asked {
        talk.note(format_args!(
            "the checkpoint asks for chance: temperature {temperature}, top-k {top_k}, top-p {top_p} (--temperature 0 \
             takes the likeliest)"
        ));
    }
    Ok(Way::Chance { seed, temperature, top_k, top_p })
}

fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// The format of the texts, and the file for them.
fn format(args: &GenerateArgs, talk: Talk) -> Result<(Plain, Option<PathBuf>)> {
    let output = args.files.output.clone();
    // A device or a pipe is told by what it is.
    let device = output.as_ref().is_some_and(|p| p.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()));
    let format = args.format.or(device.then_some(Plain::Text));
    let asked = SinkArgs { format, output };
    let (format, path) = resolve(&asked, talk)?;
    Ok((format, path.map(Path::to_owned)))
}

/// How fast it was, on one line.
fn told(samples: &[Sample], stats: Option<&GenerateStats>, took: Duration) -> String {
    let tokens: usize = samples.iter().map(|s| s.ids.len()).sum();
    let millis = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1e3);
    let Some(GenerateStats { prompt_tokens, first_token, prompt, decode, .. }) = stats else {
        return format!("{tokens} tokens in {}", millis(took));
    };
    // The first token of each sample is the prompt's.
    let after = tokens.saturating_sub(samples.len());
    format!(
        "{tokens} tokens; prompt of {prompt_tokens} in {}, first token after {}, then {after} in {}: {:.1} tokens/s",
        millis(*prompt),
        millis(*first_token),
        millis(*decode),
        after as f64 / decode.as_secs_f64().max(1e-9)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_left_away() {
        for (text, without) in [("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", "")] {
            assert_eq!(without_line_end(text.to_owned()), without);
        }
    }
}
