//! How the vectors of tokens become one: `Pooling` of sentence-transformers.

use serde_json::Value;

/// One way; several are joined in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// The first token.
    Cls,
    /// The largest number of each column.
    Max,
    /// The mean of all tokens.
    Mean,
    /// Their sum by the root of their count.
    MeanSqrtLen,
    /// Their mean, each token as often as its place counted from 1.
    WeightedMean,
    /// The last token.
    LastToken,
}

/// Modes, their names, and the switches of older files.
const MODES: [(Mode, &str, &str); 6] = [
    (Mode::Cls, "cls", "pooling_mode_cls_token"),
    (Mode::Max, "max", "pooling_mode_max_tokens"),
    (Mode::Mean, "mean", "pooling_mode_mean_tokens"),
    (Mode::MeanSqrtLen, "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
    (Mode::WeightedMean, "weightedmean", "pooling_mode_weightedmean_tokens"),
    (Mode::LastToken, "lasttoken", "pooling_mode_lasttoken"),
];

impl Mode {
    /// What its files call it.
    pub fn name(self) -> &'static str {
        MODES.iter().find(|(mode, ..)| *mode == self).map_or("", |(_, name, _)| name)
    }
}

/// The modes that a parsed `1_Pooling/config.json` names.
///
/// # Errors
/// What is not known in it.
pub(super) fn modes(config: &Value) -> Result<Vec<Mode>, String> {
    let named = |name: &str| {
        let found = MODES.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(mode, ..)| *mode).ok_or_else(|| format!("pooling `{name}` is not known here"))
    };
    let mut found = match &config["pooling_mode"] {
        Value::String(name) => vec![named(name)?],
        Value::Array(names) => {
            let names = names.iter().map(|name| named(name.as_str().unwrap_or_default()));
            names.collect::<Result<Vec<_>, _>>()?
        }
        _ => switched(config)?,
    };
    found.sort_unstable();
    found.dedup();
    if found.is_empty() { Err("it names no way of pooling".to_owned()) } else { Ok(found) }
}

/// The modes that are switched on; the mean is, unless it is switched off.
fn switched(config: &Value) -> Result<Vec<Mode>, String> {
    let switches = config.as_object().into_iter().flatten();
    let switches: Vec<(&str, bool)> = switches
        .filter(|(key, _)| key.starts_with("pooling_mode_"))
        .map(|(key, on)| (key.as_str(), *on == Value::Bool(true)))
        .collect();
    let known = |key: &str| MODES.iter().any(|(.., switch)| *switch == key);
    if let Some((key, _)) = switches.iter().find(|(key, on)| *on && !known(key)) {
        return Err(format!("`{key}` is not known here"));
    }
    if switches.is_empty() {
        return Ok(Vec::new());
    }
    let on = |mode: Mode, switch: &str| {
        switches.iter().find(|(key, _)| *key == switch).map_or(mode == Mode::Mean, |(_, on)| *on)
    };
    Ok(MODES.iter().filter(|(mode, _, switch)| on(*mode, switch)).map(|(mode, ..)| *mode).collect())
}

/// One vector, modes joined, of the vectors of tokens (T·C, a text without padding); the first `skipped`
/// tokens count in no mean and no maximum.
pub(crate) fn pooled(modes: &[Mode], tokens: &[f32], width: usize, skipped: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = tokens.chunks(width).collect();
    let counted = || rows.iter().enumerate().skip(skipped);
    let sum = |weight: &dyn Fn(usize) -> f64, divisor: f64| -> Vec<f32> {
        let column = |c: usize| counted().map(|(t, row)| f64::from(row[c]) * weight(t)).sum::<f64>();
        (0..width).map(|c| (column(c) / divisor.max(1e-9)) as f32).collect()
    };
    let count = rows.len().saturating_sub(skipped) as f64;
    let one = |_: usize| 1.0;
    let of = |mode: &Mode| match mode {
        Mode::Cls => rows[0].to_vec(),
        Mode::LastToken => rows[rows.len() - 1].to_vec(),
        Mode::Mean => sum(&one, count),
        Mode::MeanSqrtLen => sum(&one, count.max(1e-9).sqrt()),
        Mode::WeightedMean => {
            let weight = |t: usize| (t + 1) as f64;
            sum(&weight, counted().map(|(t, _)| weight(t)).sum())
        }
        // Not `f32::max`, which passes over what is not a number.
        Mode::Max => (0..width)
            .map(|c| counted().fold(-1e9f32, |m, (_, r)| if m >= r[c] || m.is_nan() { m } else { r[c] }))
            .collect(),
    };
    modes.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn modes_by_name_and_by_switch() {
        assert_eq!(modes(&json!({"pooling_mode": "cls"})), Ok(vec![Mode::Cls]));
        assert_eq!(modes(&json!({"pooling_mode": ["mean", "max"]})), Ok(vec![Mode::Max, Mode::Mean]));
        let off = json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false});
        assert_eq!(modes(&off), Ok(vec![Mode::Cls]));
        // `pooling_mode_mean_tokens: bool = True`.
        assert_eq!(modes(&json!({"pooling_mode_cls_token": true})), Ok(vec![Mode::Cls, Mode::Mean]));
        let both = json!({"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true});
        assert_eq!(modes(&both), Ok(vec![Mode::Max, Mode::Mean]));
        for (wrong, says) in [
            (json!({}), "no way"),
            (json!({"pooling_mode": "sum"}), "`sum`"),
            (json!({"pooling_mode_gru": true}), "pooling_mode_gru"),
            (json!({"pooling_mode_mean_tokens": false}), "no way"),
        ] {
            assert!(modes(&wrong).is_err_and(|e| e.contains(says)), "{wrong}");
        }
    }

    #[test]
    fn every_mode_by_hand() {
        // Three tokens of two numbers.
        let tokens = [1.0, -8.0, 3.0, -2.0, 5.0, -5.0];
        let one = |mode| pooled(&[mode], &tokens, 2, 0);
        assert_eq!(one(Mode::Cls), [1.0, -8.0]);
        assert_eq!(one(Mode::LastToken), [5.0, -5.0]);
        assert_eq!(one(Mode::Max), [5.0, -2.0]);
        assert_eq!(one(Mode::Mean), [3.0, -5.0]);
        let root = 3f64.sqrt();
        assert_eq!(one(Mode::MeanSqrtLen), [(9.0 / root) as f32, (-15.0 / root) as f32]);
        // (1 + 6 + 15) / 6 and (-8 - 4 - 15) / 6.
        assert_eq!(one(Mode::WeightedMean), [22.0 / 6.0, -4.5]);
        assert_eq!(pooled(&[Mode::Cls, Mode::Max], &tokens, 2, 0), [1.0, -8.0, 5.0, -2.0]);
        // Without a prompt of one token: the first token stays what it is.
        assert_eq!(
            pooled(&[Mode::Cls, Mode::Max, Mode::Mean], &tokens, 2, 1),
            [1.0, -8.0, 5.0, -2.0, 4.0, -3.5]
        );
        assert_eq!(pooled(&[Mode::WeightedMean], &tokens, 2, 1), [21.0 / 5.0, -19.0 / 5.0]);
        assert!(pooled(&[Mode::Max], &[1.0, f32::NAN, 2.0], 1, 0)[0].is_nan());
    }
}
