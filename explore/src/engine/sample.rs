//! Random paths: priorities for orders (PCT), and faults spread evenly over the fault points of the default path.

use std::collections::HashMap;

use super::bounds::{Bounds, Kind};

/// A small random number generator (`SplitMix64`), the same on every machine.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        rng.next();
        rng
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not 0.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        // The bias is below n / 2^64.
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// Number of choice points of each kind on the default path.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Length {
    pub(super) faults: u64,
    pub(super) preemptions: u64,
    pub(super) orders: u64,
}

/// Places at which priorities change, in one run.
const CHANGES: u64 = 3;

/// One random path.
pub(super) struct Draw {
    rng: Rng,
    /// Positions, among the choice points of their kind, at which a non-default choice is taken.
    non_default_at: [Vec<u64>; 2],
    changes: Vec<u64>,
    met: [u64; 3],
    priorities: HashMap<u64, u64>,
    lowest: u64,
}

impl Draw {
    /// The `index`-th path of `bounds.seed`.
    pub(super) fn new(bounds: &Bounds, index: u64, length: Length) -> Self {
        let mut rng = Rng::new(bounds.seed, index);
        // A path with a fault has more choice points than the default one: positions are drawn among half as many again.
        let mut draw = |points: u64, most: u32| {
            let count = rng.below(u64::from(most) + 1);
            (0..count).map(|_| rng.below(points + points / 2 + 1)).collect::<Vec<_>>()
        };
        let non_default_at = [draw(length.faults, bounds.faults), draw(length.preemptions, bounds.preemptions)];
        let changes = (0..CHANGES).map(|_| rng.below(length.orders + 1)).collect();
        Self { rng, non_default_at, changes, met: [0; 3], priorities: HashMap::new(), lowest: 1 << 32 }
    }

    pub(super) fn choice(&mut self, kind: Kind, n: u32, ids: Option<&[u64]>) -> u32 {
        let lane = match kind {
            Kind::Value => return self.rng.below(u64::from(n)) as u32,
            Kind::Order => 2,
            Kind::Fault => 0,
            Kind::Preemption => 1,
        };
        let position = self.met[lane];
        self.met[lane] += 1;
        if kind != Kind::Order {
            let non_default_at = self.non_default_at[lane].contains(&position);
            return if non_default_at { 1 + self.rng.below(u64::from(n) - 1) as u32 } else { 0 };
        }
        let Some(ids) = ids else { return self.rng.below(u64::from(n)) as u32 };
        let first = self.first(ids);
        if self.changes.contains(&position) {
            // The one that would go now has the lowest priority from here on.
            self.lowest -= 1;
            self.priorities.insert(ids[first], self.lowest);
            return self.first(ids) as u32;
        }
        first as u32
    }

    fn first(&mut self, ids: &[u64]) -> usize {
        let mut best = (0, 0);
        for (index, &id) in ids.iter().enumerate() {
            let rng = &mut self.rng;
            let priority = *self.priorities.entry(id).or_insert_with(|| (1 << 32) + (rng.next() >> 2));
            if priority > best.0 {
                best = (priority, index);
            }
        }
        best.1
    }
}
