//! Logs of several machines in one file, and of several boots of one machine: what one of them said is no evidence about another.

use std::sync::Arc;

use super::super::verdict::Cite;
use super::super::{End, Fact, Mark, Model};
use super::LogState;
use crate::shape::{Place, Stamp};

/// Machines that are told apart.
const MOST: usize = 64;
/// A step back of the log's clock, in nanoseconds, that only another boot explains: CPUs print out of order by less.
const BACK: u64 = 1_000_000_000;
/// Name of a machine in the log before its boot has set one.
const UNNAMED: &str = "localhost";

/// Machines whose lines were read.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    /// The one that is read now; none before a line names one.
    now: Option<Arc<str>>,
    /// The first, whose devices go by their own names.
    first: Option<Arc<str>>,
    /// States of the others' logs.
    others: Vec<(Arc<str>, LogState)>,
}

impl Machines {
    /// The machine that is read now, unless it is the first.
    pub(in crate::model) fn other(&self) -> Option<&Arc<str>> {
        self.now.as_ref().filter(|_| self.now != self.first)
    }
}

/// The last line of a log.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastLine {
    place: Place,
    /// The first line of its file.
    first: Place,
    stamp: Option<Stamp>,
}

impl Model {
    /// The line at `place` is of the machine `host`. False when there are too many to follow this one.
    pub(in crate::model) fn enter_machine(&mut self, place: Place, host: &str) -> bool {
        let machines = &mut self.machines;
        if host == UNNAMED || machines.now.as_deref() == Some(host) {
            return true;
        }
        if machines.first.is_none() {
            let name: Arc<str> = host.into();
            (machines.first, machines.now) = (Some(name.clone()), Some(name));
            return true;
        }
        let known = machines.others.iter().position(|(name, _)| **name == *host);
        if known.is_none() && machines.others.len() >= MOST {
            self.untold += 1;
            return false;
        }
        let (name, state) =
            known.map_or_else(|| (Arc::from(host), LogState::default()), |at| machines.others.swap_remove(at));
        let state = std::mem::replace(&mut self.log, state);
        let left = machines.now.replace(name);
        machines.others.extend(left.clone().map(|left| (left, state)));
        if known.is_none() {
            let first = machines.first.as_deref().unwrap_or("");
            let words =
                format!("lines of several machines: devices of {host} are named with it, those without are {first}'s");
            self.fact(Fact { words, cites: vec![Cite { place, text: String::new() }] });
        }
        true
    }

    /// Back to the first machine, whose trace is read.
    pub(in crate::model) fn enter_first_machine(&mut self, place: Place) {
        if self.machines.other().is_some()
            && let Some(first) = self.machines.first.clone()
        {
            self.enter_machine(place, &first);
        }
    }

    /// Brings the machine at `at` among the others in front, for the end of the files.
    pub(super) fn next_machine(&mut self) -> bool {
        let Some((name, state)) = self.machines.others.pop() else { return false };
        self.log = state;
        self.machines.now = Some(name);
        true
    }

    /// Notes where the log is, and begins anew where its clock shows another boot.
    pub(in crate::model) fn follow_clock(&mut self, place: Place, stamp: Option<Stamp>) {
        let last = self.log.last.filter(|last| last.place.file == place.file);
        let (first, old) = last.map_or((place, None), |last| (last.first, last.stamp));
        self.log.last = Some(LastLine { place, first, stamp: stamp.or(old) });
        if let (Some(old), Some(new)) = (old, stamp)
            && old.since(new).is_some_and(|back| back > BACK)
        {
            self.reboot(&Mark::new(place, stamp, ""));
        }
    }

    /// A line that a boot begins with. A log that begins with it may be of the boot that the trace is of.
    pub(super) fn boot(&mut self, mark: &Mark) {
        let place = mark.place;
        if self.log.last.is_some_and(|last| last.place.file == place.file && last.first != place) {
            self.reboot(mark);
        }
    }

    /// Closes all that the log has said so far: it is of another boot, with other devices and names.
    fn reboot(&mut self, mark: &Mark) {
        self.flush_record();
        self.flush_held();
        self.flush_report();
        self.streams();
        self.log.region = None;
        self.log.last_leaving = None;
        self.judge_untranslated();
        self.translated = None;
        let machine = self.machines.other().cloned();
        for id in 0..self.devices.len() {
            if self.devices[id].machine != machine {
                continue;
            }
            self.close_log(id);
            let device = &mut self.devices[id];
            device.log = super::DeviceLog::default();
            (device.deferred, device.domain_type) = (None, None);
            if device.life.as_ref().is_some_and(|life| !life.traced) {
                device.group = None;
                device.backend = None;
                self.close(id, mark, End::FileEnded);
            }
        }
    }
}
