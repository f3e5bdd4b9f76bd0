//! A broken promise, as a scenario reports it.

use std::fmt;

use bindery::promise::Promise;

/// A promise that a path broke.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The promise; `None` when another oracle reported it.
    pub promise: Option<Promise>,
    /// The oracle, when there is no promise to name: `"panic"` when the scenario panicked, `"model"` when the
    /// simulated hardware was misused.
    pub seen_by: &'static str,
    /// Kind of breach: violations of one promise and one kind are one finding, whatever path led there.
    pub kind: String,
    /// Description of this occurrence.
    pub detail: String,
}

impl Violation {
    /// A breach of `promise`.
    pub fn new(promise: Promise, kind: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { promise: Some(promise), seen_by: "promise", kind: kind.into(), detail: detail.into() }
    }

    /// Something that is wrong and that no single promise names.
    pub fn seen_by(by: &'static str, kind: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { promise: None, seen_by: by, kind: kind.into(), detail: detail.into() }
    }

    /// The scenario panicked with this message.
    pub(crate) fn panicked(message: &str) -> Self {
        // The first line says where it panicked; what follows may differ from path to path.
        let kind = format!("panic: {}", message.lines().next().unwrap_or_default());
        Self::seen_by("panic", kind, message)
    }

    /// The line of a trace that reports it.
    pub(super) fn line(&self) -> String {
        format!("BROKEN {self}")
    }

    /// `"P1"` to `"P14"`, or the oracle: `"panic"`, `"model"`.
    pub fn promise_id(&self) -> &'static str {
        self.promise.map_or(self.seen_by, Promise::id)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.promise {
            Some(promise) => write!(f, "{} ({}): {}", promise.id(), promise.title(), self.detail),
            None => write!(f, "{}: {}", self.seen_by, self.detail),
        }
    }
}

impl std::error::Error for Violation {}
