//! Lifetimes onto whole-buffer slots. A slot is one GPU buffer: wgpu tracks usage by whole
//! buffers, so two tensors of one launch never share one, and an arena would serialise everything.

/// When a buffer is needed, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// Step that writes it first.
    pub start: usize,
    /// Last step that touches it; past the end for results.
    pub end: usize,
    /// Size in bytes.
    pub bytes: u64,
}

impl Life {
    fn overlaps(&self, other: &Life) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// Which slot each life got, and how large the slots are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slots {
    /// Slot of each life, in the order given.
    pub of: Vec<usize>,
    /// Bytes of each slot.
    pub bytes: Vec<u64>,
}

/// Greedy by size: the largest life first, each into the smallest free slot that exists (all are
/// large enough, being of earlier lives), else into a new one.
pub fn assign(lives: &[Life]) -> Slots {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(lives[i].bytes), lives[i].start, i));
    let mut slots = Slots { of: vec![0; lives.len()], bytes: Vec::new() };
    let mut tenants: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let free = |slot: &Vec<usize>| slot.iter().all(|&j| !lives[i].overlaps(&lives[j]));
        // Later slots are smaller, so the last free one fits best.
        let slot = tenants.iter().rposition(free).unwrap_or_else(|| {
            tenants.push(Vec::new());
            slots.bytes.push(lives[i].bytes);
            tenants.len() - 1
        });
        tenants[slot].push(i);
        slots.of[i] = slot;
    }
    slots
}

/// The most bytes needed at one step: what no assignment can go below.
pub fn largest_live_set(lives: &[Life]) -> u64 {
    let at = |step: usize| {
        let live = lives.iter().filter(|l| l.start <= step && step <= l.end);
        live.map(|l| l.bytes).sum()
    };
    lives.iter().map(|l| at(l.start)).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_two_overlapping_lives_share_a_slot_and_all_fit(
            raw in prop::collection::vec((0usize..40, 0usize..12, 1u64..1000), 0..60)
        ) {
            let lives: Vec<Life> =
                raw.iter().map(|&(start, n, bytes)| Life { start, end: start + n, bytes }).collect();
            let slots = assign(&lives);
            for (i, a) in lives.iter().enumerate() {
                prop_assert!(a.bytes <= slots.bytes[slots.of[i]]);
                for (j, b) in lives.iter().enumerate().skip(i + 1) {
                    prop_assert!(slots.of[i] != slots.of[j] || !a.overlaps(b));
                }
            }
            prop_assert!(slots.bytes.iter().sum::<u64>() >= largest_live_set(&lives));
        }
    }

    #[test]
    fn a_chain_needs_two_slots() {
        let lives: Vec<Life> = (0..10).map(|i| Life { start: i, end: i + 1, bytes: 8 }).collect();
        assert_eq!(assign(&lives).bytes, [8, 8]);
    }
}
