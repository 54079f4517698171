//! Recorded outputs of vision models, for images of one size or several.

use std::collections::BTreeMap;

use super::compare::{Tolerance, Verdict, compare};
use super::masked;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::session::Session;

/// Name of the one input every model takes.
const IMAGE: &str = "in.pixel_values";

/// One verdict for each recorded output, in the order of the forward pass.
///
/// # Errors
/// A file that cannot be read; device errors.
pub fn verdicts(session: &Session, file: &Checkpoint, tolerance: Tolerance) -> Result<Vec<Verdict>> {
    if file.contains(masked::NOISE)
        && let Some(model) = session.model().masked()
    {
        return masked::verdicts(session, model, file, tolerance);
    }
    let mut all = Vec::new();
    for case in cases(file.index().keys().map(String::as_str)) {
        all.extend(case.verify(session, file, tolerance)?);
    }
    Ok(all)
}

/// One image size: the input, and the outputs recorded for it.
#[derive(Debug, PartialEq)]
struct Case {
    /// Name of the input tensor; absent if it is not in the file.
    input: Option<String>,
    /// (name in the file, name of the model's output), in the order of the forward pass. The second
    /// is absent where the recorded output is whatever the model's main output is.
    outputs: Vec<(String, Option<String>)>,
    /// Why these outputs cannot be produced.
    reason: Option<String>,
}

/// Sorts a file's tensors into cases.
fn cases<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Case> {
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    let mut others = Vec::new();
    for name in names {
        if name.starts_with("out.") {
            outputs.push(name);
        } else if name == IMAGE || name.strip_prefix(IMAGE).is_some_and(|rest| rest.starts_with('.')) {
            inputs.push(name);
        } else if name.starts_with("in.") {
            others.push(name);
        }
    }
    // Another input than the image decides what was recorded, so nothing recorded can be matched.
    let foreign = (!others.is_empty()).then(|| {
        let list: Vec<String> = others.iter().map(|n| format!("`{n}`")).collect();
        format!("it was recorded with {}, which this model does not take", list.join(", "))
    });
    let mut by_input: BTreeMap<&str, Vec<(String, Option<String>)>> = BTreeMap::new();
    for output in outputs {
        let bare = &output["out.".len()..];
        match bare.strip_prefix("interpolated.") {
            Some(suffix) => by_input.entry(suffix).or_default().push((output.to_owned(), None)),
            None => by_input.entry("").or_default().push((output.to_owned(), Some(bare.to_owned()))),
        }
    }
    let case = |(suffix, mut outputs): (&str, Vec<(String, Option<String>)>)| {
        let wanted = if suffix.is_empty() { IMAGE.to_owned() } else { format!("{IMAGE}.{suffix}") };
        let input = inputs.contains(&wanted.as_str()).then_some(wanted.clone());
        let absent = input.is_none().then(|| format!("the file has no `{wanted}`"));
        outputs.sort_by_key(|(name, output)| (order(output.as_deref()), name.clone()));
        Case { input, outputs, reason: foreign.clone().or(absent) }
    };
    by_input.into_iter().map(case).collect()
}

/// Layers in order, hidden states before attention, what comes after the layers last, scores at the
/// very end: so the first difference that is printed is where things go wrong.
fn order(output: Option<&str>) -> (u8, usize, u8) {
    let Some(output) = output else { return (2, 0, 0) };
    match output.split_once('.').map(|(stem, n)| (stem, n.parse::<usize>())) {
        // hidden.N enters layer N, attention.N happens in it.
        Some(("hidden", Ok(layer))) => (0, layer, 0),
        Some((_, Ok(layer))) => (0, layer, 1),
        _ => (1, 0, u8::from(output.contains("logits"))),
    }
}

impl Case {
    fn verify(&self, session: &Session, file: &Checkpoint, tolerance: Tolerance) -> Result<Vec<Verdict>> {
        let missing = |name: &str, reason: String| {
            let shape = file.index().get(name).map(|s| s.dims().to_vec()).unwrap_or_default();
            let (name, reason) = (name.to_owned(), Some(reason));
            Verdict { name, shape, reason, missing: true, ..Verdict::default() }
        };
        let input = match (&self.input, &self.reason) {
            (Some(input), None) => input,
            (_, reason) => {
                let reason = reason.as_deref().unwrap_or("its input is missing");
                return Ok(self.outputs.iter().map(|(name, _)| missing(name, reason.to_owned())).collect());
            }
        };
        let image = file.read(input)?;
        let &[_, _, height, width] = image.shape().dims() else {
            let what = format!("`{input}` has shape {}, expected (B,3,H,W)", image.shape());
            return Err(Error::model(file.name(), what, "record the model's normalised input"));
        };
        let all = match session.output_names([height, width]) {
            Ok(all) => all,
            Err(e) => return Ok(self.outputs.iter().map(|(name, _)| missing(name, e.to_string())).collect()),
        };
        let mut verdicts: Vec<Option<Verdict>> = Vec::new();
        let mut wanted: Vec<(usize, String)> = Vec::new();
        for (i, (name, output)) in self.outputs.iter().enumerate() {
            verdicts.push(match produced(session, file, name, output.as_deref(), &all) {
                Ok(output) => {
                    wanted.push((i, output));
                    None
                }
                Err(reason) => Some(missing(name, reason)),
            });
        }
        // One output may be recorded under two names; it is computed once.
        let mut outputs: Vec<&str> = Vec::new();
        for (_, output) in &wanted {
            if !outputs.contains(&output.as_str()) {
                outputs.push(output);
            }
        }
        let results = if outputs.is_empty() { vec![] } else { session.run_tensor(&image, &outputs)? };
        for (i, output) in &wanted {
            let name = &self.outputs[*i].0;
            let want = file.read(name)?;
            let result = outputs.iter().position(|o| o == output).map(|at| &results[at]);
            verdicts[*i] = result.map(|got| compare(name, got, &want, tolerance));
        }
        Ok(verdicts.into_iter().flatten().collect())
    }
}

/// The model's output that a recorded one is to be compared with, or why there is none.
fn produced(
    session: &Session,
    file: &Checkpoint,
    name: &str,
    output: Option<&str>,
    all: &[String],
) -> Result<String, String> {
    let want = file.readable(name).map_err(|e| e.to_string())?;
    let has = |n: &str| all.iter().any(|a| a == n);
    let headless = session.info().classes.is_none();
    match output {
        // Without a head, timm's model returns the pooled features in place of logits.
        Some("logits") if headless && !has("logits") && want.dims().len() == 2 && has("embedding") => {
            Ok("embedding".to_owned())
        }
        Some(output) if has(output) => Ok(output.to_owned()),
        Some(output) => Err(format!("this model does not produce `{output}`")),
        // A recorded main output, known by its rank alone.
        None => {
            let by_rank: &[&str] = match want.dims().len() {
                2 => &["logits", "embedding", "pooler_output", "image_embeds"],
                3 => &["last_hidden_state", "features"],
                _ => &[],
            };
            let found = by_rank.iter().find(|n| has(n));
            found
                .map(|n| (*n).to_owned())
                .ok_or_else(|| format!("no output of this model has {} dimensions", want.dims().len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_sorted_into_cases() {
        let names =
            ["in.pixel_values", "in.pixel_values.28x56", "out.hidden.10", "out.hidden.2", "out.attention.2"];
        let more = ["out.logits", "out.interpolated.28x56", "out.interpolated.7x7", "out.pooler_output"];
        let cases = cases(names.into_iter().chain(more));
        let all = |i: usize| cases[i].outputs.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>();
        assert_eq!(
            all(0),
            ["out.hidden.2", "out.attention.2", "out.hidden.10", "out.pooler_output", "out.logits"]
        );
        assert_eq!(cases[1].input.as_deref(), Some("in.pixel_values.28x56"));
        assert_eq!(all(1), ["out.interpolated.28x56"]);
        assert!(cases[2].reason.as_ref().is_some_and(|r| r.contains("in.pixel_values.7x7")));
        assert!(cases[0].reason.is_none() && cases[1].reason.is_none());
    }

    #[test]
    fn a_foreign_input_spoils_everything_recorded() {
        let cases = cases(["in.noise", "in.pixel_values", "out.logits"].into_iter());
        assert!(cases[0].reason.as_ref().is_some_and(|r| r.contains("`in.noise`")));
    }
}
