//! Progress of a run.

use std::fmt;
use std::time::Duration;

/// Progress of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Progress {
    /// Paths executed.
    pub paths: u64,
    /// States met.
    pub states: u64,
    /// Time since the start.
    pub elapsed: Duration,
    /// Estimated part of the tree that is explored, 0 to 1, were every choice equally likely on the way down. Accurate only
    /// for even trees; never exact before the end.
    pub done: f64,
    /// Time left, estimated from `done` and the pace of the latter half of the time.
    pub remaining: Option<Duration>,
    /// Set when the paths are random ones by now.
    pub sampling: bool,
}

impl Progress {
    /// Paths per second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn rate(&self) -> f64 {
        self.paths as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} paths, {} states, {:.0} paths/s", self.paths, self.states, self.rate())?;
        match self.remaining {
            _ if self.sampling => write!(f, ", sampling"),
            left => {
                // Rounded down, and never whole: what is not over is not done.
                write!(f, ", {:.1} % done", (self.done * 1000.0).floor().min(999.0) / 10.0)?;
                left.map_or(Ok(()), |left| write!(f, ", about {} s left", left.as_secs() + 1))
            }
        }
    }
}
