//! The log of the events of all machines, in the order in which they happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::event::{Event, EventKind};
use bindery::sync::SpinLock;

/// One event, with the step and the machine that it happened in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The step of the script: `"probe"`.
    pub step: Arc<str>,
    /// `"host"` or `"guest"`.
    pub machine: &'static str,
    /// The event.
    pub event: Event,
}

/// A DMA mapping that a device has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Device address.
    pub addr: DeviceAddr,
    /// Physical address.
    pub phys: PhysAddr,
    /// Size in bytes.
    pub size: u64,
}

/// A device of a machine.
type Place = (&'static str, Option<Arc<str>>);

#[derive(Default)]
struct Inner {
    step: Arc<str>,
    entries: Vec<LogEntry>,
    mapped: BTreeMap<(Place, DeviceAddr), Mapped>,
    bound: BTreeSet<(Place, String)>,
    errors: BTreeMap<Place, String>,
}

/// Event log of all machines. The entries of a command are taken out after it, so that the log stays short; the DMA
/// mappings, bindings and probe errors among them stay known.
#[derive(Clone, Default)]
pub struct EventLog(Arc<SpinLock<Inner>>);

impl EventLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Assigns the events from now on to `step`.
    pub fn step(&self, step: &str) {
        self.0.lock().step = step.into();
    }

    /// A listener that logs the events of `machine`.
    pub fn listener(&self, machine: &'static str) -> Box<dyn Fn(&Event) + Send + Sync> {
        let inner = Arc::clone(&self.0);
        Box::new(move |event| {
            let mut inner = inner.lock();
            let step = Arc::clone(&inner.step);
            let place = (machine, event.device.clone());
            match &event.kind {
                &EventKind::DmaMapped { addr, phys, size, .. } => {
                    inner.mapped.insert((place, addr), Mapped { addr, phys, size });
                }
                &EventKind::DmaUnmapped { addr, .. } => {
                    inner.mapped.remove(&(place, addr));
                }
                EventKind::Bound { driver } => {
                    inner.errors.remove(&place);
                    inner.bound.insert((place, driver.to_string()));
                }
                EventKind::NotBound { error, .. } | EventKind::BindRefused { error, .. } => {
                    inner.errors.insert(place, error.clone());
                }
                _ => {}
            }
            inner.entries.push(LogEntry { step, machine, event: event.clone() });
        })
    }

    /// The entries from position `at` on.
    pub fn since(&self, at: usize) -> Vec<LogEntry> {
        self.0.lock().entries.get(at..).unwrap_or_default().to_vec()
    }

    /// Takes all entries out.
    pub fn drain(&self) -> Vec<LogEntry> {
        std::mem::take(&mut self.0.lock().entries)
    }

    /// The DMA mappings that `device` of `machine` has now, by the events so far; highest address first.
    pub fn mapped(&self, machine: &str, device: &str) -> Vec<Mapped> {
        let inner = self.0.lock();
        let of = |((place, _), _): &(&(Place, DeviceAddr), &Mapped)| is(place, machine, device);
        inner.mapped.iter().filter(of).map(|(_, mapped)| *mapped).rev().collect()
    }

    /// True when the host's `device` has been bound to `driver` at some time.
    pub fn was_bound(&self, device: &str, driver: &str) -> bool {
        self.0.lock().bound.iter().any(|(place, name)| is(place, "host", device) && name == driver)
    }

    /// The reason why the last attempt to bind the host's `device` failed, if it did.
    pub fn bind_error(&self, device: &str) -> Option<String> {
        let inner = self.0.lock();
        inner.errors.iter().find(|(place, _)| is(place, "host", device)).map(|(_, error)| error.clone())
    }
}

fn is(place: &Place, machine: &str, device: &str) -> bool {
    place.0 == machine && place.1.as_deref() == Some(device)
}
