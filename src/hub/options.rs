//! How models are found and fetched, and who is told of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::env::HubEnv;

/// Told about a download as it goes: file name, bytes done, bytes in all if known.
pub type Progress<'a> = dyn FnMut(&str, u64, Option<u64>) + 'a;

/// Told what the user should know while a model is found or fetched: that it waits, that a cached copy may lack
/// something. The default tells nobody.
#[derive(Clone, Default)]
pub struct Notice(Option<Arc<Tell>>);

type Tell = dyn Fn(&str) + Send + Sync;

impl Notice {
    /// Tells this.
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Says a sentence without its final stop.
    pub(crate) fn say(&self, text: &str) {
        if let Some(tell) = &self.0 {
            tell(text);
        }
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notice(..)")
    }
}

/// How patient to be with a network.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Times one file is tried before giving up; progress made in between starts the count anew.
    pub attempts: u32,
    /// Wait before the second attempt; doubled before each further one.
    pub first_wait: Duration,
    /// Longest wait before an attempt, also where a server asks for one.
    pub longest_wait: Duration,
    /// Longest wait for a connection, and for a name to be resolved.
    pub connect: Duration,
    /// Longest silence in the middle of an answer.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(500),
            // Hubs count their limits over five minutes.
            longest_wait: Duration::from_secs(300),
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(10),
        }
    }
}

/// How models are found and fetched.
#[derive(Debug, Clone, Default)]
pub struct HubOptions {
    /// Cache, endpoint, token.
    pub env: HubEnv,
    /// Never open a socket, whatever the environment says.
    pub offline: bool,
    /// Time-outs and retries.
    pub patience: Patience,
    /// Where waits and doubts are told.
    pub notice: Notice,
    /// Set from another thread to stop a download at its next piece ([`crate::Error::Interrupted`]).
    pub cancel: Arc<AtomicBool>,
}

impl HubOptions {
    /// Defaults with the process environment.
    pub fn from_env() -> Self {
        Self { env: HubEnv::read(), ..Self::default() }
    }

    /// Whether the network is out of bounds, by flag or by `HF_HUB_OFFLINE`.
    pub fn is_offline(&self) -> bool {
        self.offline || self.env.offline
    }
}
