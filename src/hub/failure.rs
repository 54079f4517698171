//! Feature `hub`. Why a request failed: for good, or only this time.

use std::time::Duration;

use crate::error::{Advice, Error};

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Trying again would not help.
    Final(Error),
    /// It may work the next time.
    Again {
        /// What happened, without a final stop.
        what: String,
        /// How long the server asks to wait.
        wait: Option<Duration>,
        /// Whether anything new arrived before it failed.
        progress: bool,
    },
}

impl Failure {
    pub(crate) fn again(what: impl Into<String>) -> Self {
        Failure::Again { what: what.into(), wait: None, progress: false }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

/// An [`Error::Hub`].
pub(crate) fn hub_error(what: impl Into<String>, help: impl Into<Advice>) -> Error {
    Error::Hub { what: what.into(), help: help.into() }
}
