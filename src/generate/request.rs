//! What is asked for, whether it can be, and what follows from it: the order of patches, and how many are
//! drawn at each step.

use serde::{Deserialize, Serialize};

use super::generator::Generator;
use crate::error::{Error, Result};
use crate::ops::{Guidance, Sampling};
use crate::random::Random;

/// In which order the patches of an image are drawn. Patches that are given come before all others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Row by row.
    #[default]
    Raster,
    /// Anyhow, another order for each seed; only models that are told each patch's place can.
    Random,
    /// These places of the raster, each once.
    Given(Vec<u32>),
}

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The class of each sample, `None` for no class in particular; as many as samples are wanted.
    pub classes: Vec<Option<usize>>,
    /// The number of the first sample; a sample's number chooses its random numbers, so that one of many
    /// can be made again alone.
    pub first: u32,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens that every sample begins with, in raster order.
    pub prime: Vec<u32>,
    /// The order of patches; the same for all samples.
    pub order: Order,
    /// In how many steps they are drawn; `None` for one patch a step. The first steps draw one, later
    /// ones more and more.
    pub parallel: Option<usize>,
    /// Tokens between two reports; 0 to report the count alone, now and then.
    pub every: usize,
}

impl Generator {
    /// A request for a sample of each class (`None` for no class in particular), with the settings that suit
    /// the model.
    pub fn request(&self, classes: Vec<Option<usize>>, seed: u64) -> Request {
        let defaults = &self.info().defaults;
        let last = if self.info().guided { defaults.cfg_scale } else { 1.0 };
        let first = if defaults.rising { 1.0 } else { last };
        // RandAR's own schedule would reach the last scale one token after the last.
        let steps = self.info().tokens.saturating_sub(usize::from(!self.info().any_order));
        let sampling = Sampling {
            seed,
            temperature: defaults.temperature,
            top_k: defaults.top_k,
            top_p: defaults.top_p,
            guidance: Guidance { first, last, places: u32::try_from(steps).unwrap_or(u32::MAX).max(1) },
        };
        let order = if self.info().any_order { Order::Random } else { Order::Raster };
        Request { classes, first: 0, sampling, prime: vec![], order, parallel: None, every: 0 }
    }

    /// Checks a request without touching the device.
    ///
    /// # Errors
    /// [`Error::Usage`] naming what cannot be.
    pub fn check(&self, request: &Request) -> Result<()> {
        let info = self.info();
        let Sampling { temperature, top_p, guidance, .. } = request.sampling;
        let wrong = |what: String, help: &str| Err(Error::usage(what, help));
        if request.classes.is_empty() {
            return wrong("no samples to make".to_owned(), "ask for one at least");
        }
        if !(0.0..=1e6).contains(&temperature) {
            return wrong(format!("temperature {temperature}"), "it is 0 (the likeliest token) to 1000000");
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return wrong(format!("top-p {top_p}"), "it is above 0, at most 1");
        }
        if [guidance.first, guidance.last].iter().any(|s| !s.is_finite() || s.abs() > 1e6) {
            return wrong(format!("guidance scale {}", guidance.last), "it is a finite number; 1 is none");
        }
        if !info.guided && (guidance.first != 1.0 || guidance.last != 1.0) {
            let what = "the model knows no absence of a class, so that there is no guidance".to_owned();
            return wrong(what, "leave the guidance scale at 1");
        }
        for class in &request.classes {
            match (class, info.classes) {
                (Some(class), None) => {
                    return wrong(format!("class {class}: the model has no classes"), "name none");
                }
                (Some(class), Some(n)) if *class >= n => {
                    return wrong(format!("class {class} of {n}"), "classes count from 0");
                }
                (None, Some(_)) if !info.guided => {
                    return wrong("the model needs a class".to_owned(), "name one");
                }
                _ => {}
            }
        }
        if request.prime.len() >= info.tokens {
            let what = format!("{} tokens are given, an image has {}", request.prime.len(), info.tokens);
            return wrong(what, "leave at least one to draw");
        }
        if let Some(id) = request.prime.iter().find(|&&id| id as usize >= info.vocabulary) {
            return wrong(
                format!("token {id} of a vocabulary of {}", info.vocabulary),
                "encode with this model",
            );
        }
        self.check_order(&request.order)?;
        match request.parallel {
            Some(_) if !info.any_order => {
                let what = "the model draws one patch at a time only".to_owned();
                wrong(what, "only models with position tokens (RandAR) draw several")
            }
            Some(steps) if !(2..=info.tokens).contains(&steps) => {
                let what = format!("{steps} steps for {} tokens", info.tokens);
                wrong(what, "there is one step at least after the first, and one token a step at least")
            }
            _ => Ok(()),
        }
    }

    /// Checks that the model can draw in an order.
    ///
    /// # Errors
    /// [`Error::Usage`] if it cannot.
    pub(super) fn check_order(&self, order: &Order) -> Result<()> {
        let info = self.info();
        if *order != Order::Raster && !info.any_order {
            let help = "only models with position tokens (RandAR) take another";
            return Err(Error::usage("the model draws patches in raster order only", help));
        }
        if let Order::Given(places) = order {
            let mut sorted = places.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..info.tokens as u32) {
                let what = format!("an order of {} places for {} tokens", places.len(), info.tokens);
                return Err(Error::usage(what, "it names each place of the raster once, counted from 0"));
            }
        }
        Ok(())
    }
}

impl Order {
    /// Places of the raster as they are drawn, of `tokens` places of which the first `given` are given.
    pub(super) fn places(&self, tokens: usize, given: usize, seed: u64) -> Vec<u32> {
        let raster = || 0..tokens as u32;
        let all: Vec<u32> = match self {
            Order::Raster => raster().collect(),
            Order::Random => {
                let mut places: Vec<u32> = raster().collect();
                Random::new(seed).shuffle(&mut places);
                places
            }
            Order::Given(places) => places.clone(),
        };
        let free = all.into_iter().filter(|&place| place as usize >= given);
        raster().take(given).chain(free).collect()
    }
}

/// How many tokens each step draws of `tokens` that are left, the prompt's first: one, then so many that
/// of S steps the first k leave cos(pi/2 · k/S) of the image to draw, as RandAR does.
pub(super) fn schedule(tokens: usize, steps: Option<usize>) -> Vec<usize> {
    let Some(steps) = steps.filter(|&steps| steps < tokens) else { return vec![1; tokens] };
    let (mut counts, mut drawn) = (vec![1], 1);
    while drawn < tokens {
        let after = (counts.len() + 1).min(steps) as f64 / steps as f64;
        let left = (std::f64::consts::FRAC_PI_2 * after).cos();
        let target = (((1.0 - left) * tokens as f64 + 1.0) as usize).min(tokens);
        let next = target.saturating_sub(drawn).max(1);
        counts.push(next);
        drawn += next;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_each_place_once_and_begins_with_what_is_given() {
        let [a, b] = [1, 2].map(|seed| Order::Random.places(256, 0, seed));
        assert_ne!(a, b);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, Order::Raster.places(256, 7, 1));
        let primed = Order::Random.places(256, 7, 1);
        assert_eq!(primed[..7], [0, 1, 2, 3, 4, 5, 6]);
        let free: Vec<u32> = a.into_iter().filter(|&place| place >= 7).collect();
        assert_eq!(primed[7..], free);
        assert_eq!(Order::Given(vec![2, 0, 1]).places(3, 1, 0), [0, 2, 1]);
        assert_eq!(Order::Random.places(1, 0, 5), [0]);
    }

    #[test]
    fn places_are_shuffled_evenly() {
        let mut seen = [[0u32; 5]; 5];
        for seed in 0..5000 {
            let order = Order::Random.places(5, 0, seed * 7919);
            order.iter().enumerate().for_each(|(i, &place)| seen[i][place as usize] += 1);
        }
        assert!(seen.as_flattened().iter().all(|n| (880..1120).contains(n)), "{seen:?}");
    }

    #[test]
    fn steps_are_as_many_as_asked_and_grow() {
        assert_eq!(schedule(4, None), [1; 4]);
        assert_eq!(schedule(4, Some(4)), [1; 4]);
        assert_eq!(schedule(16, Some(2)), [1, 15]);
        for (tokens, steps) in [(256, 88), (256, 32), (256, 255), (16, 6), (576, 100), (3, 2)] {
            let counts = schedule(tokens, Some(steps));
            assert_eq!(counts.iter().sum::<usize>(), tokens);
            assert!(counts.len() >= steps && counts[0] == 1, "{counts:?}");
            assert!(tokens < 2 * steps || counts.len() == steps, "{tokens} in {steps}: {counts:?}");
        }
        let counts = schedule(256, Some(88));
        assert!(counts[80] > counts[5], "{counts:?}");
    }
}
