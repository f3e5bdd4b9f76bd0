//! One report of several shards.

use std::collections::BTreeMap;

use super::report::{Finding, Mode, Report};
use super::shard::Shard;

/// Reason for which reports cannot be merged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MergeError {
    /// There is nothing to merge.
    #[error("no reports to merge")]
    Nothing,
    /// A report of a whole run among the others.
    #[error("report {0} is of a whole run, not of a shard")]
    Whole(usize),
    /// Reports of different runs.
    #[error("report {position} is of another run: its {field} differs from that of report 1")]
    Other {
        /// Position of the report, counted from 1.
        position: usize,
        /// Name of the field that differs.
        field: &'static str,
    },
    /// The same shard twice.
    #[error("report {position} is of shard {shard}, which is there already")]
    Twice {
        /// Position of the report, counted from 1.
        position: usize,
        /// The shard.
        shard: Shard,
    },
    /// Reports of shards that are not among them.
    #[error("shards are missing: {0}")]
    Missing(String),
}

impl Report {
    /// The report of the whole, from those of all its shards in any order.
    pub fn merge(reports: Vec<Self>) -> Result<Self, MergeError> {
        let mut rest = reports.into_iter().enumerate();
        let Some((_, mut whole)) = rest.next() else { return Err(MergeError::Nothing) };
        let Some(first) = whole.shard.take() else { return Err(MergeError::Whole(1)) };
        let mut present = vec![false; first.of() as usize];
        present[first.index() as usize - 1] = true;
        for (index, part) in rest {
            let position = index + 1;
            let shard = part.shard.ok_or(MergeError::Whole(position))?;
            let field = [
                ("name", part.name == whole.name),
                ("bounds", part.bounds == whole.bounds),
                ("number of shards", shard.of() == first.of()),
                ("list of required coverage points", part.required == whole.required),
            ];
            if let Some((field, _)) = field.into_iter().find(|(_, same)| !same) {
                return Err(MergeError::Other { position, field });
            }
            if std::mem::replace(&mut present[shard.index() as usize - 1], true) {
                return Err(MergeError::Twice { position, shard });
            }
            whole.absorb(part);
        }
        let missing: Vec<String> =
            (1u32..).zip(&present).filter(|(_, there)| !**there).map(|(index, _)| index.to_string()).collect();
        if !missing.is_empty() {
            return Err(MergeError::Missing(missing.join(", ")));
        }
        whole.find_missing();
        Ok(whole)
    }

    /// Adds the sums of another report. Reports come from files and may contain any number: sums saturate.
    fn absorb(&mut self, part: Self) {
        self.mode = worse(std::mem::replace(&mut self.mode, Mode::Exhaustive), part.mode);
        self.paths = self.paths.saturating_add(part.paths);
        self.pruned = self.pruned.saturating_add(part.pruned);
        self.truncated = self.truncated.saturating_add(part.truncated);
        self.states = self.states.saturating_add(part.states);
        self.states_full |= part.states_full;
        self.longest_path = self.longest_path.max(part.longest_path);
        self.choice_points = self.choice_points.saturating_add(part.choice_points);
        self.millis = self.millis.saturating_add(part.millis);
        self.further = self.further.saturating_add(part.further);
        add(&mut self.checks, part.checks);
        add(&mut self.coverage, part.coverage);
        if self.diverged.is_none() {
            self.diverged = part.diverged;
        }
        for finding in part.findings {
            self.take(finding);
        }
    }

    fn take(&mut self, finding: Finding) {
        let key = |f: &Finding| (f.promise.clone(), f.kind.clone());
        match self.findings.binary_search_by_key(&key(&finding), key) {
            Ok(at) => {
                let known = &mut self.findings[at];
                let times = known.times.saturating_add(finding.times);
                if finding.path.cost() < known.path.cost() {
                    *known = finding;
                }
                known.times = times;
            }
            Err(at) => self.findings.insert(at, finding),
        }
    }
}

fn add(sums: &mut BTreeMap<String, u64>, counts: BTreeMap<String, u64>) {
    for (name, count) in counts {
        let sum = sums.entry(name).or_insert(0);
        *sum = sum.saturating_add(count);
    }
}

/// The mode of a whole of which two parts ran in these.
fn worse(a: Mode, b: Mode) -> Mode {
    match (a, b) {
        (Mode::Exhaustive, other) | (other, Mode::Exhaustive) => other,
        (
            Mode::Sampled { why, explored, samples, seed },
            Mode::Sampled { explored: explored_b, samples: samples_b, .. },
        ) => Mode::Sampled {
            why,
            explored: explored.saturating_add(explored_b),
            samples: samples.saturating_add(samples_b),
            seed,
        },
        (partial @ Mode::Partial { .. }, _) | (_, partial @ Mode::Partial { .. }) => partial,
    }
}
