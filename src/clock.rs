//! The host's clock: the one place where a platform without [`std::time::Instant`] replaces it.

pub(crate) use std::time::Instant;
