//! The learning rate over the steps of a run: a linear warm-up, then constant, or down to a least rate in a line
//! or along half a cosine (Loshchilov & Hutter 2017), as timm and transformers have them.

/// How the learning rate goes on behind the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decay {
    /// As it is.
    Constant,
    /// In a line.
    Linear,
    /// Along half a cosine.
    #[default]
    Cosine,
}

/// The learning rate of every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub rate: f32,
    /// The last rate, of schedules that go down.
    pub least: f32,
    /// Steps that the rate rises in, from rate / warm-up on.
    pub warmup: u32,
    /// Steps of the run.
    pub steps: u32,
    /// What comes after the warm-up.
    pub decay: Decay,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    pub fn at(&self, step: u32) -> f32 {
        if step < self.warmup {
            return self.rate * (step + 1) as f32 / self.warmup as f32;
        }
        let rest = self.steps.saturating_sub(self.warmup).max(1);
        let done = f64::from((step - self.warmup).min(rest)) / f64::from(rest);
        let kept = match self.decay {
            Decay::Constant => return self.rate,
            Decay::Linear => 1.0 - done,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.least + ((f64::from(self.rate) - f64::from(self.least)) * kept) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_in_a_line_and_down_along_a_cosine() {
        let schedule = Schedule { rate: 1.0, least: 0.1, warmup: 4, steps: 14, decay: Decay::Cosine };
        let near = |step, want: f32| {
            assert!((schedule.at(step) - want).abs() < 1e-6, "{step}: {}", schedule.at(step))
        };
        near(0, 0.25);
        near(3, 1.0);
        near(4, 1.0);
        near(9, 0.55);
        near(14, 0.1);
        near(99, 0.1);
        assert!((Schedule { decay: Decay::Linear, ..schedule }.at(9) - 0.55).abs() < 1e-6);
        assert_eq!(Schedule { decay: Decay::Constant, ..schedule }.at(13), 1.0);
        assert_eq!(Schedule { warmup: 0, steps: 0, ..schedule }.at(0), 1.0);
    }
}
