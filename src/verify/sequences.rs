//! Recorded outputs of models that draw tokens: scores of whole sequences, greedy and guided
//! sequences id by id, the image they decode to.

use super::compare::{Tolerance, Verdict, compare};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::generate::{Generator, Order, Request};
use crate::ops::{Guidance, Sampling};
use crate::tensor::{HostTensor, Size};

/// What a recorded greedy sequence is called that guided scores and an image are of:
/// `out.greedy_cfg2.5_class3`. See [`Drawn`] for others.
const GUIDED: &str = "out.greedy_cfg";
/// Ids agree or do not.
const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0 };

/// One verdict for each recorded output.
///
/// # Errors
/// A file that cannot be read; device errors.
pub fn verdicts(generator: &Generator, file: &Checkpoint, tolerance: Tolerance) -> Result<Vec<Verdict>> {
    let mut outputs: Vec<&str> =
        file.index().keys().map(String::as_str).filter(|n| n.starts_with("out.")).collect();
    outputs.sort_by_key(|n| (order(n), *n));
    let guided = outputs.iter().filter(|n| n.starts_with(GUIDED));
    let guided = guided.filter_map(|name| Some(((*name).to_owned(), Drawn::named(name)?))).next();
    let record = Record { generator, file, tolerance, guided };
    outputs.into_iter().map(|name| record.verdict(name)).collect()
}

/// Hidden states in their order, then scores, sequences, images.
fn order(name: &str) -> (u8, usize) {
    match name.strip_prefix("out.hidden.").map(str::parse) {
        Some(Ok(layer)) => (0, layer),
        _ if name.ends_with("logits") => (1, 0),
        _ if name.starts_with("out.greedy") || Drawn::named(name).is_some() => (2, 0),
        _ => (3, 0),
    }
}

/// How a recorded guided sequence was drawn, as its name says: `out.ordered_parallel6_cfg4_class1`.
#[derive(Clone, Copy, Default)]
struct Drawn {
    scale: f32,
    class: usize,
    /// The scale rises from 1.
    rising: bool,
    /// In the order of `in.order`; ids are recorded in raster order all the same.
    ordered: bool,
    /// It begins with the tokens of `in.prime`.
    primed: bool,
    /// In so many steps.
    parallel: Option<usize>,
}

impl Drawn {
    fn named(name: &str) -> Option<Self> {
        let (how, settings) = name.strip_prefix("out.")?.split_once("_cfg")?;
        let (scale, class) = settings.split_once("_class")?;
        let mut drawn = Self { scale: scale.parse().ok()?, class: class.parse().ok()?, ..Self::default() };
        for word in how.split('_') {
            match word {
                "greedy" => {}
                "rising" => drawn.rising = true,
                "ordered" => drawn.ordered = true,
                "primed" => drawn.primed = true,
                _ => drawn.parallel = Some(word.strip_prefix("parallel")?.parse().ok()?),
            }
        }
        Some(drawn)
    }
}

/// Classes and tokens of each row.
type Recorded = (Vec<u32>, Vec<Vec<u32>>);

struct Record<'a> {
    generator: &'a Generator,
    file: &'a Checkpoint,
    tolerance: Tolerance,
    guided: Option<(String, Drawn)>,
}

impl Record<'_> {
    fn verdict(&self, name: &str) -> Result<Verdict> {
        let bare = name.strip_prefix("out.").unwrap_or(name);
        let known = self.generator.score_names()?;
        if known.iter().any(|n| n == bare) {
            return self.scores(name, bare);
        }
        if let Some(drawn) = Drawn::named(name) {
            return self.greedy_guided(name, drawn);
        }
        match (bare, &self.guided) {
            ("greedy", _) => self.greedy(name),
            ("cfg_logits", Some(_)) => self.guided_scores(name),
            ("image", Some(_)) => self.picture(name),
            _ => Ok(self.missing(name, "this model does not produce it")),
        }
    }

    fn missing(&self, name: &str, reason: &str) -> Verdict {
        let shape = self.file.index().get(name).map(|s| s.dims().to_vec()).unwrap_or_default();
        let (name, reason) = (name.to_owned(), Some(reason.to_owned()));
        Verdict { name, shape, reason, missing: true, ..Verdict::default() }
    }

    /// Rows of ids.
    fn ids(&self, name: &str) -> Result<Vec<Vec<u32>>> {
        let tensor = self.file.ids(name)?;
        let width = tensor.shape().width().max(1);
        Ok(tensor.as_u32().unwrap_or_default().chunks(width).map(<[u32]>::to_vec).collect())
    }

    /// Classes and tokens of the recorded input.
    fn input(&self) -> Result<Option<Recorded>> {
        if self.file.contains("in.ids") && self.file.contains("in.labels") {
            return Ok(Some((self.ids("in.labels")?.concat(), self.ids("in.ids")?)));
        }
        if !self.file.contains("in.input_ids") {
            return Ok(None);
        }
        // Place 0 is the start token, which the model puts there itself.
        let rows = self.ids("in.input_ids")?;
        let begins = rows.iter().all(|row| row.first() == Some(&self.generator.info().start));
        let tokens: Vec<Vec<u32>> = rows.iter().map(|row| row.iter().skip(1).copied().collect()).collect();
        Ok(begins.then(|| (vec![0; tokens.len()], tokens)))
    }

    fn scores(&self, name: &str, output: &str) -> Result<Verdict> {
        let Some((classes, tokens)) = self.input()? else {
            return Ok(self.missing(
                name,
                "the file has neither in.ids with in.labels nor in.input_ids from the start token on",
            ));
        };
        let got = self.generator.score_ordered(&self.order()?, &classes, &tokens, &[output])?.remove(0);
        Ok(compare(name, &got, &self.file.read(name)?, self.tolerance))
    }

    /// The recorded order.
    fn order(&self) -> Result<Order> {
        let recorded = self.file.contains("in.order");
        Ok(if recorded { Order::Given(self.ids("in.order")?.concat()) } else { Order::Raster })
    }

    fn draw(&self, class: Option<usize>, prime: Vec<u32>, drawn: Drawn) -> Result<Vec<u32>> {
        let first = if drawn.rising { 1.0 } else { drawn.scale };
        let guidance = Guidance { first, last: drawn.scale, places: self.generator.info().tokens as u32 };
        let sampling = Sampling { seed: 0, temperature: 0.0, top_k: 0, top_p: 1.0, guidance };
        let order = if drawn.ordered { self.order()? } else { Order::Raster };
        let parallel = drawn.parallel;
        let request = Request { classes: vec![class], first: 0, sampling, prime, order, parallel, every: 0 };
        Ok(self.generator.generate(&request, &mut |_| Ok(()))?.tokens.remove(0))
    }

    /// A sequence against the record, as far as that goes.
    fn exact(&self, name: &str, start: Option<u32>, made: &[u32]) -> Result<Verdict> {
        let want = self.file.ids(name)?;
        let got: Vec<f32> = start.iter().chain(made).map(|&id| id as f32).collect();
        let n = want.shape().elements().min(got.len());
        let shape = if n == want.shape().elements() { want.shape() } else { [n].into() };
        let got = HostTensor::f32(shape, got[..n].to_vec());
        Ok(compare(name, &got, &HostTensor::f32(want.shape(), want.to_f32()), EXACT))
    }

    fn greedy(&self, name: &str) -> Result<Verdict> {
        if !self.file.contains("in.prompt") {
            return Ok(self.missing(name, "the file has no in.prompt"));
        }
        let prompt = self.ids("in.prompt")?.concat();
        let made = self.draw(None, prompt[1..].to_vec(), Drawn { scale: 1.0, ..Drawn::default() })?;
        self.exact(name, prompt.first().copied(), &made)
    }

    fn greedy_guided(&self, name: &str, drawn: Drawn) -> Result<Verdict> {
        for (wanted, input) in [(drawn.ordered, "in.order"), (drawn.primed, "in.prime")] {
            if wanted && !self.file.contains(input) {
                return Ok(self.missing(name, &format!("the file has no {input}")));
            }
        }
        let prime = if drawn.primed { self.ids("in.prime")?.concat() } else { vec![] };
        let made = self.draw(Some(drawn.class), prime, drawn)?;
        self.exact(name, None, &made)
    }

    /// Guided scores along the recorded sequence: (N,V).
    fn guided_scores(&self, name: &str) -> Result<Verdict> {
        let Some((sequence, Drawn { scale, class, .. })) = &self.guided else {
            return Ok(self.missing(name, "no sequence"));
        };
        let mut tokens = self.ids(sequence)?.concat();
        tokens.pop();
        let none = self.generator.info().classes.unwrap_or(0) as u32;
        let both = [tokens.clone(), tokens];
        let logits = self.generator.score(&[*class as u32, none], &both, &["logits"])?.remove(0).to_f32();
        let (with, without) = logits.split_at(logits.len() / 2);
        let guided = with.iter().zip(without).map(|(c, u)| u + (c - u) * scale).collect();
        let want = self.file.read(name)?;
        let rows = [with.len() / self.generator.info().vocabulary, self.generator.info().vocabulary];
        Ok(compare(name, &HostTensor::f32(rows, guided), &want, self.tolerance))
    }

    /// The image of the recorded sequence: (1,3,H,W).
    fn picture(&self, name: &str) -> Result<Verdict> {
        let Some((sequence, ..)) = &self.guided else { return Ok(self.missing(name, "no sequence")) };
        let values = self.generator.decode_values(&self.ids(sequence)?)?.remove(0);
        let Size { height, width } = self.generator.info().image_size;
        let planes = (0..3).flat_map(|c| values.iter().skip(c).step_by(3)).copied().collect();
        let got = HostTensor::f32([1, 3, height, width], planes);
        Ok(compare(name, &got, &self.file.read(name)?, self.tolerance))
    }
}
