//! Execution of one hand-over: locks, journal, steps, and records.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use super::{Ended, Engine};
use crate::face::Face;
use crate::plan::{Action, Memory, Place, Step};
use crate::state::{FORMAT, Header, Journal, Lock, Store, StoreError, boot, lock_all, lock_names, new_id};

/// A plan that is ready to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The verb: `give`, `take`.
    pub purpose: String,
    /// The devices that were asked for, by label.
    pub devices: Vec<String>,
    /// The steps.
    pub steps: Vec<Step>,
    /// Names and numbers that vanish with the drivers.
    pub remembered: Vec<Memory>,
    /// The record of given devices that the plan takes back.
    pub takes: Option<String>,
}

/// A plan was not begun. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// The state directory, the journal or a lock.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A plan that was cut short has a device of this one.
    #[error("an unfinished {purpose} of {devices} is in the way ({path}): run `bindctl recover` first")]
    Unfinished {
        /// The verb of that plan.
        purpose: String,
        /// To which devices.
        devices: String,
        /// Its journal.
        path: PathBuf,
    },
    /// The plan that was built again under the locks differs.
    #[error("the host has changed while it was looked at: nothing was done; try again")]
    Changed,
}

/// Runs a plan under its locks, with a journal.
///
/// `again` builds the plan again once the locks are held; a plan that differs is refused. `progress` is called for each
/// step before it is journalled.
pub fn carry_out<E: From<NotBegun>>(
    face: &dyn Face,
    store: &Store,
    order: &Order,
    timeout: Duration,
    again: impl FnOnce() -> Result<Vec<Step>, E>,
    progress: &mut dyn FnMut(usize, &Place, &Action, bool),
) -> Result<Ended, E> {
    let mut begun = Begun::new(face, store, order, again)?;
    let ended = begun.run(timeout, progress);
    begun.close(&ended).map_err(NotBegun::Store)?;
    Ok(ended)
}

/// A plan whose journal is on disk and whose locks are held, see [`carry_out`].
pub struct Begun<'a> {
    face: &'a dyn Face,
    store: &'a Store,
    header: Header,
    journal: Journal,
    locks: Vec<Lock>,
}

impl<'a> Begun<'a> {
    /// Takes the locks and begins the journal.
    pub fn new<E: From<NotBegun>>(
        face: &'a dyn Face,
        store: &'a Store,
        order: &Order,
        again: impl FnOnce() -> Result<Vec<Step>, E>,
    ) -> Result<Self, E> {
        store.prepare().map_err(NotBegun::Store)?;
        refuse_unfinished(store, order)?;
        let names = lock_names(face, order.steps.iter().map(|step| &step.device));
        let purpose = format!("{} {}", order.purpose, order.devices.join(" "));
        let locks = lock_all(store, &names, &purpose).map_err(NotBegun::Store)?;
        // Somebody else may have begun, and been cut short, before the locks were had.
        refuse_unfinished(store, order)?;
        if again()? != order.steps {
            return Err(NotBegun::Changed.into());
        }
        let header = Header {
            format: FORMAT,
            id: new_id(),
            boot: boot(face),
            purpose: order.purpose.clone(),
            pid: std::process::id(),
            devices: order.devices.clone(),
            steps: order.steps.clone(),
            remembered: order.remembered.clone(),
            takes: order.takes.clone(),
        };
        let journal = store.begin(&header).map_err(NotBegun::Store)?;
        Ok(Self { face, store, header, journal, locks })
    }

    /// Does the steps, or undoes those that were done.
    pub fn run(&mut self, timeout: Duration, progress: &mut dyn FnMut(usize, &Place, &Action, bool)) -> Ended {
        let copies: Vec<File> = self.locks.iter().filter_map(|lock| lock.copy().ok()).collect();
        let mut engine = Engine { face: self.face, log: &mut self.journal, timeout, locks: &copies, progress };
        engine.run(&self.header.steps)
    }

    /// Closes the journal of a plan that has ended. One that has not stays for [`recover`](crate::state::recover).
    pub fn close(self, ended: &Ended) -> Result<(), StoreError> {
        match ended {
            Ended::Done => self.store.close(&self.header, true),
            Ended::RolledBack { .. } | Ended::JournalFailed(_) => self.store.close(&self.header, false),
            Ended::RollbackFailed { .. } | Ended::TimedOut { .. } => Ok(()),
        }
    }
}

/// A plan that was cut short comes first.
fn refuse_unfinished(store: &Store, order: &Order) -> Result<(), NotBegun> {
    for path in store.unfinished()? {
        let resumed = match Journal::read(&path) {
            // That plan has ended meanwhile.
            Err(_) if !path.exists() => continue,
            read => read.map_err(StoreError::Log)?,
        };
        let touched = |step: &Step| resumed.header.steps.iter().any(|other| other.device == step.device);
        if order.steps.iter().any(touched) {
            let devices = resumed.header.devices.join(", ");
            return Err(NotBegun::Unfinished { purpose: resumed.header.purpose, devices, path });
        }
    }
    Ok(())
}
