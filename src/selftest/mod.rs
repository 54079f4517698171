//! Every op on awkward sizes first: one, one less and one more than a tile, primes,
//! real sizes. The kernel tests, the shader tests, the benchmarks and `vit-gpu doctor` share this
//! list; `doctor` runs the cases marked quick.

mod attention_backward;
mod backward;
mod basic;
mod case;
mod checks;
mod layers;
mod narrow;
mod pictures;
mod poisoned;
mod quick;
mod sequence;
mod text;
mod training;

pub use case::{Case, weight};
pub use checks::{Check, Outcome, checks, largest, quick, variant_name};
use quick::QUICK;

/// Every op case.
pub fn all() -> Vec<Case> {
    let mut cases = healthy();
    cases.extend(poisoned::of(healthy()));
    poisoned::unseen(&mut cases);
    for case in &mut cases {
        case.quick = QUICK.contains(&case.name.as_str());
    }
    cases
}

/// Every op case of numbers alone.
fn healthy() -> Vec<Case> {
    let mut cases = Vec::new();
    basic::matmul(&mut cases);
    narrow::matmul(&mut cases);
    basic::attention(&mut cases);
    narrow::attention(&mut cases);
    basic::rows(&mut cases);
    basic::elementwise(&mut cases);
    basic::layout(&mut cases);
    sequence::all(&mut cases);
    text::all(&mut cases);
    pictures::all(&mut cases);
    training::all(&mut cases);
    backward::all(&mut cases);
    attention_backward::all(&mut cases);
    cases
}
