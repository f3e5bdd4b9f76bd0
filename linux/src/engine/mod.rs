//! Running plans: each step journalled before it is done and verified after, and undone as a whole when one fails.

mod carry_out;
mod perform;

use std::fs::File;
use std::time::Duration;

pub use carry_out::{Begun, NotBegun, Order, carry_out};

use crate::face::{Face, FaceError};
use crate::plan::{Action, Place, Step};
use crate::state::{Log, LogError, Record};

/// Default deadline of one step.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Outcome of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Every step was done and verified.
    Done,
    /// A step failed, and everything that was done before it was undone.
    RolledBack {
        /// The failure.
        why: String,
        /// True when nothing had been changed before.
        untouched: bool,
    },
    /// A step failed, and so did what should undo the steps before it.
    RollbackFailed {
        /// The first failure.
        why: String,
        /// Failures of the rollback; everything else was undone.
        then: Vec<String>,
    },
    /// A write was not answered in time and is still under way. Nothing was undone.
    TimedOut {
        /// The write that is under way.
        why: String,
        /// The process that waits.
        helper: Option<u32>,
    },
    /// The journal could not be written, and nothing was done.
    JournalFailed(String),
}

/// A problem on the way.
enum Trouble {
    Failed(String),
    Late { why: String, helper: Option<u32> },
    Journal(LogError),
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        Self::Journal(error)
    }
}

/// Runs the steps of plans on a host.
pub struct Engine<'a> {
    /// The host.
    pub face: &'a dyn Face,
    /// The journal.
    pub log: &'a mut dyn Log,
    /// Deadline of one step.
    pub timeout: Duration,
    /// Locks that a helper process left behind by a time-out keeps.
    pub locks: &'a [File],
    /// Called before each step with its number from 0, its device, its action, and true for an undo.
    pub progress: &'a mut dyn FnMut(usize, &Place, &Action, bool),
}

impl Engine<'_> {
    /// Does all steps, or undoes those that were done.
    pub fn run(&mut self, steps: &[Step]) -> Ended {
        for (index, step) in steps.iter().enumerate() {
            match self.step(index, step) {
                Ok(()) => {}
                Err(Trouble::Failed(why)) => return self.roll_back(steps, index, why),
                Err(Trouble::Late { why, helper }) => return self.late(index, why, helper),
                // Before the first step nothing is to be undone.
                Err(Trouble::Journal(error)) if index == 0 => return Ended::JournalFailed(error.to_string()),
                // A device is not left without a driver until there is room on a disk again.
                Err(Trouble::Journal(error)) => return self.roll_back(steps, index, error.to_string()),
            }
        }
        match self.log.append(&Record::End { done: true }) {
            Ok(()) => Ended::Done,
            // The journal says that every step was done: `recover` finishes, and must not find that some were undone.
            Err(error) => {
                let then = vec!["every step was done: nothing was undone".into()];
                Ended::RollbackFailed { why: error.to_string(), then }
            }
        }
    }

    fn step(&mut self, index: usize, step: &Step) -> Result<(), Trouble> {
        let Step { device, action, .. } = step;
        // What holds already was brought about by another program meanwhile: undoing it later is still right.
        let holds = action.writes() && action.after().check(self.face, device, self.timeout).is_ok();
        if !holds {
            action.before().check(self.face, device, self.timeout).map_err(Trouble::Failed)?;
        }
        (self.progress)(index, device, action, false);
        // The journal is on disk before the host is touched: after a crash this step may or may not have been done.
        self.log.append(&Record::Begin { step: index })?;
        if !holds {
            self.perform(device, action)?;
        }
        // The step is done: from here on there is something to undo.
        self.log.append(&Record::Done { step: index }).map_err(|error| Trouble::Failed(error.to_string()))
    }

    /// Undoes the steps up to and including `last`, newest first. What an undo aims at may hold already.
    ///
    /// A failure does not end it: the other devices are still brought back. The device itself is left as it is from
    /// there, because what is undone later relies on what is undone before: functions that come back after autoprobe was
    /// switched on again would be probed.
    pub fn undo(&mut self, steps: &[Step], last: usize) -> Result<(), Vec<String>> {
        let mut failed = Vec::new();
        let mut left: Vec<&Place> = Vec::new();
        for (index, step) in steps.iter().enumerate().take(last + 1).rev() {
            for action in &step.inverse {
                if left.contains(&&step.device) {
                    break;
                }
                match self.undo_one(index, &step.device, action) {
                    Ok(()) => {}
                    Err(Trouble::Failed(why) | Trouble::Late { why, .. }) => {
                        failed.push(why);
                        left.push(&step.device);
                    }
                    Err(Trouble::Journal(error)) => failed.push(error.to_string()),
                }
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    fn undo_one(&mut self, index: usize, device: &Place, action: &Action) -> Result<(), Trouble> {
        if action.after().check(self.face, device, self.timeout).is_ok() {
            return Ok(());
        }
        // Undoing a bind that did not happen.
        if matches!(action, Action::Unbind { .. }) && action.before().check(self.face, device, self.timeout).is_err() {
            return Ok(());
        }
        (self.progress)(index, device, action, true);
        // A journal that cannot be written any more does not keep a device from going back.
        let noted = self.log.append(&Record::Undo { step: index });
        self.perform(device, action)?;
        noted.map_err(Trouble::Journal)
    }

    fn perform(&mut self, device: &Place, action: &Action) -> Result<(), Trouble> {
        perform::perform(self.face, device, action, self.timeout, self.locks).map_err(|failure| match failure {
            perform::Failure::Late { why, helper } => Trouble::Late { why, helper },
            perform::Failure::Failed(why) => Trouble::Failed(why),
        })
    }

    fn roll_back(&mut self, steps: &[Step], failed: usize, why: String) -> Ended {
        if let Err(error) = self.log.append(&Record::Failed { step: failed, why: why.clone() }) {
            // What was done so far is still undone.
            let mut then = self.undo(steps, failed).err().unwrap_or_default();
            then.push(error.to_string());
            return Ended::RollbackFailed { why, then };
        }
        match self.undo(steps, failed) {
            Ok(()) => match self.log.append(&Record::End { done: false }) {
                Ok(()) => Ended::RolledBack { why, untouched: failed == 0 },
                Err(error) => Ended::RollbackFailed { why, then: vec![error.to_string()] },
            },
            Err(then) => Ended::RollbackFailed { why, then },
        }
    }

    fn late(&mut self, index: usize, why: String, helper: Option<u32>) -> Ended {
        // Nothing more is written to a device whose unbind hangs: the journal stays open for `recover`.
        let noted = self.log.append(&Record::Hung { step: index, helper });
        let why = match noted {
            Ok(()) => why,
            Err(error) => format!("{why}; {error}"),
        };
        Ended::TimedOut { why, helper }
    }
}

impl Action {
    /// True when the step changes something.
    fn writes(&self) -> bool {
        !matches!(self, Self::VerifyDriver { .. } | Self::VerifyNodes | Self::Own { .. })
    }
}

/// True when the kernel's answer means that trying again may help.
fn is_busy(error: &FaceError) -> bool {
    matches!(error.errno(), Some(rustix::io::Errno::BUSY | rustix::io::Errno::AGAIN))
}
