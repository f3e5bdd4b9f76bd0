//! Estimate of the remaining time.

use std::collections::VecDeque;
use std::time::Duration;

/// Pace of an exploration: how much of the tree's mass (0 to 1) was done at what time.
///
/// The paths that are explored last have little mass each, so an average over the whole time is too hopeful: the pace of the
/// latter half counts. How many paths the last hundredth is made of is not known, and no time is given for it.
#[derive(Default, Debug)]
pub(super) struct Pace(VecDeque<(Duration, f64)>);

impl Pace {
    /// Adds that `done` of the mass was done after `elapsed`; the time that is left. `None` while too little is known.
    pub(super) fn remaining(&mut self, done: f64, elapsed: Duration) -> Option<Duration> {
        while self.0.get(1).is_some_and(|(at, _)| *at <= elapsed / 2) {
            self.0.pop_front();
        }
        let (from, before) = self.0.front().copied().unwrap_or_default();
        self.0.push_back((elapsed, done));
        let gained = done - before;
        if !(1e-6..0.99).contains(&done) || gained <= 0.0 {
            return None;
        }
        Duration::try_from_secs_f64(elapsed.checked_sub(from).unwrap().as_secs_f64() * (1.0 - done) / gained).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(pace: &mut Pace, done: f64, at: u64) -> Option<u64> {
        pace.remaining(done, Duration::from_secs(at)).map(|left| left.as_secs())
    }

    #[test]
    fn an_even_tree_is_estimated_exactly() {
        let mut pace = Pace::default();
        assert_eq!(seconds(&mut pace, 0.0, 1), None, "nothing is known yet");
        let left: Vec<_> = (1..10_u32).map(|n| seconds(&mut pace, f64::from(n) / 10.0, u64::from(n) * 10)).collect();
        assert!(left.iter().enumerate().all(|(n, left)| left.unwrap().abs_diff(90 - 10 * n as u64) <= 10), "{left:?}");
    }

    #[test]
    fn a_long_tail_of_light_paths_is_not_taken_for_the_end() {
        let mut pace = Pace::default();
        // Half of what is left every ten seconds: after 150 s more than 99.99 % are done, and more time is needed.
        let left: Vec<_> =
            (1..=150_u32).map(|at| seconds(&mut pace, 1.0 - 0.5_f64.powf(f64::from(at) / 10.0), at.into())).collect();
        assert!(left[20..60].iter().all(|left| left.is_some_and(|left| left > 3)), "{left:?}");
        assert!(left.iter().all(|left| left.is_none_or(|left| left > 2)), "{left:?}");
    }

    #[test]
    fn a_standstill_has_no_estimate() {
        let mut pace = Pace::default();
        assert!(seconds(&mut pace, 0.5, 10).is_some());
        for at in 11..19 {
            seconds(&mut pace, 0.5, at);
        }
        assert_eq!(seconds(&mut pace, 0.5, 40), None);
    }
}
