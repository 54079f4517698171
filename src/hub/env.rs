//! What the environment says about model hubs, read once into plain data.
//!
//! The variables are those of `huggingface_hub`, with its precedence, so that a machine set up for
//! one is set up for the other: `~`, `$NAME` and `${NAME}` stand in paths for what they stand for in a shell
//! (`%NAME%` on Windows). Empty variables count as unset. Nothing is written and no socket is
//! opened; a token is read only when one is needed and never shown.

use std::ffi::OsString;
use std::path::PathBuf;
use std::{fmt, fs};

use crate::error::{Advice, Error, Result};
use crate::hub::proxy::Proxies;

/// The public hub.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Environment of model hubs. The default knows nothing: no home, no token, no proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubEnv {
    /// `HF_HUB_CACHE`, or `HUGGINGFACE_HUB_CACHE`: the cache itself.
    pub hub_cache: Option<PathBuf>,
    /// `HF_HOME`: the folder that holds the cache (`hub`) and the token.
    pub hf_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`, if absolute.
    pub xdg_cache_home: Option<PathBuf>,
    /// `HOME`; on Windows `USERPROFILE`, else `HOMEDRIVE` and `HOMEPATH`, else `HOME`.
    pub home: Option<PathBuf>,
    /// `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) is 1, on, yes or true.
    pub offline: bool,
    /// `HF_ENDPOINT`: another hub than huggingface.co.
    pub endpoint: Option<String>,
    /// `HF_TOKEN`, or `HUGGING_FACE_HUB_TOKEN`.
    pub token: Option<Token>,
    /// `HF_TOKEN_PATH`: a file with the token.
    pub token_path: Option<PathBuf>,
    /// `SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE`: certificates to trust instead of the built-in ones.
    pub certificates: Option<PathBuf>,
    /// `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`, in small or large letters.
    pub proxies: Proxies,
}

impl HubEnv {
    /// The environment of this process.
    pub fn read() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// An environment from a lookup of variables by name.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        Self::of_system(cfg!(windows), lookup)
    }

    /// As [`HubEnv::from_lookup`], by the rules of Windows or of others.
    fn of_system(windows: bool, lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| lookup(name).filter(|v| !v.is_empty());
        let text = |name: &str| {
            let value = lookup(name)?.into_string().ok()?.trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let truth =
            |name: &str| text(name).map(|v| matches!(&*v.to_lowercase(), "1" | "on" | "yes" | "true"));
        let home = home(windows, &set);
        let path = |name: &str| set(name).map(|v| expand(windows, v, home.as_ref(), &set));
        Self {
            hub_cache: path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")),
            hf_home: path("HF_HOME"),
            xdg_cache_home: path("XDG_CACHE_HOME").filter(|p| p.is_absolute()),
            offline: truth("HF_HUB_OFFLINE").or_else(|| truth("TRANSFORMERS_OFFLINE")).unwrap_or(false),
            endpoint: text("HF_ENDPOINT"),
            token: text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")).map(Token),
            token_path: path("HF_TOKEN_PATH"),
            certificates: set("SSL_CERT_FILE").or_else(|| set("REQUESTS_CA_BUNDLE")).map(PathBuf::from),
            proxies: Proxies::from_lookup(&lookup),
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
            what: format!(
                "there is no place for the model cache: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and {} are all unset",
                HOMES[0]
            ),
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

/// The variables that name the home folder of a user here, the first one first.
pub const HOMES: &[&str] = if cfg!(windows) { &["USERPROFILE", "HOME"] } else { &["HOME"] };

/// The home folder, as Python finds it, which decides where every other program keeps its cache.
fn home(windows: bool, set: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let plain = || set("HOME").map(PathBuf::from);
    if !windows {
        return plain();
    }
    let in_two = || {
        let mut drive = set("HOMEDRIVE").unwrap_or_default();
        drive.push(set("HOMEPATH")?);
        Some(PathBuf::from(drive))
    };
    set("USERPROFILE").map(PathBuf::from).or_else(in_two).or_else(plain)
}

/// A path with `~` and variables in it; a variable that is not set stays as it is written, as in Python.
fn expand(
    windows: bool,
    value: OsString,
    home: Option<&PathBuf>,
    set: &dyn Fn(&str) -> Option<OsString>,
) -> PathBuf {
    let path = PathBuf::from(&value);
    let path = match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) if rest.as_os_str().is_empty() => home.clone(),
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    };
    // What is no text holds no variable that could be read.
    let Some(text) = path.to_str() else { return path };
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c| c == '$' || (windows && c == '%')) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (written, name) = variable(rest);
        match set(name).and_then(|v| v.into_string().ok()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[..written]),
        }
        rest = &rest[written..];
    }
    PathBuf::from(out + rest)
}

/// The variable that a text begins with, `$NAME`, `${NAME}` or `%NAME%`: how long it is written, and its name,
/// which is empty if it is none.
fn variable(text: &str) -> (usize, &str) {
    let closed = |open: usize, close: char| {
        let end = text[open..].find(close)?;
        Some((open + end + close.len_utf8(), &text[open..open + end]))
    };
    let found = match text.as_bytes() {
        [b'%', ..] => closed(1, '%'),
        [_, b'{', ..] => closed(2, '}'),
        _ => {
            let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = text[1..].find(|c| !name(c)).map_or(text.len(), |n| n + 1);
            Some((end, &text[1..end]))
        }
    };
    found.unwrap_or((1, ""))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn env(windows: bool, pairs: &[(&str, &str)]) -> HubEnv {
        HubEnv::of_system(windows, |name| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn paths_are_read_as_huggingface_hub_reads_them() {
        let cache = |value: &str| {
            let pairs = [("HOME", "/h"), ("DISK", "/disk"), ("a_1", "x"), ("HF_HUB_CACHE", value)];
            env(false, &pairs).hub_cache.map(|p| p.display().to_string())
        };
        for (value, want) in [
            ("~/c", "/h/c"),
            ("~", "/h"),
            ("$DISK/c", "/disk/c"),
            ("${DISK}/c$a_1.d", "/disk/cx.d"),
            ("$NONE/c", "$NONE/c"),
            ("${NONE}/${", "${NONE}/${"),
            ("/a$", "/a$"),
            ("/50%/$HOME", "/50%//h"),
            ("~other/c", "~other/c"),
        ] {
            assert_eq!(cache(value).as_deref(), Some(want), "{value}");
        }
        let old = [("HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "~/old"), ("HUGGING_FACE_HUB_TOKEN", "hf_old")];
        let read = env(false, &old);
        assert_eq!(read.hub_cache, Some("/h/old".into()));
        assert_eq!(read.token(), Ok(Some(Token::new("hf_old"))));
        let both = env(false, &[old[0], old[1], old[2], ("HF_HUB_CACHE", "/new"), ("HF_TOKEN", "hf_new")]);
        assert_eq!((both.hub_cache, both.token), (Some("/new".into()), Some(Token::new("hf_new"))));
    }

    #[test]
    fn windows_has_homes_and_variables_of_its_own() {
        let home = |pairs: &[(&str, &str)]| env(true, pairs).home.map(|p| p.display().to_string());
        let (profile, msys) = (("USERPROFILE", "C:/Users/u"), ("HOME", "/c/Users/u"));
        assert_eq!(home(&[msys, profile]).as_deref(), Some("C:/Users/u"));
        assert_eq!(home(&[msys, ("HOMEDRIVE", "D:"), ("HOMEPATH", "/u")]).as_deref(), Some("D:/u"));
        assert_eq!(home(&[msys]).as_deref(), Some("/c/Users/u"));
        assert_eq!(env(false, &[profile]).home, None);
        let read = env(true, &[profile, ("DISK", "E:"), ("HF_HUB_CACHE", "%DISK%/c/%NONE%/100%")]);
        assert_eq!(read.hub_cache, Some("E:/c/%NONE%/100%".into()));
    }
}
