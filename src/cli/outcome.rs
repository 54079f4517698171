//! What a command yields: an exit code, or what stopped it.

use std::io;

use crate::error::Error;

/// Exit code where an input failed or a check did not pass.
pub(super) const FAILED: u8 = 1;

/// The exit code of an error: who can fix it. `vit-gpu --help` and the man page list the codes.
pub(super) fn exit_code(e: &Error) -> u8 {
    match e {
        Error::Input { .. } | Error::Write { .. } => FAILED,
        Error::Usage { .. } => 2,
        Error::Model { .. } => 3,
        Error::NoDevice { .. } | Error::Limit { .. } => 4,
        Error::OutOfMemory { .. } | Error::DeviceLost { .. } | Error::Timeout { .. } => 5,
        Error::NonFinite { .. } => 6,
        Error::Hub { .. } => 7,
        Error::Interrupted => 130,
    }
}

/// What ends a command early.
pub(super) enum Stop {
    /// Something is wrong, and can be said.
    Error(Error),
    /// Standard output cannot be written.
    Stdout(io::Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Stop::Error(e)
    }
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Stop::Stdout(e)
    }
}

/// What a command returns: its exit code, or what stopped it.
pub(super) type Outcome = Result<u8, Stop>;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cli::command::Cli;
    use crate::cli::pages;
    use crate::error::Advice;
    use clap::CommandFactory as _;

    #[test]
    fn exit_codes_are_documented() {
        let text = String::new;
        let help = || Advice::Nothing;
        let errors = [
            Error::Input { input: text(), what: text(), help: help() },
            Error::Write { path: text(), what: text() },
            Error::usage("", ""),
            Error::model("", "", ""),
            Error::NoDevice { what: text(), help: help() },
            Error::Limit { what: text(), need: 1, have: 0 },
            Error::OutOfMemory { what: text(), bytes: 1 },
            Error::DeviceLost { reason: text() },
            Error::Timeout { what: text(), seconds: 1 },
            Error::NonFinite { what: text(), count: 1, total: 1 },
            Error::Hub { what: text(), help: help() },
            Error::Interrupted,
        ];
        let mut man = Vec::new();
        assert!(matches!(pages::man(None, &mut man), Ok(0)));
        let (page, man) = (Cli::command().render_help().to_string(), String::from_utf8(man).unwrap());
        for e in errors {
            let code = format!("{:>5}  ", exit_code(&e));
            assert!(page.lines().any(|l| l.starts_with(&code)), "{code} of {e:?} is not in --help");
            assert!(man.lines().any(|l| l.starts_with(&code)), "{code} of {e:?} is not in the man page");
        }
    }
}
