//! From violations to findings: the shortest path, and its story.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::bounds::Bounds;
use super::chooser::Chooser;
use super::execute::execute;
use super::explore::Engine;
use super::path::Path;
use super::report::Finding;
use super::run::{Plan, Run, Settings};
use super::shrink::shrink;
use super::tally::{Key, Tally};
use super::violation::Violation;
use super::visited::Visited;
use super::work::Work;

/// Paths that the proof of shortness may take.
const PROOF: u64 = 200_000;

/// What is told of a violation that its path does not lead to when it is walked by itself.
const GONE: &str = "walked again by itself, this path did not show it: paths of this scenario do not all begin alike";

impl Engine {
    /// Shrinks each finding, proves it the shortest where that can be, and tells its story.
    pub(super) fn findings<F>(&self, scenario: &F, tally: &Tally) -> Vec<Finding>
    where
        F: Fn(&Chooser) -> Result<(), Violation> + Sync,
    {
        let mut found: BTreeMap<Key, (Path, bool, u64)> = BTreeMap::new();
        for (key, known) in &tally.found {
            let path = shrink(known.path.clone(), |candidate| self.same(scenario, key, candidate));
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
                let mut story = replay.story;
                let detail = if let Some(violation) = violation {
                    violation.detail.clone()
                } else {
                    // Nothing is hidden: a scenario whose paths do not all begin alike is to be mended.
                    story.push(GONE.into());
                    tally.found.get(&key).map(|known| known.detail.clone()).unwrap_or_default()
                };
                if let Some(end) = violation.and_then(|v| story.iter().position(|line| *line == v.line())) {
                    story.truncate(end + 1);
                }
                // What else is broken on the way has a finding of its own.
                let others: Vec<String> = replay.violations.iter().map(Violation::line).collect();
                let own = violation.map(Violation::line);
                story.retain(|line| Some(line) == own.as_ref() || !others.contains(line));
                Finding { promise: key.0.to_owned(), kind: key.1, detail, path, shortest, times, story }
            })
            .collect();
        findings.sort_by(|a, b| (&a.promise, &a.kind).cmp(&(&b.promise, &b.kind)));
        findings
    }

    /// Whether `path` leads to a violation of `key` within the bounds, and the path up to it.
    fn same<F>(&self, scenario: &F, key: &Key, path: &Path) -> Option<Path>
    where
        F: Fn(&Chooser) -> Result<(), Violation>,
    {
        let settings = Settings {
            bounds: self.bounds.clone(),
            visited: None,
            repeats: 0,
            prunes: false,
            tells: false,
            obeys: true,
        };
        execute(scenario, Run::new(Plan::Follow(path.answers().to_vec()), settings)).finish(|run| {
            let (_, end) = run.violations.iter().find(|(v, _)| (v.promise_id(), &v.kind) == (key.0, &key.1))?;
            Some(run.path(*end))
        })
    }

    /// Walks everything with 0 deviations, then with 1, and so on: what is met first has no shorter path.
    fn prove<F>(&self, scenario: &F, found: &mut BTreeMap<Key, (Path, bool, u64)>)
    where
        F: Fn(&Chooser) -> Result<(), Violation> + Sync,
    {
        let deepest = found.values().map(|(path, ..)| path.deviations()).max().unwrap_or(0) as u32;
        let mut paths = PROOF.min(self.bounds.paths);
        // Who wants the first finding only does not ask for one with as many deviations and fewer answers.
        let last = if self.first { deepest } else { deepest + 1 };
        for level in 0..last {
            let bounds = Bounds { deviations: Some(level), paths, ..self.bounds.clone() };
            let visited = self.hashes.then(|| Arc::new(Visited::new(bounds.states)));
            let mut work = Work::new(self, scenario, bounds, visited, Instant::now());
            work.quiet = true;
            work.first = false;
            work.everything(None);
            if work.stopped().is_some() {
                return;
            }
            paths -= work.tally.paths.min(paths);
            for (key, met) in &work.tally.found {
                if let Some((path, shortest, _)) = found.get_mut(key).filter(|(_, shortest, _)| !shortest) {
                    let met = shrink(met.path.clone(), |candidate| self.same(scenario, key, candidate));
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
