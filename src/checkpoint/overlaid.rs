//! A checkpoint with another's tensors laid over it. Whoever reads it gets the weights that count; what lies beneath
//! has names of its own.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::overlay::{Change, LowRank, Overlay};
use super::weights::Checkpoint;
use crate::error::{Error, Result};
use crate::printable::printable;
use crate::tensor::Shape;

/// What stands between a module's name and its tensor's, of the weight beneath (PEFT's name for it).
const BASE: &str = ".base_layer.";

impl Checkpoint {
    /// This checkpoint with an overlay, whose tensors are in `other`. Those are found under their own names too, but
    /// not listed; neither are weights beneath a product ([`Checkpoint::base_layer`]).
    ///
    /// # Errors
    /// [`Error::Model`] for tensors that are missing or do not fit, and for a second overlay.
    pub fn overlaid(&self, other: &Checkpoint, mut overlay: Overlay) -> Result<Self> {
        if self.overlay.is_some() {
            return Err(Error::model(
                other.name(),
                "is to be laid over an adapter",
                "lay it over a whole model",
            ));
        }
        let (mut tensors, mut index) = ((*self.tensors).clone(), (*self.index).clone());
        let first = self.shards.len();
        let mut add = |name: &str| -> Result<Shape> {
            let shape = other.readable(name)?;
            let (shard, stored) = other.tensors.get(name).expect("it is readable");
            if let Some((at, _)) = tensors.insert(name.to_owned(), (first + shard, stored.clone()))
                && at < first
            {
                let what = format!("tensor `{}` is in the base model too", printable(name));
                return Err(Error::model(other.name(), what, "take a base without an adapter's tensors"));
            }
            Ok(shape)
        };
        for (weight, LowRank { a, b, turned, .. }) in &overlay.low_rank {
            let (w, a_shape, b_shape) = (self.readable(weight)?, add(a)?, add(b)?);
            fits(w.dims(), a_shape.dims(), b_shape.dims(), *turned).map_err(|why| {
                let shapes = format!("{a_shape} and {b_shape} to {w}");
                let what = format!(
                    "`{}` and lora_B do not fit `{}`: {shapes}, {why}",
                    printable(a),
                    printable(weight)
                );
                Error::model(other.name(), what, "the adapter was made for a model of other sizes")
            })?;
        }
        for (tensor, by) in &overlay.replaced {
            index.insert(tensor.clone(), add(by)?);
        }
        for tensor in overlay.replaced.keys() {
            let before = tensors.remove(tensor);
            overlay.types.extend(before.map(|(_, stored)| (tensor.clone(), stored.dtype)));
        }
        let shards = self.shards.iter().chain(&*other.shards).cloned().collect();
        Ok(Self {
            shards,
            tensors: Arc::new(tensors),
            index: Arc::new(index),
            overlay: Some(Arc::new(overlay)),
            ..self.clone()
        })
    }

    /// What is laid over it, if anything is.
    pub fn overlay(&self) -> Option<&Overlay> {
        self.overlay.as_deref()
    }

    /// What an overlay makes of this tensor, if there is one and it does.
    pub fn change_of(&self, tensor: &str) -> Option<Change<'_>> {
        let overlay = self.overlay.as_deref()?;
        let replaced = overlay.replaced.get(tensor).map(|by| Change::Replaced(by));
        replaced.or_else(|| overlay.low_rank.get(tensor).map(Change::LowRank))
    }

    /// The name under which a weight is read as it is beneath its product.
    pub fn base_layer(tensor: &str) -> String {
        match tensor.rsplit_once('.') {
            Some((module, kind)) => format!("{module}{BASE}{kind}"),
            None => format!("{BASE}{tensor}"),
        }
    }

    /// The stored tensor that a name means.
    pub(super) fn resolved<'a>(&'a self, tensor: &'a str) -> Cow<'a, str> {
        let Some(overlay) = self.overlay.as_deref() else { return Cow::Borrowed(tensor) };
        if let Some(by) = overlay.replaced.get(tensor) {
            return Cow::Borrowed(by);
        }
        let beneath = tensor.contains(BASE).then(|| tensor.replacen(BASE, ".", 1));
        match beneath.filter(|name| overlay.low_rank.contains_key(name)) {
            Some(name) => Cow::Owned(name),
            None => Cow::Borrowed(tensor),
        }
    }

    /// Adds the product of a weight, if it has one. The sum over the rank, the factor and the sum are in f32, in this
    /// order.
    pub(super) fn adapt(&self, tensor: &str, weight: &mut [f32]) -> Result<()> {
        let Some(Change::LowRank(LowRank { a, b, scale, turned })) = self.change_of(tensor) else {
            return Ok(());
        };
        let (a_shape, a) = self.values(a)?;
        let (_, b) = self.values(b)?;
        let r = a_shape.dims()[0];
        let (k, n) = (a.len() / r, b.len() / r);
        let mut row = vec![0.0f32; k];
        for (i, factors) in b.chunks(r).enumerate() {
            row.fill(0.0);
            for (factor, a) in factors.iter().zip(a.chunks(k)) {
                row.iter_mut().zip(a).for_each(|(sum, a)| *sum += factor * a);
            }
            if *turned {
                weight[i..].iter_mut().step_by(n).zip(&row).for_each(|(w, d)| *w += scale * d);
            } else {
                weight[i * k..][..k].iter_mut().zip(&row).for_each(|(w, d)| *w += scale * d);
            }
        }
        Ok(())
    }

    /// What is read besides the tensors that are listed, for a fingerprint: names, and numbers in words.
    pub(super) fn beneath(&self) -> Vec<(&str, String)> {
        let Some(overlay) = self.overlay.as_deref() else { return vec![] };
        let parts = overlay.low_rank.iter().flat_map(|(weight, low)| {
            let words = format!("{weight}\0{}\0{}", low.scale.to_bits(), low.turned);
            [(low.a.as_str(), words.clone()), (low.b.as_str(), words)]
        });
        parts.collect()
    }

    /// Names of all tensors that a reader sees, of whatever type and rank.
    pub(super) fn visible(&self) -> Vec<String> {
        let Some(overlay) = self.overlay.as_deref() else { return self.tensors.keys().cloned().collect() };
        let factors = overlay.low_rank.values().flat_map(|low| [&low.a, &low.b]);
        let hidden: BTreeSet<&String> = factors.chain(overlay.replaced.values()).collect();
        let kept = self.tensors.keys().filter(|name| !hidden.contains(name));
        kept.chain(overlay.replaced.keys()).cloned().collect()
    }

    /// The element type that a tensor has without the overlay; `None` for one that the overlay brings.
    pub(super) fn dtype_beneath(&self, tensor: &str) -> Option<&str> {
        match self.overlay.as_deref().filter(|overlay| overlay.replaced.contains_key(tensor)) {
            Some(overlay) => overlay.types.get(tensor).map(String::as_str),
            None => self.tensors.get(tensor).map(|(_, stored)| stored.dtype.as_str()),
        }
    }

    /// Names of all stored tensors, of whatever type and rank.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

/// Whether A and B make a product in the shape of W; why not, if not.
fn fits(w: &[usize], a: &[usize], b: &[usize], turned: bool) -> std::result::Result<(), String> {
    let (Some((&r, inner)), Some((&n, rank))) = (a.split_first(), b.split_first()) else {
        return Err("a factor has no dimensions".into());
    };
    if rank.first() != Some(&r) || rank[1..].iter().any(|d| *d != 1) {
        return Err(format!("the rank is {r}"));
    }
    let fit = match (w, inner) {
        (&[first, second], &[k]) if turned => [first, second] == [k, n],
        (&[first, ref rest @ ..], inner) if !turned => first == n && rest == inner,
        _ => false,
    };
    let elements: usize = a.iter().chain(b).product();
    if fit && elements > 0 { Ok(()) } else { Err("the product has another shape".into()) }
}
