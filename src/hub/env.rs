//! What the environment says about model hubs, read once into plain data.
//!
//! The variables are those of `huggingface_hub`, with its precedence, so that a machine set up for
//! one is set up for the other. Empty variables count as unset. Nothing is written and no socket is
//! opened; a token is read only when one is needed and never shown.

use std::ffi::OsString;
use std::path::PathBuf;
use std::{fmt, fs};

use crate::error::{Advice, Error, Result};

/// The public hub.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Environment of model hubs. The default knows nothing: no home, no token, no proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubEnv {
    /// `HF_HUB_CACHE`: the cache itself.
    pub hub_cache: Option<PathBuf>,
    /// `HF_HOME`: the folder that holds the cache (`hub`) and the token.
    pub hf_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`, if absolute.
    pub xdg_cache_home: Option<PathBuf>,
    /// `HOME` (on Windows, else `USERPROFILE`).
    pub home: Option<PathBuf>,
    /// `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) is 1, on, yes or true.
    pub offline: bool,
    /// `HF_ENDPOINT`: another hub than huggingface.co.
    pub endpoint: Option<String>,
    /// `HF_TOKEN`.
    pub token: Option<Token>,
    /// `HF_TOKEN_PATH`: a file with the token.
    pub token_path: Option<PathBuf>,
    /// `SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE`: certificates to trust instead of the built-in ones.
    pub certificates: Option<PathBuf>,
    /// Whether `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are to be followed.
    pub proxies: bool,
}

impl HubEnv {
    /// The environment of this process.
    pub fn read() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// An environment from a lookup of variables by name.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| lookup(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let text = |name: &str| {
            let value = lookup(name)?.into_string().ok()?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let truth =
            |name: &str| text(name).map(|v| matches!(&*v.to_lowercase(), "1" | "on" | "yes" | "true"));
        let home = path("HOME").or_else(|| path("USERPROFILE").filter(|_| cfg!(windows)));
        let tilde = |p: PathBuf| match (p.strip_prefix("~"), &home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => p,
        };
        Self {
            hub_cache: path("HF_HUB_CACHE").map(&tilde),
            hf_home: path("HF_HOME").map(&tilde),
            xdg_cache_home: path("XDG_CACHE_HOME").filter(|p| p.is_absolute()),
            offline: truth("HF_HUB_OFFLINE").or_else(|| truth("TRANSFORMERS_OFFLINE")).unwrap_or(false),
            endpoint: text("HF_ENDPOINT"),
            token: text("HF_TOKEN").map(Token),
            token_path: path("HF_TOKEN_PATH").map(&tilde),
            certificates: path("SSL_CERT_FILE").or_else(|| path("REQUESTS_CA_BUNDLE")),
            proxies: true,
            home,
        }
    }

    /// The folder of Hugging Face's cache and token.
    fn base(&self) -> Option<PathBuf> {
        let xdg = || self.xdg_cache_home.as_ref().map(|p| p.join("huggingface"));
        let home = || self.home.as_ref().map(|p| p.join(".cache").join("huggingface"));
        self.hf_home.clone().or_else(xdg).or_else(home)
    }

    /// The cache folder, which need not exist yet: `HF_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `$XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`.
    ///
    /// # Errors
    /// [`Error::Hub`] if none of these variables is set.
    pub fn cache(&self) -> Result<PathBuf> {
        let cache = self.hub_cache.clone().or_else(|| self.base().map(|p| p.join("hub")));
        cache.ok_or_else(|| Error::Hub {
            what: "there is no place for the model cache: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME are all unset"
                .into(),
            help: Advice::ModelFolder,
        })
    }

    /// The hub's address, without a final slash.
    pub fn endpoint(&self) -> &str {
        self.endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT).trim_end_matches('/')
    }

    /// The access token: `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else the one `hf auth login` left.
    ///
    /// # Errors
    /// [`Error::Hub`] if it has characters that no token has.
    pub fn token(&self) -> Result<Option<Token>> {
        let file = || self.token_path.clone().or_else(|| self.base().map(|p| p.join("token")));
        let stored = || Some(Token(fs::read_to_string(file()?).ok()?.trim().to_owned()));
        let token = self.token.clone().or_else(stored).filter(|t| !t.0.is_empty());
        match token {
            Some(Token(t)) if !t.bytes().all(|b| b.is_ascii_graphic()) => Err(Error::Hub {
                what: "the hub token has characters that no token has".into(),
                help: "check HF_TOKEN, HF_TOKEN_PATH, or run `hf auth login` again".into(),
            }),
            token => Ok(token),
        }
    }
}

/// A secret; its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub(crate) String);

impl Token {
    /// A token from its text.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
