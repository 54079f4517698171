//! RandAR (Pang et al. 2024, "RandAR: Decoder-only Autoregressive Visual Generation in Random Orders"):
//! LlamaGen's blocks over a sequence in which an instruction goes before each token and says its
//! position, so that patches can be drawn in any order, and several at once.
//!
//! The sequence: class, I, T, I, T, … in the order of drawing. An instruction is one learned vector,
//! turned by the angles of the position like a row of heads; the instruction and the token behind it are
//! both turned by these in q and k, too. The scores of a token are those at its instruction. What is drawn
//! in one step stands as instructions side by side; the next step enters them again, each with its token.

use serde_json::Value as Json;

use super::llamagen::{Llama, TOKEN_TABLE};
use crate::error::Result;
use crate::graph::{Graph, TensorIndex, Value};
use crate::models::fields::Fields;
use crate::models::sequence::{Defaults, GeneratorInfo, ImageDecoder, New, Sequence, TokenDecoder};
use crate::ops::EmbedOrdered;
use crate::tensor::HostTensor;

/// The learned vector (1,C), by which a checkpoint is known.
pub(crate) const INSTRUCTION: &str = "pos_instruct_embeddings";

struct RandAr {
    llama: Llama,
}

/// Reads a `config.json` of LlamaGen's sizes.
pub(crate) fn open(config: &Json, index: &TensorIndex) -> Result<Box<dyn ImageDecoder>> {
    let fields = Fields::new(config)?;
    let defaults = Defaults { temperature: 1.0, top_k: 0, top_p: 1.0, cfg_scale: 4.0, rising: true };
    let info = GeneratorInfo {
        family: "randar",
        architecture: "RandAR".to_owned(),
        any_order: true,
        defaults,
        ..GeneratorInfo::default()
    };
    let mut model = RandAr { llama: Llama::read(&fields, index, info)? };
    let checked = model.llama.names.check_decoder(&model, &fields)?;
    model.llama.found(checked);
    Ok(Box::new(model))
}

impl ImageDecoder for RandAr {
    fn info(&self) -> &GeneratorInfo {
        &self.llama.info
    }

    fn rotary(&self, order: &[u32]) -> Option<HostTensor> {
        let (raster, d) = (self.llama.raster(), self.llama.head_width());
        // Of the class, zeros, of other places what is written when they are entered.
        let mut table = vec![0.0; self.llama.info.extent(1, false).positions * d];
        table.extend(order.iter().flat_map(|&i| &raster[i as usize * d..][..d]));
        Some(HostTensor::f32([table.len() / d, d], table))
    }
}

impl TokenDecoder for RandAr {
    fn build(&self, g: &mut Graph, s: &Sequence, new: New) -> Result<Value> {
        let c = self.llama.info.hidden;
        g.scope("embeddings");
        // The places of the cache, and the angles in the order of drawing.
        let table = self.llama.table(g, s.positions + self.llama.info.tokens);
        let place = EmbedOrdered { rows: s.rows, count: 0, first: 0, spread: 0, places: s.positions };
        match new {
            New::Prompt(given) => {
                let class = self.llama.class(g, s);
                let count = 2 * given + 1;
                let op = EmbedOrdered { count, first: 1, spread: count, ..place };
                let pairs = self.rows(g, op, table, s);
                let x = g.concat_tokens(s.rows, &[class, pairs]); // class I, T I, T I, …
                let x = self.llama.blocks(g, x, table, s, new)?;
                let x = g.reshape(x, [s.rows * (given + 1), 2, c]);
                let x = g.token(x, 1); // (R·S,C)
                Ok(g.reshape(x, [s.rows, given + 1, c]))
            }
            New::Step { drawn, next } => {
                let spread = (2 * drawn).saturating_sub(1);
                let count = spread + next;
                let op = EmbedOrdered { count, first: 0, spread, ..place };
                let x = self.rows(g, op, table, s); // T I T … and I I I …
                let x = self.llama.blocks(g, x, table, s, new)?;
                Ok(g.slice_tokens(x, spread..count))
            }
        }
    }

    fn head(&self, g: &mut Graph, x: Value) -> Value {
        self.llama.head(g, x)
    }
}

impl RandAr {
    /// Tokens and instructions: (R,T,C).
    fn rows(&self, g: &mut Graph, op: EmbedOrdered, rotary: Value, s: &Sequence) -> Value {
        let GeneratorInfo { vocabulary, hidden, .. } = self.llama.info;
        let table = g.weight(self.llama.names.weight(TOKEN_TABLE), [vocabulary, hidden]);
        let instruction = g.weight(self.llama.names.weight(INSTRUCTION), [1, hidden]);
        g.embed_ordered(op, [table, s.tokens, s.step, instruction, rotary, s.place])
    }
}
