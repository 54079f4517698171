//! How a family names its tensors: what is stripped and replaced to reach the canonical names that its code speaks,
//! and the way to the names that transformers 5 has.

/// Prefixes that wrappers put in front of any model, in any order: `DataParallel`, Lightning, `torch.compile`,
/// PEFT.
const WRAPPERS: &[&str] = &["module.", "model.", "_orig_mod.", "base_model."];

/// (new, old) fragments of names, applied in order; a new one that starts with `^` stands at the start only.
pub(crate) type Renames = &'static [(&'static str, &'static str)];

/// Parts of the names of layers that are `Conv1D` in the code of GPT-2 and ImageGPT.
pub(crate) const CONV1D: &[&str] = &[".c_attn.", ".c_proj.", ".c_fc."];

/// The names of a family.
#[derive(Debug)]
pub(crate) struct Naming {
    /// Prefixes that are stripped from the front, beside those of wrappers.
    pub(crate) prefixes: &'static [&'static str],
    /// Newer spellings and the canonical ones.
    pub(crate) renames: &'static [Renames],
    /// Starts of canonical names that the family knowingly leaves aside.
    pub(crate) ignored: &'static [&'static str],
    /// Parts of the canonical names of weights that are stored as (K,N), as `Conv1D` has them.
    pub(crate) in_out: &'static [&'static str],
    /// How transformers 5 spells the names of modules; `None` where files are as the original has them.
    pub(crate) written: Option<Written>,
}

/// Names of modules in transformers 5.
#[derive(Debug)]
pub(crate) struct Written {
    /// Models with a head have their encoder under a name of its own: the prefix of the model type if that is one
    /// of the family's, else the family's first.
    pub(crate) wrapped: bool,
    /// Those of the renames whose new spelling is the one there.
    pub(crate) renames: &'static [Renames],
    /// Starts of canonical names that are no part of the encoder.
    pub(crate) heads: &'static [&'static str],
}

impl Naming {
    /// Names as they are.
    pub(crate) const PLAIN: Naming =
        Naming { prefixes: &[], renames: &[], ignored: &[], in_out: &[], written: None };

    /// The prefix of a name, and its canonical form without that.
    pub(crate) fn canonical<'a>(&self, name: &'a str) -> (&'a str, String) {
        let mut rest = name;
        while let Some(next) = WRAPPERS.iter().chain(self.prefixes).find_map(|p| rest.strip_prefix(p)) {
            rest = next;
        }
        let pairs = self.renames.iter().flat_map(|list| list.iter());
        let canonical = pairs.fold(rest.to_owned(), |name, (new, old)| match new.strip_prefix('^') {
            Some(start) => replace_start(name, start, old),
            None => name.replace(new, old),
        });
        (&name[..name.len() - rest.len()], canonical)
    }

    /// Whether a canonical name is of a head.
    pub(crate) fn is_head(&self, canonical: &str) -> bool {
        let heads = self.written.as_ref().map_or(&[][..], |written| written.heads);
        heads.iter().any(|head| canonical.starts_with(head))
    }

    /// The name of a canonical one in transformers 5, in a model of this type; `bare` is without a head, as
    /// `BertModel` is.
    pub(crate) fn current(&self, canonical: &str, model_type: &str, bare: bool) -> String {
        let Some(written) = &self.written else { return canonical.to_owned() };
        let pairs = written.renames.iter().flat_map(|list| list.iter());
        let name = pairs.fold(canonical.to_owned(), |name, (new, old)| match new.strip_prefix('^') {
            Some(start) => replace_start(name, old, start),
            None => name.replace(old, new),
        });
        // What is left aside is another half of the model, with a name of its own.
        let aside = self.ignored.iter().any(|start| canonical.starts_with(start));
        if bare || aside || !written.wrapped || self.is_head(canonical) {
            return name;
        }
        let own = format!("{model_type}.");
        let prefix = self.prefixes.iter().find(|p| **p == own).or(self.prefixes.first());
        format!("{}{name}", prefix.unwrap_or(&""))
    }
}

fn replace_start(name: String, start: &str, by: &str) -> String {
    match name.strip_prefix(start) {
        Some(rest) => format!("{by}{rest}"),
        None => name,
    }
}

/// How many wrappers a prefix names.
pub(crate) fn wrappers(prefix: &str) -> usize {
    WRAPPERS.iter().map(|wrapper| prefix.matches(wrapper).count()).sum()
}
