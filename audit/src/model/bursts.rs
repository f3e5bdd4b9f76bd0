//! Managed resources that are added outside of a probe, again and again, and never removed.

use super::Mark;
use super::verdict::{Cite, Verdict};

/// Kinds of resources that are told apart.
const MOST: usize = 64;
/// Bursts of one kind that are counted.
const MOST_BURSTS: usize = 1000;
/// Silence that ends a burst, in nanoseconds.
const GAP: u64 = 50_000_000;

/// What the recording shows of repetitions: the count of their marks, and which mark was the last.
///
/// A driver may add a resource for each of a device's ports as they come up. That it adds one each time that something is done again
/// shows only where the doing shows: by a marker that was written before each repetition, by callbacks of power management of the
/// device, or by the system's sleep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cycle {
    /// Marks so far.
    pub(super) count: u64,
    /// The last one, without numbers.
    pub(super) last: u64,
}

#[derive(Debug)]
struct Burst {
    name: Box<str>,
    /// Resources of each burst, the one that is going on last, and the mark before it.
    counts: Vec<(u32, Cycle)>,
    last: Mark,
    first: Vec<Mark>,
}

/// Bursts of one life.
#[derive(Debug, Default)]
pub(crate) struct Bursts {
    list: Vec<Burst>,
}

impl Bursts {
    /// A resource of this name is added after the mark `cycle`.
    pub(super) fn add(&mut self, name: &str, cycle: Cycle, mark: &Mark) {
        if let Some(burst) = self.list.iter_mut().find(|burst| *burst.name == *name) {
            let marked = burst.counts.last().is_some_and(|(_, before)| before.count != cycle.count);
            if (marked || mark.age(&burst.last).is_some_and(|age| age >= GAP)) && burst.counts.len() < MOST_BURSTS {
                burst.counts.push((0, cycle));
                if burst.first.len() < 4 {
                    burst.first.push(mark.clone());
                }
            }
            burst.last = mark.clone();
            if let Some((count, _)) = burst.counts.last_mut() {
                *count += 1;
            }
        } else if self.list.len() < MOST {
            let (last, first) = (mark.clone(), vec![mark.clone()]);
            self.list.push(Burst { name: name.into(), counts: vec![(1, cycle)], last, first });
        }
    }

    /// One of this name goes before the tear-down: they do not only grow.
    pub(super) fn gone(&mut self, name: &str) {
        self.list.retain(|burst| *burst.name != *name);
    }

    /// The kind that came in four or more bursts of the same size: an initialisation in steps may make fewer. It is a violation where
    /// each of the last three came after a mark of its own.
    pub(super) fn finding(self) -> Option<(Verdict, String, Vec<Cite>)> {
        let equal = |burst: &Burst| {
            let one = burst.counts.get(1).map(|(count, _)| *count);
            burst.counts.len() >= 4 && burst.counts[1..].iter().all(|(count, _)| Some(*count) == one)
        };
        let repeated = |burst: &Burst| {
            let same = burst.counts.last().map(|(_, cycle)| cycle.last);
            burst.counts.windows(2).rev().take(3).all(|pair| {
                let (before, after) = (pair[0].1, pair[1].1);
                after.count > before.count && Some(after.last) == same
            })
        };
        let mut list: Vec<Burst> = self.list.into_iter().filter(equal).collect();
        list.sort_by_key(|burst| !repeated(burst));
        let burst = list.into_iter().next()?;
        let repeats = repeated(&burst);
        let mut words = format!(
            "managed resources ({}) are added outside of the probe again and again, {} at a time, {} times, and none is removed \
             before the unbind",
            burst.name,
            burst.counts[1].0,
            burst.counts.len()
        );
        if repeats {
            words.push_str(": they pile up, one addition after each mark of a repetition");
        } else {
            words.push_str(
                "; whether they pile up, or are for parts of the device that come up one after the other, is not recorded: repeat what \
                 adds them (open, reset, suspend), and mark each time: echo again > trace_marker (under --record: > $TRACE_MARKER); or enable \
                 events/power/device_pm_callback_start",
            );
        }
        let verdict = if repeats { Verdict::Violated } else { Verdict::CannotTell };
        Some((verdict, words, burst.first.iter().map(Mark::cite).collect()))
    }
}
