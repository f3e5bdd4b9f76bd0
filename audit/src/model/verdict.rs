//! Verdicts, findings and what they cite.

use std::fmt;

use serde::Serialize;

use crate::rules::Rule;
use crate::shape::Place;

/// A verdict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing in the files is about it.
    NothingToJudge,
    /// The files show that it holds.
    Proved,
    /// The files do not decide it.
    CannotTell,
    /// The files show that it does not hold.
    Violated,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingToJudge => "nothing to judge",
            Self::Proved => "proved",
            Self::CannotTell => "cannot tell",
            Self::Violated => "violated",
        })
    }
}

/// A line that is cited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cite {
    /// Place of the line.
    pub place: Place,
    /// Its text, cleaned and without the prefix.
    pub text: String,
}

/// A bug of Linux that looks like this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Known {
    /// The commit that mended it.
    pub commit: &'static str,
    /// Title of the fix.
    pub title: &'static str,
}

/// The bug that this project grew from.
pub(crate) const SEED: Known = Known {
    commit: "376991db4b64",
    title: "driver core: unbind reset the DMA ops before managed resources were released",
};
/// The same on the other path.
pub(crate) const SEED_PROBE: Known = Known {
    commit: "0b777eee88d7",
    title: "driver core: a failed probe reset the DMA ops before managed resources were released",
};
/// A deferral that was taken for a missing IOMMU.
pub(crate) const DEFERRAL: Known =
    Known { commit: "e8e683ae9a73", title: "iommu/of: a deferred IOMMU was taken for none, and DMA went direct" };

/// A violation, or something that would be one if more were known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// [`Verdict::Violated`] or [`Verdict::CannotTell`].
    pub verdict: Verdict,
    /// In words.
    pub words: String,
    /// The lines that show it.
    pub cites: Vec<Cite>,
    /// A known bug that looks like this.
    pub known: Option<Known>,
}

/// Something that is no violation but worth knowing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// In words.
    pub words: String,
    /// The lines that show it.
    pub cites: Vec<Cite>,
}

/// The state of one rule in one life.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Instances that were shown to hold.
    pub proved: u64,
    /// Violations.
    pub violated: u64,
    /// Reasons why it cannot be told, each once.
    pub unknown: Vec<String>,
    /// Means of the proof, where they are weaker than the events themselves.
    pub how: Option<&'static str>,
}

/// Most reasons that are kept of one rule.
const MOST_REASONS: usize = 8;

impl Outcome {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        if self.violated > 0 {
            Verdict::Violated
        } else if !self.unknown.is_empty() {
            Verdict::CannotTell
        } else if self.proved > 0 {
            Verdict::Proved
        } else {
            Verdict::NothingToJudge
        }
    }

    pub(crate) fn doubt(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.unknown.len() < MOST_REASONS && !self.unknown.contains(&reason) {
            self.unknown.push(reason);
        }
    }
}
