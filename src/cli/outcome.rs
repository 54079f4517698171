//! What a command yields: an exit code, or what stopped it.

use std::io;

use crate::error::Error;

/// Exit code where an input failed or a check did not pass.
pub(super) const FAILED: u8 = 1;

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
