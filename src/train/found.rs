//! How well classes are known.

use crate::tensor::HostTensor;

/// What a validation found so far.
#[derive(Default)]
pub(super) struct Found {
    seen: usize,
    top1: usize,
    top5: usize,
    loss: f64,
}

impl Found {
    /// Adds images by their scores (B,K), of which the first have these labels.
    pub(super) fn add(&mut self, scores: &HostTensor, labels: &[u32]) {
        let classes = scores.shape().width();
        let scores = scores.as_f32().unwrap_or_default();
        for (row, &label) in scores.chunks(classes).zip(labels) {
            let own = row[label as usize];
            // Equal scores, and what is no number, count against it.
            let worse = row.iter().filter(|x| **x < own).count();
            let before = classes - 1 - worse;
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - most).exp()).sum();
            self.seen += 1;
            self.top1 += usize::from(before == 0);
            self.top5 += usize::from(before < 5);
            self.loss += sum.ln() - f64::from(own - most);
        }
    }

    /// `top1` and `top5`, shares whose class is the first or among the first five; `loss`, the mean cross entropy.
    pub(super) fn numbers(&self) -> Vec<(String, f64)> {
        let mean = |sum: f64| sum / self.seen.max(1) as f64;
        let all =
            [("top1", mean(self.top1 as f64)), ("top5", mean(self.top5 as f64)), ("loss", mean(self.loss))];
        all.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
