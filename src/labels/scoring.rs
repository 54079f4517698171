//! What the outputs of a head say: shares of one choice, chances of each class by itself, or plain numbers.

use serde::Serialize;
use serde_json::Value;

use crate::printable::printable;

/// What makes answers of the outputs of a head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scoring {
    /// One class is right: shares that add up to 1.
    #[default]
    Softmax,
    /// Any number of classes may be right: each has its own chance, from 0 to 1.
    Sigmoid,
    /// No classes: the outputs themselves are the answers (regression, scores of rerankers).
    Raw,
}

/// An answer of one output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// A probability, from 0 to 1.
    Probability(f32),
    /// A number of any size.
    #[serde(rename = "score")]
    Number(f32),
}

impl Score {
    /// The number, whatever it says.
    pub fn value(self) -> f32 {
        let (Score::Probability(value) | Score::Number(value)) = self;
        value
    }
}

impl Scoring {
    /// What a parsed `config.json` says of a head of `outputs` outputs. As CrossEncoder of
    /// sentence-transformers has it, an activation that the configuration names comes first; then the rule
    /// of transformers' pipelines: by `problem_type`, and sigmoid for a single output. What is not understood
    /// becomes a warning.
    pub fn from_config(config: &Value, outputs: usize, warnings: &mut Vec<String>) -> Self {
        let named = config["sentence_transformers"]["activation_fn"].as_str();
        let named = named.or_else(|| config["sbert_ce_default_activation_function"].as_str());
        if let Some(name) = named {
            // As in "torch.nn.modules.linear.Identity".
            match name.rsplit('.').next() {
                Some("Identity") => return Scoring::Raw,
                Some("Sigmoid") => return Scoring::Sigmoid,
                Some("Softmax") => return Scoring::Softmax,
                _ => {
                    let name = printable(name);
                    warnings.push(format!("the activation `{name}` is not known: outputs are as they are"));
                    return Scoring::Raw;
                }
            }
        }
        let usual = if outputs == 1 { Scoring::Sigmoid } else { Scoring::Softmax };
        match config["problem_type"].as_str() {
            Some("regression") => Scoring::Raw,
            Some("multi_label_classification") => Scoring::Sigmoid,
            None | Some("single_label_classification") => usual,
            Some(other) => {
                warnings.push(format!("problem_type `{}` is not known; it is ignored", printable(other)));
                usual
            }
        }
    }

    /// Answers of outputs; what is not a number stays none.
    pub fn apply(self, outputs: &[f32]) -> Vec<f32> {
        match self {
            Scoring::Softmax => softmax(outputs),
            Scoring::Sigmoid => outputs.iter().map(|&x| (1.0 / (1.0 + f64::from(-x).exp())) as f32).collect(),
            Scoring::Raw => outputs.to_vec(),
        }
    }

    /// An answer of [`Scoring::apply`] with what it is.
    pub fn score(self, value: f32) -> Score {
        match self {
            Scoring::Softmax | Scoring::Sigmoid => Score::Probability(value),
            Scoring::Raw => Score::Number(value),
        }
    }

    /// What an answer is called, where a table has a name for it.
    pub fn noun(self) -> &'static str {
        match self {
            Scoring::Softmax | Scoring::Sigmoid => "probability",
            Scoring::Raw => "score",
        }
    }
}

fn softmax(outputs: &[f32]) -> Vec<f32> {
    let highest = outputs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = outputs.iter().map(|&x| f64::from(x - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| (p / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_configuration_says_what_outputs_are() {
        let said = |config: Value, outputs| {
            let mut warnings = Vec::new();
            let scoring = Scoring::from_config(&config, outputs, &mut warnings);
            (scoring, warnings.len())
        };
        assert_eq!(said(json!({}), 2), (Scoring::Softmax, 0));
        assert_eq!(said(json!({}), 1), (Scoring::Sigmoid, 0));
        assert_eq!(said(json!({"problem_type": null}), 3), (Scoring::Softmax, 0));
        assert_eq!(said(json!({"problem_type": "single_label_classification"}), 1), (Scoring::Sigmoid, 0));
        assert_eq!(said(json!({"problem_type": "multi_label_classification"}), 3), (Scoring::Sigmoid, 0));
        assert_eq!(said(json!({"problem_type": "regression"}), 3), (Scoring::Raw, 0));
        assert_eq!(said(json!({"problem_type": "regression"}), 1), (Scoring::Raw, 0));
        assert_eq!(said(json!({"problem_type": "ranking"}), 2), (Scoring::Softmax, 1));
        let linear = "torch.nn.modules.linear.Identity";
        assert_eq!(said(json!({"sentence_transformers": {"activation_fn": linear}}), 1), (Scoring::Raw, 0));
        let sigmoid = "torch.nn.modules.activation.Sigmoid";
        let both = json!({"sbert_ce_default_activation_function": sigmoid, "problem_type": "regression"});
        assert_eq!(said(both, 1), (Scoring::Sigmoid, 0));
        assert_eq!(said(json!({"sentence_transformers": {"activation_fn": "a.Cube"}}), 1), (Scoring::Raw, 1));
    }

    #[test]
    fn answers_by_hand() {
        // 1 / (1 + e^2.8) and 1 / (1 + e^-6.29).
        let chances = Scoring::Sigmoid.apply(&[-2.8, 6.29]);
        assert!(
            (chances[0] - 0.057_324).abs() < 1e-5 && (chances[1] - 0.998_149).abs() < 1e-5,
            "{chances:?}"
        );
        assert_eq!(Scoring::Softmax.apply(&[0.0, 0.0]), [0.5, 0.5]);
        assert_eq!(Scoring::Softmax.apply(&[1e38, -1e38]), [1.0, 0.0]);
        assert_eq!(Scoring::Raw.apply(&[-2.8, 6.29]), [-2.8, 6.29]);
        for scoring in [Scoring::Softmax, Scoring::Sigmoid, Scoring::Raw] {
            assert!(scoring.apply(&[f32::NAN, 0.0])[0].is_nan(), "{scoring:?}");
        }
        let shown = |score: Score| serde_json::to_value(score).expect("plain data");
        assert_eq!(shown(Scoring::Sigmoid.score(0.5)), json!({"probability": 0.5}));
        assert_eq!(shown(Scoring::Raw.score(-2.5)), json!({"score": -2.5}));
    }
}
