//! Recorded outputs of text models: hidden states where the mask is 1, scores, greedy ids.

use super::compare::{Tolerance, Verdict, compare};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::tensor::{HostTensor, Shape};
use crate::text::{Kind, Passage, Task, TextSession};

/// Ids agree or do not.
const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0 };

/// One verdict for each recorded output.
///
/// # Errors
/// A file that cannot be read; device errors.
pub fn verdicts(session: &TextSession, file: &Checkpoint, tolerance: Tolerance) -> Result<Vec<Verdict>> {
    let mut outputs: Vec<&str> =
        file.index().keys().map(String::as_str).filter(|n| n.starts_with("out.")).collect();
    outputs.sort_by_key(|n| (order(n), *n));
    let record = Record { session, file, tolerance, known: session.output_names()? };
    outputs.into_iter().map(|name| record.verdict(name)).collect()
}

/// What the encoder makes, layer by layer, then the decoder, then scores, then what is written.
fn order(name: &str) -> (u8, usize) {
    let bare = name.strip_prefix("out.").unwrap_or(name);
    let layer = bare.rsplit_once('.').and_then(|(_, n)| n.parse().ok());
    match (bare, layer) {
        _ if bare.starts_with("encoder") => (0, layer.unwrap_or(usize::MAX)),
        (_, Some(layer)) => (1, layer),
        _ if bare.contains("logits") => (3, 0),
        _ if bare.starts_with("greedy") => (4, 0),
        _ => (2, 0),
    }
}

struct Record<'a> {
    session: &'a TextSession,
    file: &'a Checkpoint,
    tolerance: Tolerance,
    known: Vec<String>,
}

impl Record<'_> {
    fn verdict(&self, name: &str) -> Result<Verdict> {
        let bare = name.strip_prefix("out.").unwrap_or(name);
        let output = match bare {
            "mean_pooled" => "mean",
            "greedy" if self.session.info().can(Task::Generate) => return self.greedy(name),
            _ => bare,
        };
        if !self.known.iter().any(|n| n == output) {
            return Ok(self.missing(name, format!("this model does not produce `{bare}`")));
        }
        match self.passages()? {
            Ok(passages) => self.scores(name, output, &passages),
            Err(reason) => Ok(self.missing(name, reason)),
        }
    }

    fn missing(&self, name: &str, reason: impl Into<String>) -> Verdict {
        let shape = self.file.index().get(name).map(|s| s.dims().to_vec()).unwrap_or_default();
        let (name, reason) = (name.to_owned(), Some(reason.into()));
        Verdict { name, shape, reason, missing: true, ..Verdict::default() }
    }

    fn passages(&self) -> Result<Result<Vec<Passage>, String>> {
        passages(self.session, self.file)
    }

    /// One output of all texts against the record, as far as texts go.
    fn scores(&self, name: &str, output: &str, passages: &[Passage]) -> Result<Verdict> {
        let want = self.file.read(name)?;
        let rows = passages.len();
        let shape = want.shape();
        let dims = shape.dims();
        if dims.first() != Some(&rows) {
            return Ok(self.missing(name, format!("it has shape {shape} for {rows} texts")));
        }
        let got = self.session.run(passages, &[output])?;
        let per = shape.elements() / rows;
        let recorded = want.to_f32();
        let (mut all_got, mut all_want) = (Vec::new(), Vec::new());
        for (i, passage) in passages.iter().enumerate() {
            let got = got[i][0].to_f32();
            // What stands behind the end of a text is not compared.
            let by_token = dims.len() == 3 || output == "start_logits" || output == "end_logits";
            let of_decoder = output == "logits" || output.starts_with("decoder");
            let length = match &passage.written {
                written if of_decoder && !written.is_empty() => written.len(),
                _ => passage.ids.len(),
            };
            let counted = if by_token { per / dims[1] * length } else { per };
            if counted > per || got.len() < counted || (!by_token && got.len() != per) {
                let what = format!("row {i} has {} values, {per} are recorded", got.len());
                return Ok(self.missing(name, what));
            }
            all_got.extend_from_slice(&got[..counted]);
            all_want.extend_from_slice(&recorded[i * per..i * per + counted]);
        }
        let flat = |data: Vec<f32>| HostTensor::f32(Shape::new(&[data.len()]), data);
        Ok(Verdict { shape: dims.to_vec(), ..compare(name, &flat(all_got), &flat(all_want), self.tolerance) })
    }

    /// Greedy ids of each row: behind the prompt (GPT-2), or behind the start token (T5); what follows an
    /// end is padding.
    fn greedy(&self, name: &str) -> Result<Verdict> {
        let passages = match self.passages()? {
            Ok(passages) => passages,
            Err(reason) => return Ok(self.missing(name, reason)),
        };
        let want = rows(self.file, name)?.unwrap_or_default();
        let (mut all_got, mut all_want) = (Vec::new(), Vec::new());
        for (passage, want) in passages.iter().zip(&want) {
            let begin = match self.session.info().kind {
                Kind::Decoder => passage.ids.clone(),
                _ => vec![self.session.info().start.unwrap_or(0)],
            };
            let new = want.len().saturating_sub(begin.len());
            let (made, _) = self.session.greedy(&passage.ids, new.max(1), false)?;
            let got: Vec<u32> = begin.into_iter().chain(made).collect();
            let n = got.len().min(want.len());
            all_got.extend(got[..n].iter().map(|&id| id as f32));
            all_want.extend(want[..n].iter().map(|&id| id as f32));
        }
        let flat = |data: Vec<f32>| HostTensor::f32(Shape::new(&[data.len()]), data);
        let shape = self.file.index().get(name).map(|s| s.dims().to_vec()).unwrap_or_default();
        Ok(Verdict { shape, ..compare(name, &flat(all_got), &flat(all_want), EXACT) })
    }
}

/// Rows of ids; absent if the file has none.
fn rows(file: &Checkpoint, name: &str) -> Result<Option<Vec<Vec<u32>>>> {
    if !file.contains(name) {
        return Ok(None);
    }
    let tensor = file.ids(name)?;
    let width = tensor.shape().width().max(1);
    Ok(Some(tensor.as_u32().unwrap_or_default().chunks(width).map(<[u32]>::to_vec).collect()))
}

/// The recorded texts without their padding, or why there are none that can be run.
pub(super) fn passages(session: &TextSession, file: &Checkpoint) -> Result<Result<Vec<Passage>, String>> {
    let Some(ids) = rows(file, "in.input_ids")? else {
        return Ok(Err("the file has no in.input_ids".to_owned()));
    };
    let masks = rows(file, "in.attention_mask")?;
    let types = rows(file, "in.token_type_ids")?.unwrap_or_default();
    let written = rows(file, "in.decoder_input_ids")?.unwrap_or_default();
    let info = session.info();
    if info.kind == Kind::EncoderDecoder && written.is_empty() {
        return Ok(Err("the file has no in.decoder_input_ids".to_owned()));
    }
    let mut passages = Vec::new();
    for (i, ids) in ids.iter().enumerate() {
        let length = match masks.as_ref().map(|masks| &masks[i]) {
            Some(mask) => {
                let length = mask.iter().take_while(|&&m| m != 0).count();
                if length == 0 || mask[length..].iter().any(|&m| m != 0) {
                    let what = format!("row {i} of in.attention_mask is not a number of ones and then zeros");
                    return Ok(Err(what));
                }
                length
            }
            None => ids.len(),
        };
        let written = written.get(i).cloned().unwrap_or_default();
        let scored = if written.is_empty() { length } else { written.len() };
        let places = match info.classes.is_some() && info.kind == Kind::Decoder {
            true => vec![last(&ids[..length], info.pad)],
            false => (0..scored).collect(),
        };
        passages.push(Passage {
            ids: ids[..length].to_vec(),
            types: types.get(i).map(|t| t[..length].to_vec()).unwrap_or_default(),
            written,
            places,
            targets: vec![],
        });
    }
    Ok(Ok(passages))
}

/// The last token that is not padding.
pub(super) fn last(ids: &[u32], pad: Option<u32>) -> usize {
    ids.iter().rposition(|&id| Some(id) != pad).unwrap_or(ids.len() - 1)
}
