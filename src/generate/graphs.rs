//! The graphs of a generator, and the scores of whole sequences.

use super::generator::Generator;
use super::request::Order;
use super::sequences;
use crate::error::{Advice, Error, Result};
use crate::graph::Graph;
use crate::models::sequence::{New, Sequence};
use crate::plan::Plan;
use crate::session::draw_graph;
use crate::tensor::HostTensor;

impl Generator {
    /// Outputs of the decoder for whole sequences given: `logits` (B,1+k,V) for every token of them and
    /// the one behind, `hidden.N`. `classes`: the class of each sequence, the number of classes for none;
    /// `tokens`: k of each.
    ///
    /// # Errors
    /// [`Error::Usage`] for sequences of different lengths or an unknown output; device errors.
    pub fn score(&self, classes: &[u32], tokens: &[Vec<u32>], outputs: &[&str]) -> Result<Vec<HostTensor>> {
        self.score_ordered(&Order::Raster, classes, tokens, outputs)
    }

    /// As [`Generator::score`], for tokens in another order: each sequence's i-th is at the order's i-th
    /// place.
    ///
    /// # Errors
    /// As [`Generator::score`]; [`Error::Usage`] for an order that the model does not draw in.
    pub fn score_ordered(
        &self,
        order: &Order,
        classes: &[u32],
        tokens: &[Vec<u32>],
        outputs: &[&str],
    ) -> Result<Vec<HostTensor>> {
        self.check_order(order)?;
        let given = tokens.first().map_or(0, Vec::len);
        let fits = classes.len() == tokens.len() && tokens.iter().all(|t| t.len() == given);
        if tokens.is_empty() || !fits || given >= self.info().tokens {
            let what = format!("{} classes and {} sequences", classes.len(), tokens.len());
            return Err(Error::usage(what, "pass a class and equally many tokens for each"));
        }
        let graph = self.whole_graph(tokens.len(), given)?.select(outputs)?;
        let places = order.places(self.info().tokens, 0, 0);
        sequences::run_once(self, &graph, &places, classes, tokens)
    }

    /// Names of what [`Generator::score`] can give.
    ///
    /// # Errors
    /// If the model does not build.
    pub fn score_names(&self) -> Result<Vec<String>> {
        Ok(self.whole_graph(1, 0)?.outputs().iter().map(|(name, _)| name.clone()).collect())
    }

    fn whole_graph(&self, samples: usize, given: usize) -> Result<Graph> {
        let mut g = Graph::new();
        let sequence = Sequence::declare(&mut g, self.info().extent(samples, false), New::Prompt(given));
        let x = self.decoder.build(&mut g, &sequence, New::Prompt(given))?;
        let logits = self.decoder.head(&mut g, x);
        g.output("logits", logits);
        g.check()?;
        Ok(g)
    }

    /// The graph that draws what comes after the new tokens.
    ///
    /// # Errors
    /// If the model does not build.
    pub fn graph(&self, samples: usize, guided: bool, new: New) -> Result<Graph> {
        draw_graph(&*self.decoder, self.info().extent(samples, guided), new, 0)
    }

    /// The plan of one token, or of a prompt, for this session's device; for people and profilers.
    ///
    /// # Errors
    /// [`Error::Limit`]; [`Error::Usage`] on the reference, which has no plans.
    pub fn plan(&self, samples: usize, guided: bool, new: New) -> Result<Plan> {
        if self.gpu().is_none() {
            return Err(Error::usage("the reference has no plans", Advice::Adapter));
        }
        self.runtime.plan(&self.graph(samples, guided, new)?)
    }
}
