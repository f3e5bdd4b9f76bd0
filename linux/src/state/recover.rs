//! Finishing or undoing what a crash has left.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::store::boot;
use super::{Journal, Lock, Log, Record, Resumed, Store, StoreError};
use crate::engine::Engine;
use crate::face::Face;
use crate::plan::{Action, Place};

/// Outcome of the recovery of one journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// The plan had been done; only its end was missing.
    Finished,
    /// The steps that had been done were undone.
    Undone,
    /// The machine was rebooted since: the kernel has put its devices where it wants them.
    Rebooted {
        /// Devices, and the driver that each has now.
        now: Vec<(String, Option<String>)>,
    },
    /// Not everything could be undone. The journal stays.
    Failed(Vec<String>),
    /// Somebody is still at it: another command, or a helper whose write hangs.
    Busy(String),
}

/// The names of the locks that a plan on these devices needs, sorted: a plan that needs several takes them in this order.
pub fn lock_names<'a>(face: &dyn Face, places: impl IntoIterator<Item = &'a Place>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for place in places {
        let group = face.link_name(&place.file("iommu_group"));
        names.extend(group.map(|group| format!("group {group}")));
        names.push(place.to_string());
    }
    names.sort();
    names.dedup();
    names
}

/// Takes all of these locks.
pub fn lock_all(store: &Store, names: &[String], purpose: &str) -> Result<Vec<Lock>, StoreError> {
    names.iter().map(|name| store.lock(name, purpose)).collect()
}

/// Finishes or undoes the plan whose journal is at `path`.
pub fn recover(
    face: &dyn Face,
    store: &Store,
    path: &Path,
    timeout: Duration,
    progress: &mut dyn FnMut(usize, &Place, &Action, bool),
) -> Result<(Resumed, Recovered), StoreError> {
    let resumed = Journal::read(path)?;
    let names = lock_names(face, resumed.header.steps.iter().map(|step| &step.device));
    let locks = match lock_all(store, &names, "recover") {
        Ok(locks) => locks,
        Err(StoreError::Lock(error)) => return Ok((resumed, Recovered::Busy(error.to_string()))),
        Err(error) => return Err(error),
    };
    if !path.exists() {
        // Whoever had the locks has ended well meanwhile.
        return Ok((resumed, Recovered::Finished));
    }
    // Only now: a plan that writes a journal holds the locks.
    let (mut journal, resumed) = Journal::resume(path)?;
    let files: Vec<File> = locks.iter().filter_map(|lock| lock.copy().ok()).collect();
    let outcome = settle(face, &mut journal, &resumed, timeout, &files, progress)?;
    let done = match &outcome {
        Recovered::Finished => resumed.ended().unwrap_or(true),
        Recovered::Undone | Recovered::Rebooted { .. } => false,
        Recovered::Failed(_) | Recovered::Busy(_) => return Ok((resumed, outcome)),
    };
    store.close(&resumed.header, done)?;
    Ok((resumed, outcome))
}

fn settle(
    face: &dyn Face,
    journal: &mut Journal,
    resumed: &Resumed,
    timeout: Duration,
    locks: &[File],
    progress: &mut dyn FnMut(usize, &Place, &Action, bool),
) -> Result<Recovered, StoreError> {
    if resumed.ended().is_some() {
        return Ok(Recovered::Finished);
    }
    if resumed.header.boot != boot(face) {
        return Ok(rebooted(face, resumed));
    }
    if resumed.is_complete() {
        journal.append(&Record::End { done: true })?;
        return Ok(Recovered::Finished);
    }
    let Some(last) = resumed.last_begun() else {
        journal.append(&Record::End { done: false })?;
        return Ok(Recovered::Undone);
    };
    let mut engine = Engine { face, log: journal, timeout, locks, progress };
    match engine.undo(&resumed.header.steps, last) {
        Ok(()) => {
            journal.append(&Record::End { done: false })?;
            Ok(Recovered::Undone)
        }
        Err(failed) => Ok(Recovered::Failed(failed)),
    }
}

/// After another boot nothing of the plan is left: overrides and the number of virtual functions are not kept.
fn rebooted(face: &dyn Face, resumed: &Resumed) -> Recovered {
    let mut places: Vec<&Place> = Vec::new();
    for step in &resumed.header.steps {
        if !places.contains(&&step.device) {
            places.push(&step.device);
        }
    }
    let now = places.into_iter().map(|place| (place.to_string(), place.driver(face)));
    Recovered::Rebooted { now: now.collect() }
}
