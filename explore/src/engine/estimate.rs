//! Estimate of the remaining time.

use std::time::Duration;

/// Guesses the time that is left when `done` of the tree's mass (0 to 1) took `elapsed`. `None` while too little is done.
pub(super) fn remaining(done: f64, elapsed: Duration) -> Option<Duration> {
    if done < 1e-6 {
        return None;
    }
    let done = done.min(1.0);
    Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - done) / done).ok()
}
