//! The one error type: what went wrong, which thing it was, what to try.
//!
//! Variants are sorted by who can fix the problem. A broken invariant of our own is not an `Error`
//! but a panic with its proof; nothing a user can pass in may reach one.

mod advice;

use std::fmt;

pub use advice::Advice;

/// Result of anything that can fail because of the user's input or environment.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong outside our own code. `Display` is the message ([`Error::message`]) and
/// what to try ([`Error::hint`]) on one line.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The call itself is off: an option's value, a name that is not a name.
    Usage {
        /// What is wrong, naming the value.
        what: String,
        /// What to try instead.
        help: Advice,
    },
    /// One input (an image, a list, a directory) cannot be used.
    Input {
        /// The file or stream, as the user named it.
        input: String,
        /// What is wrong with it.
        what: String,
        /// What to try.
        help: Advice,
    },
    /// An output could not be written; nothing half-written is left.
    Write {
        /// Where the output was to go.
        path: String,
        /// The system's reason.
        what: String,
    },
    /// A checkpoint, its configuration or a tensor in it cannot be used.
    Model {
        /// The file, folder or model id.
        model: String,
        /// What is wrong: tensor or field, expected and found.
        what: String,
        /// What to try.
        help: Advice,
    },
    /// No adapter, or none that matches.
    NoDevice {
        /// What was asked for and what there is.
        what: String,
        /// What to try.
        help: Advice,
    },
    /// The adapter cannot hold or do this, whatever the batch.
    Limit {
        /// The thing that is too large and the limit's name.
        what: String,
        /// Amount needed, in the limit's own unit.
        need: u64,
        /// Amount allowed, in the same unit.
        have: u64,
    },
    /// The device ran out of memory.
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// Size of that allocation in bytes.
        bytes: u64,
    },
    /// The device went away: reset, unplugged, or destroyed.
    DeviceLost {
        /// The driver's words.
        reason: String,
    },
    /// The device did not answer in time.
    Timeout {
        /// What was waited for.
        what: String,
        /// The deadline in seconds.
        seconds: u64,
    },
    /// The model produced NaN or infinity.
    NonFinite {
        /// Which tensor, for which input.
        what: String,
        /// How many values are NaN or infinite.
        count: usize,
        /// How many values there are.
        total: usize,
    },
    /// A hub or its cache could not deliver.
    Hub {
        /// The repository, file, and reason.
        what: String,
        /// What to try.
        help: Advice,
    },
    /// Ctrl-C.
    Interrupted,
}

impl Error {
    /// An [`Error::Model`] from anything printable.
    pub fn model(model: impl fmt::Display, what: impl Into<String>, help: impl Into<Advice>) -> Self {
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
    pub fn input(input: impl fmt::Display, what: impl Into<String>, help: impl Into<Advice>) -> Self {
        Error::Input { input: input.to_string(), what: what.into(), help: help.into() }
    }

    /// An [`Error::Usage`].
    pub fn usage(what: impl Into<String>, help: impl Into<Advice>) -> Self {
        Error::Usage { what: what.into(), help: help.into() }
    }

    /// What is wrong, without what to try.
    pub fn message(&self) -> String {
        match self {
            Error::Usage { what, .. } | Error::NoDevice { what, .. } | Error::Hub { what, .. } => {
                what.clone()
            }
            Error::Input { input, what, .. } => format!("{input}: {what}"),
            Error::Write { path, what } => format!("cannot write {path}: {what}"),
            Error::Model { model, what, .. } => format!("{model}: {what}"),
            Error::Limit { what, need, have } => format!("{what} needs {need}, the adapter allows {have}"),
            Error::OutOfMemory { what, bytes } => format!("out of device memory: {what} ({bytes} bytes)"),
            Error::DeviceLost { reason } => format!("the device was lost: {reason}"),
            Error::Timeout { what, seconds } => format!("{what} did not finish within {seconds} s"),
            Error::NonFinite { what, count, total } => {
                format!("{what}: {count} of {total} values are not finite")
            }
            Error::Interrupted => "interrupted".to_owned(),
        }
    }

    /// What to try, if there is something to try.
    pub fn hint(&self) -> Option<&Advice> {
        let hint = match self {
            Error::Usage { help, .. }
            | Error::Input { help, .. }
            | Error::Model { help, .. }
            | Error::NoDevice { help, .. }
            | Error::Hub { help, .. } => help,
            Error::OutOfMemory { .. } => &Advice::LessMemory,
            Error::DeviceLost { .. } => &Advice::CheckMachine,
            Error::Timeout { .. } => &Advice::SmallerBatch,
            Error::NonFinite { .. } => &Advice::WiderType,
            Error::Limit { .. } => &Advice::LessOrOtherDevice,
            Error::Write { .. } | Error::Interrupted => &Advice::Nothing,
        };
        (*hint != Advice::Nothing).then_some(hint)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        self.hint().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl std::error::Error for Error {}
