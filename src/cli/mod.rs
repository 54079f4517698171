//! The command line: arguments to a session and back to text. One file a subcommand; data
//! goes to standard output, talk to standard error, and the exit code says who can fix what went
//! wrong (`vit-gpu --help` lists the codes).
//!
//! It refuses to prompt, to leave half-written files, and to make noise about a closed pipe.

mod advice;
mod args;
mod attention;
mod bench;
mod command;
mod devices;
mod doctor;
mod embed;
mod filename;
mod generate;
mod infer;
mod inputs;
mod inspect;
mod interrupt;
mod locate;
mod merge;
mod natural;
mod open;
mod outcome;
mod outfile;
mod output;
mod pages;
mod pixels;
mod profile;
mod search;
mod sink;
mod talk;
mod texts;
mod tokens;
mod train;
mod tune;
mod vectors;
mod verify;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Parser as _;

use crate::error::Error;
use command::{Cli, Command};
use outcome::{FAILED, Outcome, Stop};
use talk::Talk;

/// Runs the program on arguments (the first is its own name) and yields its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Without a handler the default applies, which is quiet enough.
    _ = ctrlc::set_handler(|| {
        if interrupt::ask() {
            return;
        }
        talk::clear_now();
        outfile::remove_drafts();
        std::process::exit(i32::from(outcome::exit_code(&Error::Interrupted)));
    });
    let outcome = match Cli::try_parse_from(arguments) {
        Ok(cli) => run(&cli),
        Err(e) => e.print().map_err(Stop::Stdout).map(|()| e.exit_code() as u8),
    };
    talk::clear();
    ExitCode::from(match outcome {
        Ok(code) => code,
        Err(Stop::Stdout(e)) if e.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(Stop::Stdout(e)) => {
            talk::say(&format!("error: write error: {e}"));
            FAILED
        }
        Err(Stop::Error(e)) => {
            talk::error(&e);
            outcome::exit_code(&e)
        }
    })
}

fn run(cli: &Cli) -> Outcome {
    let talk = Talk::new(cli.talk);
    let mut out = BufWriter::new(io::stdout().lock());
    let code = match &cli.command {
        Command::Infer(args) => sink::run(&args.sink, talk, &mut out, |out| infer::run(args, talk, out)),
        Command::Embed(args) => sink::run(&args.sink, talk, &mut out, |out| embed::run(args, talk, out)),
        Command::Search(args) => sink::run(&args.sink, talk, &mut out, |out| search::run(args, talk, out)),
        Command::Generate(args) => generate::run(args, talk, &mut out),
        Command::Tokens(args) => tokens::run(args, talk, &mut out),
        Command::Attention(args) => {
            sink::run(&args.sink, talk, &mut out, |out| attention::run(args, talk, out))
        }
        Command::Devices(args) => sink::run(&args.sink, talk, &mut out, |out| devices::run(args, out)),
        Command::Inspect(args) => sink::run(&args.sink, talk, &mut out, |out| inspect::run(args, talk, out)),
        Command::Verify(args) => sink::run(&args.sink, talk, &mut out, |out| verify::run(args, talk, out)),
        Command::Train(args) => train::run(args, talk, &mut out),
        Command::Merge(args) => merge::run(args, talk, &mut out),
        Command::Tune(args) => sink::run(&args.sink, talk, &mut out, |out| tune::run(args, talk, out)),
        Command::Profile(args) => sink::run(&args.sink, talk, &mut out, |out| profile::run(args, talk, out)),
        Command::Bench(args) => sink::run(&args.sink, talk, &mut out, |out| bench::run(args, talk, out)),
        Command::Doctor(args) => doctor::run(args, talk, &mut out),
        Command::Completions { shell } => pages::completions(*shell, &mut out),
        Command::Man { command } => pages::man(command.as_deref(), &mut out),
    };
    // What was said before an error belongs to the user all the same.
    let flushed = out.flush();
    let code = code?;
    flushed?;
    Ok(code)
}
