//! Pages made from the argument structs: completion scripts and man pages. They are made
//! in memory first, since the generators take a failing pipe for a reason to panic.

use std::io::Write;

use clap::CommandFactory as _;

use super::outcome::Outcome;
use crate::cli::command::Cli;
use crate::error::Error;

/// A completion script on standard output.
pub(super) fn completions(shell: clap_complete::Shell, out: &mut impl Write) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vit-gpu", &mut script);
    if shell == clap_complete::Shell::Bash {
        // The generator takes the hyphen for a place between commands where it lists their options, and not
        // where it looks for them.
        let text = String::from_utf8_lossy(&script).replace("vit__subcmd__gpu", "vit__gpu");
        script = text.into_bytes();
    }
    out.write_all(&script)?;
    Ok(0)
}

/// The program's man page, or one command's, on standard output.
pub(super) fn man(command: Option<&str>, out: &mut impl Write) -> Outcome {
    let mut program = Cli::command();
    program.build();
    let page = match command {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name).cloned();
            let found = found.ok_or_else(|| {
                let all: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
                Error::usage(format!("there is no command `{name}`"), format!("one of {}", all.join(", ")))
            })?;
            found.display_name(format!("vit-gpu-{name}"))
        }
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text)?;
    out.write_all(&text)?;
    Ok(0)
}
