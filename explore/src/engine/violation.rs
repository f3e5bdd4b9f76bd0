//! A broken promise, as a scenario reports it.

use std::fmt;

use bindery::promise::Promise;

/// A promise that a path broke.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which promise; `None` when the scenario fell over before one could be checked (it panicked).
    pub promise: Option<Promise>,
    /// What kind of breach: violations of one promise and one kind are one finding, whatever path led there.
    pub kind: String,
    /// What was seen, for people.
    pub detail: String,
}

impl Violation {
    /// A breach of `promise`.
    pub fn new(promise: Promise, kind: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { promise: Some(promise), kind: kind.into(), detail: detail.into() }
    }

    /// The scenario panicked with this message.
    pub(super) fn panicked(message: &str) -> Self {
        // The first line names the place where it fell; what follows may differ from path to path.
        let kind = format!("panic: {}", message.lines().next().unwrap_or_default());
        Self { promise: None, kind, detail: message.to_owned() }
    }

    /// How it stands in a story.
    pub(super) fn line(&self) -> String {
        format!("BROKEN {self}")
    }

    /// `"P1"` to `"P12"`, or `"panic"`.
    pub fn promise_id(&self) -> &'static str {
        self.promise.map_or("panic", Promise::id)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.promise {
            Some(promise) => write!(f, "{} ({}): {}", promise.id(), promise.title(), self.detail),
            None => write!(f, "{}", self.kind),
        }
    }
}

impl std::error::Error for Violation {}
