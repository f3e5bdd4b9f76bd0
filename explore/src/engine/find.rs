//! Findings from violations: the shortest path, and its trace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::bounds::Bounds;
use super::chooser::Chooser;
use super::execute::execute;
use super::execution::{Execution, Plan, Settings};
use super::exploration::Exploration;
use super::explore::Engine;
use super::path::Path;
use super::report::Finding;
use super::shrink::shrink;
use super::tally::{Key, Tally};
use super::violation::Violation;
use super::visited::Visited;

/// Paths that the proof of shortness may take.
const PROOF: u64 = 200_000;

/// Line of the trace of a violation that its path does not lead to when it is executed by itself.
const NOT_REPRODUCED: &str =
    "not reproduced when executed by itself: executions of this scenario do not all start in the same state";

impl Engine {
    /// Shrinks each finding, proves it the shortest where possible, and records its trace.
    pub(super) fn findings<F>(&self, scenario: &F, tally: &Tally) -> Vec<Finding>
    where
        F: Fn(&Chooser) -> Result<(), Violation> + Sync,
    {
        let mut found: BTreeMap<Key, (Path, bool, u64)> = BTreeMap::new();
        for (key, known) in &tally.found {
            let path = shrink(known.path.clone(), |candidate| self.reproduces(scenario, key, candidate));
            found.insert(key.clone(), (path, false, known.times));
        }
        if !found.is_empty() && self.shard.is_none() && !self.cancel.load(Ordering::Relaxed) {
            self.prove(scenario, &mut found);
        }
        let mut findings: Vec<Finding> = found
            .into_iter()
            .map(|(key, (path, shortest, times))| {
                let replay = self.replay(&path, scenario);
                let violation = replay.violations.iter().find(|v| (v.promise_id(), &v.kind) == (key.0, &key.1));
                let mut trace = replay.trace;
                let detail = if let Some(violation) = violation {
                    violation.detail.clone()
                } else {
                    // Reported all the same: the scenario has to be fixed so that every execution starts in the same state.
                    trace.push(NOT_REPRODUCED.into());
                    tally.found.get(&key).map(|known| known.detail.clone()).unwrap_or_default()
                };
                if let Some(end) = violation.and_then(|v| trace.iter().position(|line| *line == v.line())) {
                    trace.truncate(end + 1);
                }
                // What else is broken on the way has a finding of its own.
                let others: Vec<String> = replay.violations.iter().map(Violation::line).collect();
                let own = violation.map(Violation::line);
                trace.retain(|line| Some(line) == own.as_ref() || !others.contains(line));
                Finding { promise: key.0.to_owned(), kind: key.1, detail, path, shortest, times, trace }
            })
            .collect();
        findings.sort_by(|a, b| (&a.promise, &a.kind).cmp(&(&b.promise, &b.kind)));
        findings
    }

    /// Executes `path`, and returns it up to a violation of `key` within the bounds, if it leads to one.
    fn reproduces<F>(&self, scenario: &F, key: &Key, path: &Path) -> Option<Path>
    where
        F: Fn(&Chooser) -> Result<(), Violation>,
    {
        let settings = Settings {
            bounds: self.bounds.clone(),
            visited: None,
            replayed: 0,
            prunes: false,
            logs: false,
            enforces_bounds: true,
        };
        execute(scenario, Execution::new(Plan::Follow(path.choices().to_vec()), settings)).finish(|run| {
            let (_, end) = run.violations.iter().find(|(v, _)| (v.promise_id(), &v.kind) == (key.0, &key.1))?;
            Some(run.path(*end))
        })
    }

    /// Explores everything with 0 non-default choices, then with 1, and so on: the first path to a violation is a shortest one.
    fn prove<F>(&self, scenario: &F, found: &mut BTreeMap<Key, (Path, bool, u64)>)
    where
        F: Fn(&Chooser) -> Result<(), Violation> + Sync,
    {
        let deepest = found.values().map(|(path, ..)| path.non_default()).max().unwrap_or(0) as u32;
        let mut paths = PROOF.min(self.bounds.paths);
        // A caller who wants the first finding only does not ask for one with as many non-default choices on a shorter path.
        let last = if self.first { deepest } else { deepest + 1 };
        for level in 0..last {
            let bounds = Bounds { non_default: Some(level), paths, ..self.bounds.clone() };
            let visited = self.hashes.then(|| Arc::new(Visited::new(bounds.states)));
            let mut work = Exploration::new(self, scenario, bounds, visited, Instant::now());
            work.silent = true;
            work.first = false;
            work.exhaust(None);
            if work.stopped().is_some() {
                return;
            }
            paths -= work.tally.paths.min(paths);
            for (key, met) in &work.tally.found {
                if let Some((path, shortest, _)) = found.get_mut(key).filter(|(_, shortest, _)| !shortest) {
                    let met = shrink(met.path.clone(), |candidate| self.reproduces(scenario, key, candidate));
                    if met.cost() < path.cost() {
                        *path = met;
                    }
                    *shortest = true;
                }
            }
            if found.values().all(|(_, shortest, _)| *shortest) {
                return;
            }
        }
        if self.first {
            for (_, shortest, _) in found.values_mut() {
                *shortest = true;
            }
        }
    }
}
