//! Managed resources that are added outside of a probe, again and again, and never removed.

use super::Mark;
use super::verdict::Cite;

/// Kinds of resources that are told apart.
const MOST: usize = 64;
/// Silence that ends a burst, in nanoseconds.
const GAP: u64 = 50_000_000;

#[derive(Debug)]
struct Burst {
    name: Box<str>,
    /// Resources of each burst, the one that is going on last.
    counts: Vec<u32>,
    last: Mark,
    first: Vec<Mark>,
}

/// Bursts of one life.
#[derive(Debug, Default)]
pub(crate) struct Bursts {
    list: Vec<Burst>,
}

impl Bursts {
    /// A resource of this name is added.
    pub(super) fn add(&mut self, name: &str, mark: &Mark) {
        if let Some(burst) = self.list.iter_mut().find(|burst| *burst.name == *name) {
            if mark.age(&burst.last).is_some_and(|age| age >= GAP) && burst.counts.len() < 1000 {
                burst.counts.push(0);
                if burst.first.len() < 4 {
                    burst.first.push(mark.clone());
                }
            }
            burst.last = mark.clone();
            if let Some(count) = burst.counts.last_mut() {
                *count += 1;
            }
        } else if self.list.len() < MOST {
            let burst = Burst { name: name.into(), counts: vec![1], last: mark.clone(), first: vec![mark.clone()] };
            self.list.push(burst);
        }
    }

    /// One of this name goes before the tear-down: they do not only grow.
    pub(super) fn gone(&mut self, name: &str) {
        self.list.retain(|burst| *burst.name != *name);
    }

    /// The kind that came in four or more bursts of the same size: an initialisation in steps may make fewer.
    pub(super) fn finding(self) -> Option<(String, Vec<Cite>)> {
        let burst = self
            .list
            .into_iter()
            .find(|burst| burst.counts.len() >= 4 && burst.counts[1..].iter().all(|count| *count == burst.counts[1]))?;
        let words = format!(
            "managed resources ({}) are added outside of the probe again and again, {} at a time, {} times, and none is removed \
             before the unbind: they pile up",
            burst.name,
            burst.counts[1],
            burst.counts.len()
        );
        Some((words, burst.first.iter().map(Mark::cite).collect()))
    }
}
