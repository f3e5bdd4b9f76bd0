//! Fingerprints of states.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Fingerprint of `state`: equal states have equal numbers, and two different ones among ten million share one
/// with a chance of about one in 400,000.
pub fn fingerprint<T: Hash + ?Sized>(state: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// Fingerprint of a multiset, independent of the order of its elements, for example the states of identical devices: machines
/// that differ only in which of several identical devices is in which state then count once.
pub fn unordered(fingerprints: impl IntoIterator<Item = u64>) -> u64 {
    let mut all: Vec<u64> = fingerprints.into_iter().collect();
    all.sort_unstable();
    fingerprint(&all)
}
