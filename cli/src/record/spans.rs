//! Open spans of a trace: probes and unbinds per device, DMA memory per address.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

/// A machine's number in the trace, and a device's in the machine.
pub(super) type Track = (u64, u64);

/// Open spans, and the numbers of the tracks that they are on.
#[derive(Default)]
pub(super) struct Spans {
    tracks: BTreeMap<(&'static str, Option<Arc<str>>), Track>,
    slices: BTreeMap<Track, String>,
    memory: BTreeMap<(Track, u64), String>,
}

impl Spans {
    /// The track of `device`; the first time, with the lines that name it.
    pub(super) fn track(&mut self, machine: &'static str, device: Option<&Arc<str>>, new: &mut Vec<Value>) -> Track {
        let key = (machine, device.cloned());
        if let Some(track) = self.tracks.get(&key) {
            return *track;
        }
        let pid = if machine == "host" { 1 } else { 2 };
        let tid = self.tracks.keys().filter(|(m, _)| *m == machine).count() as u64;
        if tid == 0 {
            new.push(json!({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": machine}}));
        }
        let name = device.map_or("machine", |d| &**d);
        new.push(json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}));
        self.tracks.insert(key, (pid, tid));
        (pid, tid)
    }

    /// A slice begins. A device does one thing at a time, so that a slice still open there is a fault of the events;
    /// false then, and nothing begins.
    pub(super) fn begin(&mut self, track: Track, name: &str) -> bool {
        if self.slices.contains_key(&track) {
            return false;
        }
        self.slices.insert(track, name.into());
        true
    }

    /// The slice on `track` ends; its name.
    pub(super) fn end(&mut self, track: Track) -> Option<String> {
        self.slices.remove(&track)
    }

    /// Memory at `addr` is the device's from now on. False when it was already.
    pub(super) fn map(&mut self, track: Track, addr: u64, name: &str) -> bool {
        self.memory.insert((track, addr), name.into()).is_none()
    }

    /// Memory at `addr` is the device's no more; the name of the span that ends.
    pub(super) fn unmap(&mut self, track: Track, addr: u64) -> Option<String> {
        self.memory.remove(&(track, addr))
    }

    /// Everything still open, memory first: (track, name, address of memory).
    pub(super) fn close(&mut self) -> Vec<(Track, String, Option<u64>)> {
        let memory = std::mem::take(&mut self.memory);
        let slices = std::mem::take(&mut self.slices);
        let memory = memory.into_iter().map(|((track, addr), name)| (track, name, Some(addr)));
        memory.chain(slices.into_iter().map(|(track, name)| (track, name, None))).collect()
    }
}
