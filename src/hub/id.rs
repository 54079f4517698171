//! A hub model's name, checked before anything else happens, since it becomes paths and URLs.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::printable::printable;

/// A hub model's name, checked: every part is safe in a path and in a URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId {
    organisation: String,
    name: String,
    revision: Option<String>,
}

impl ModelId {
    /// Parses `org/name`, `org/name@revision`, or either after `hf://`. Models that once had no organization
    /// (`gpt2`, `bert-base-uncased`) are known by their short names too.
    ///
    /// # Errors
    /// [`Error::Usage`] for anything else. Neither the file system nor the network is touched.
    pub fn parse(spec: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let what = format!("`{}` is not a model name: {why}", printable(spec));
            Error::usage(
                what,
                "a hub model is written org/name or org/name@revision, as google/vit-base-patch16-224",
            )
        };
        if let Some((_, rest)) =
            spec.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
        {
            let parts: Vec<&str> = rest.split(['/', '?', '#']).skip(1).take(2).collect();
            let name = parts.join("/");
            let what = format!("`{}` is not a model name but an address", printable(spec));
            return Err(Error::usage(
                what,
                match Self::parse(&name) {
                    Ok(id) => format!("pass `{id}`"),
                    Err(_) => "a hub model is written org/name or org/name@revision".to_owned(),
                },
            ));
        }
        let rest = spec.strip_prefix("hf://").unwrap_or(spec);
        let (repository, revision) = match rest.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (rest, None),
        };
        if repository.len() > 96 {
            return Err(wrong("it is too long"));
        }
        let moved = organization_of(repository).map(|organization| (organization, repository));
        let Some((organisation, name)) = repository.split_once('/').or(moved) else {
            return Err(wrong("there is no `/` between organization and name"));
        };
        for part in [organisation, name] {
            check_part(part).map_err(|why| wrong(&why))?;
        }
        if let Some(revision) = revision {
            check_revision(revision).map_err(|why| wrong(&why))?;
        }
        Ok(Self {
            organisation: organisation.to_owned(),
            name: name.to_owned(),
            revision: revision.map(str::to_owned),
        })
    }

    /// `org/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.organisation, self.name)
    }

    /// Branch, tag or commit; `main` if none was given.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The folder of a cache where programs keep a model that they know by its short name.
    pub(super) fn short_cache_folder(&self, cache: &Path) -> Option<PathBuf> {
        let short = organization_of(&self.name) == Some(&self.organisation);
        short.then(|| cache.join(format!("models--{}", self.name)))
    }

    /// The model's folder in a cache.
    pub fn cache_folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}--{}", self.organisation, self.name))
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organisation, self.name)?;
        self.revision.as_ref().map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// The organization that a model of these families belongs to now, which once was known by this name alone.
fn organization_of(name: &str) -> Option<&'static str> {
    const MOVED: [(&str, &[&str]); 5] = [
        (
            "openai-community",
            &[
                "gpt2",
                "gpt2-medium",
                "gpt2-large",
                "gpt2-xl",
                "openai-gpt",
                "roberta-base-openai-detector",
                "roberta-large-openai-detector",
            ],
        ),
        ("google-t5", &["t5-small", "t5-base", "t5-large", "t5-3b", "t5-11b"]),
        (
            "google-bert",
            &[
                "bert-base-uncased",
                "bert-base-cased",
                "bert-large-uncased",
                "bert-large-cased",
                "bert-base-chinese",
                "bert-base-german-cased",
                "bert-base-multilingual-cased",
                "bert-base-multilingual-uncased",
                "bert-base-cased-finetuned-mrpc",
                "bert-large-cased-whole-word-masking",
                "bert-large-cased-whole-word-masking-finetuned-squad",
                "bert-large-uncased-whole-word-masking",
                "bert-large-uncased-whole-word-masking-finetuned-squad",
            ],
        ),
        (
            "FacebookAI",
            &["roberta-base", "roberta-large", "roberta-large-mnli", "xlm-roberta-base", "xlm-roberta-large"],
        ),
        (
            "distilbert",
            &[
                "distilgpt2",
                "distilroberta-base",
                "distilbert-base-uncased",
                "distilbert-base-cased",
                "distilbert-base-german-cased",
                "distilbert-base-multilingual-cased",
                "distilbert-base-cased-distilled-squad",
                "distilbert-base-uncased-distilled-squad",
                "distilbert-base-uncased-finetuned-sst-2-english",
            ],
        ),
    ];
    MOVED.iter().find(|(_, names)| names.contains(&name)).map(|(organization, _)| *organization)
}

/// The hub's own rules for an organisation's or a repository's name.
fn check_part(part: &str) -> std::result::Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if part.is_empty() {
        return Err("a part of it is empty".into());
    }
    if let Some(c) = part.chars().find(|&c| !allowed(c)) {
        return Err(format!("`{}` is not allowed in it", c.escape_default()));
    }
    if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
        return Err("a part of it starts or ends with `-` or `.`".into());
    }
    if part.contains("--") || part.contains("..") || part.ends_with(".git") {
        return Err("`--`, `..` and a final `.git` are not allowed in it".into());
    }
    Ok(())
}

/// git's rules for a reference, narrowed to what hubs use (`main`, `v1.0`, `refs/pr/3`, a commit).
fn check_revision(revision: &str) -> std::result::Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let good_part = |part: &str| !part.is_empty() && !part.starts_with(['-', '.']) && !part.ends_with(['.']);
    let good = revision.len() <= 200
        && revision.chars().all(allowed)
        && revision.split('/').all(good_part)
        && !revision.contains("..")
        && !revision.ends_with(".lock");
    if good { Ok(()) } else { Err(format!("`{}` is not a revision", printable(revision))) }
}

/// Whether this is a full commit id: 40 lower-case hexadecimal digits.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
