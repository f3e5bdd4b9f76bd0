//! The engine against trees that are known.

mod bounds;
mod findings;
mod path;
mod sampled;
mod shards;
mod states;
mod walk;

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{Chooser, Engine, Report, Violation};

/// Explores `scenario`, and counts how many times it returned each list of choices.
fn collect(engine: &Engine, scenario: impl Fn(&Chooser) -> Vec<usize> + Sync) -> (BTreeMap<Vec<usize>, u32>, Report) {
    let seen = Mutex::new(BTreeMap::new());
    let report = engine.run(|ch: &Chooser| -> Result<(), Violation> {
        let choices = scenario(ch);
        *seen.lock().unwrap().entry(choices).or_insert(0) += 1;
        Ok(())
    });
    (seen.into_inner().unwrap(), report)
}

/// A tree that is as irregular as `seed` says: the next choice point depends on all choices so far.
fn irregular(ch: &Chooser, seed: u64) -> Vec<usize> {
    let mut choices = Vec::new();
    let mut mix = seed;
    loop {
        mix = mix.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let n = (mix >> 33) % 4;
        if n == 0 && choices.len() > 2 || choices.len() > 6 {
            return choices;
        }
        let kind = [super::Kind::Order, super::Kind::Value, super::Kind::Fault][(mix >> 40) as usize % 3];
        let choice = ch.choose(kind, "next", n as usize + 1);
        mix ^= choice as u64;
        choices.push(choice);
    }
}
