//! Every op that has several kernel variants.

use super::choice::Choices;
use super::{attention, matmul};
use crate::error::{Error, Result};

/// Every op that has several kernel variants, and their names.
pub fn variants() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("matmul", matmul::names()),
        ("attention", attention::names()),
        ("attention_backward", attention::back_names()),
        ("conv2d", matmul::conv_names()),
    ]
}

/// The text of every kernel that is chosen between: when it changes, measurements are void.
pub fn kernel_text() -> String {
    let attention = attention::kernels().chain(attention::back_kernels());
    matmul::kernels().chain(attention).flat_map(|k| k.source).map(|(_, text)| *text).collect()
}

impl Choices {
    /// Takes `OP=NAME` settings from a user; the last word on an op counts.
    ///
    /// # Errors
    /// [`Error::Usage`] for an op without variants or a name it does not have.
    pub fn forced<'a>(settings: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut choices = Self::default();
        for setting in settings {
            choices.force(setting)?;
        }
        Ok(choices)
    }

    pub(super) fn force(&mut self, setting: &str) -> Result<()> {
        let all = variants();
        let list = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<Vec<_>>().join(", ");
        let Some((op, name)) = setting.split_once('=') else {
            return Err(Error::usage(format!("`{setting}` is not OP=NAME"), "as in matmul=tile64"));
        };
        let Some((_, names)) = all.iter().find(|(known, _)| *known == op) else {
            let known = list(&mut all.iter().map(|(op, _)| *op));
            return Err(Error::usage(format!("op `{op}` has no variants"), format!("these have: {known}")));
        };
        if !names.contains(&name) {
            let known = list(&mut names.iter().copied());
            return Err(Error::usage(format!("{op} has no variant `{name}`"), format!("it has {known}")));
        }
        self.forced.insert(op.to_owned(), name.to_owned());
        Ok(())
    }
}
