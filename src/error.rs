//! The one error type: what went wrong, which thing it was, what to try.
//!
//! Variants are sorted by who can fix the problem, because that decides the exit code
//! ([`Error::exit_code`]). A broken invariant of our own is not an `Error` but a panic with
//! its proof; nothing a user can pass in may reach one.

use std::fmt;

/// Result of anything that can fail because of the user's input or environment.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong outside our own code.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The call itself is off: a flag's value, a name that is not a name. Exit code 2.
    #[error("{what}")]
    Usage {
        /// What is wrong, naming the value.
        what: String,
        /// What to pass instead.
        help: String,
    },
    /// One input (an image, a list, a directory) cannot be used. Exit code 1.
    #[error("{input}: {what}")]
    Input {
        /// The file or stream, as the user named it.
        input: String,
        /// What is wrong with it.
        what: String,
        /// What to try; may be empty.
        help: String,
    },
    /// An output could not be written; nothing half-written is left. Exit code 1.
    #[error("cannot write {path}: {what}")]
    Write {
        /// Where the output was to go.
        path: String,
        /// The system's reason.
        what: String,
    },
    /// A checkpoint, its configuration or a tensor in it cannot be used. Exit code 3.
    #[error("{model}: {what}")]
    Model {
        /// The file, folder or model id.
        model: String,
        /// What is wrong: tensor or field, expected and found.
        what: String,
        /// What to try; may be empty.
        help: String,
    },
    /// No adapter, or none that matches. Exit code 4.
    #[error("{what}")]
    NoDevice {
        /// What was asked for and what there is.
        what: String,
        /// What to try.
        help: String,
    },
    /// The adapter cannot hold or do this, whatever the batch. Exit code 4.
    #[error("{what} needs {need}, the adapter allows {have}")]
    Limit {
        /// The thing that is too large and the limit's name.
        what: String,
        /// Amount needed, in the limit's own unit.
        need: u64,
        /// Amount allowed, in the same unit.
        have: u64,
    },
    /// The device ran out of memory. Exit code 5.
    #[error("out of device memory: {what} ({bytes} bytes)")]
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// Size of that allocation in bytes.
        bytes: u64,
    },
    /// The device went away: reset, unplugged, or destroyed. Exit code 5.
    #[error("the device was lost: {reason}")]
    DeviceLost {
        /// The driver's words.
        reason: String,
    },
    /// The device did not answer in time. Exit code 5.
    #[error("{what} did not finish within {seconds} s")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The deadline in seconds.
        seconds: u64,
    },
    /// The model produced NaN or infinity. Exit code 6.
    #[error("{what}: {count} of {total} values are not finite")]
    NonFinite {
        /// Which tensor, for which input.
        what: String,
        /// How many values are NaN or infinite.
        count: usize,
        /// How many values there are.
        total: usize,
    },
    /// A hub or its cache could not deliver. Exit code 7.
    #[error("{what}")]
    Hub {
        /// The repository, file, and reason.
        what: String,
        /// What to try.
        help: String,
    },
    /// Ctrl-C. Exit code 130.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An [`Error::Model`] from anything printable.
    pub fn model(model: impl fmt::Display, what: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Model { model: model.to_string(), what: what.into(), help: help.into() }
    }

    /// Puts a model's name in front of an [`Error::Model`] that only knows a file or a place in the graph.
    pub(crate) fn within(self, model: &str) -> Self {
        match self {
            Error::Model { model: place, what, help } => {
                Error::Model { model: format!("{model}: {place}"), what, help }
            }
            other => other,
        }
    }

    /// An [`Error::Input`] from anything printable.
    pub fn input(input: impl fmt::Display, what: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Input { input: input.to_string(), what: what.into(), help: help.into() }
    }

    /// An [`Error::Usage`].
    pub fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Usage { what: what.into(), help: help.into() }
    }

    /// What to try, if there is something to try.
    pub fn hint(&self) -> Option<&str> {
        let hint = match self {
            Error::Usage { help, .. }
            | Error::Input { help, .. }
            | Error::Model { help, .. }
            | Error::NoDevice { help, .. }
            | Error::Hub { help, .. } => help,
            Error::OutOfMemory { .. } => "pass a smaller --batch-size, or --dtype f16",
            Error::DeviceLost { .. } => "run `vit-gpu doctor`; if it repeats, update the GPU driver",
            Error::Timeout { .. } => "the GPU may be busy or hung; try a smaller --batch-size",
            Error::NonFinite { .. } => {
                "try --dtype f32; `vit-gpu verify` shows the first tensor that differs"
            }
            Error::Limit { .. } => "try --dtype f16, a smaller image, or another --device",
            Error::Write { .. } | Error::Interrupted => "",
        };
        (!hint.is_empty()).then_some(hint)
    }

    /// The process exit code this error maps to (documented in the man page).
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Input { .. } | Error::Write { .. } => 1,
            Error::Usage { .. } => 2,
            Error::Model { .. } => 3,
            Error::NoDevice { .. } | Error::Limit { .. } => 4,
            Error::OutOfMemory { .. } | Error::DeviceLost { .. } | Error::Timeout { .. } => 5,
            Error::NonFinite { .. } => 6,
            Error::Hub { .. } => 7,
            Error::Interrupted => 130,
        }
    }
}
