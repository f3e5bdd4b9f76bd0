//! Model errors: violations of the hardware's manuals by software.

#![forbid(unsafe_code)]

use std::fmt;

use bindery::env::Instant;

/// Errors kept in full; later ones are only counted.
const KEPT: usize = 256;

/// Access or request that the hardware's manual forbids or leaves undefined. Hardware may ignore it, hang, or behave
/// differently each time; the board continues, and the test that caused it should fail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelError {
    /// Time of the error.
    pub at: Instant,
    /// Device name of the model.
    pub device: &'static str,
    /// Description of the error.
    pub what: String,
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}: {}", self.at, self.device, self.what)
    }
}

/// The model errors of one board: the first 256, and how many more there were.
#[derive(Debug, Default)]
pub(crate) struct Report {
    kept: Vec<ModelError>,
    dropped: u64,
}

impl Report {
    pub(crate) fn add(&mut self, at: Instant, device: &'static str, what: String) {
        if self.kept.len() < KEPT {
            self.kept.push(ModelError { at, device, what });
        } else {
            self.dropped += 1;
        }
    }

    pub(crate) fn kept(&self) -> &[ModelError] {
        &self.kept
    }

    pub(crate) fn take(&mut self) -> Vec<ModelError> {
        self.dropped = 0;
        std::mem::take(&mut self.kept)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_past_the_bound_are_counted_not_kept() {
        let mut report = Report::default();
        for i in 0..KEPT + 10 {
            report.add(Instant(i as u64), "x", String::new());
        }
        assert_eq!((report.kept().len(), report.dropped()), (KEPT, 10));
    }
}
