//! The log: events of every machine of the story, in the order in which they happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::event::{Event, EventKind};
use bindery::sync::Mutex;

/// One event, with the step and the machine that it happened in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The step of the story: `"probe"`.
    pub step: &'static str,
    /// `"host"` or `"guest"`.
    pub machine: &'static str,
    /// What happened.
    pub event: Event,
}

/// DMA memory that a device reaches now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Where the device sees it.
    pub addr: DeviceAddr,
    /// Where it is.
    pub phys: PhysAddr,
    /// Bytes.
    pub size: u64,
}

/// A device of a machine.
type Place = (&'static str, Option<Arc<str>>);

#[derive(Default)]
struct Inner {
    step: &'static str,
    kept: Vec<LogEntry>,
    mapped: BTreeMap<(Place, DeviceAddr), Mapped>,
}

/// Collects events. Whoever runs a step takes them out afterwards, so that the log is never longer than one step.
#[derive(Clone, Default)]
pub struct EventLog(Arc<Mutex<Inner>>);

impl EventLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Marks what comes from now on as belonging to `step`.
    pub fn step(&self, step: &'static str) {
        self.0.lock().step = step;
    }

    /// A listener that records under the name `machine`.
    pub fn listener(&self, machine: &'static str) -> Box<dyn Fn(&Event) + Send + Sync> {
        let inner = Arc::clone(&self.0);
        Box::new(move |event| {
            let mut inner = inner.lock();
            let step = inner.step;
            let place = (machine, event.device.clone());
            match event.kind {
                EventKind::DmaMapped { addr, phys, size, .. } => {
                    inner.mapped.insert((place, addr), Mapped { addr, phys, size });
                }
                EventKind::DmaUnmapped { addr, .. } => {
                    inner.mapped.remove(&(place, addr));
                }
                _ => {}
            }
            inner.kept.push(LogEntry { step, machine, event: event.clone() });
        })
    }

    /// How many events are on the log: a place to read on from with [`since`](Self::since).
    pub fn mark(&self) -> usize {
        self.0.lock().kept.len()
    }

    /// The events from `mark` on.
    pub fn since(&self, mark: usize) -> Vec<LogEntry> {
        self.0.lock().kept.get(mark..).unwrap_or_default().to_vec()
    }

    /// The DMA memory that `device` of `machine` reaches now, by what was told; highest address first.
    pub fn mapped(&self, machine: &str, device: &str) -> Vec<Mapped> {
        let inner = self.0.lock();
        let of = |((place, _), _): &(&(Place, DeviceAddr), &Mapped)| {
            place.0 == machine && place.1.as_deref() == Some(device)
        };
        inner.mapped.iter().filter(of).map(|(_, mapped)| *mapped).rev().collect()
    }

    /// Takes everything off the log.
    pub fn take(&self) -> Vec<LogEntry> {
        std::mem::take(&mut self.0.lock().kept)
    }
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventLog({} events)", self.mark())
    }
}
