//! What a domain remembers of its mappings, to explain accesses that an IOMMU refuses.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use super::Domain;
use super::places::{Places, REMEMBERED, Ranged};
use super::unconfirmed::Range;
use crate::addr::DeviceAddr;
use crate::system::System;

/// Current or former mapping at an IOVA.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    len: u64,
    device: Arc<str>,
    kind: &'static str,
}

impl Ranged for Mapping {
    fn len(&self) -> u64 {
        self.len
    }
}

impl Mapping {
    fn covers(&self, at: DeviceAddr, addr: DeviceAddr) -> bool {
        addr >= at && addr - at < self.len
    }

    /// Description of one that was unmapped.
    fn former(&self, at: DeviceAddr) -> String {
        format!("{} at {at}, {:#x} bytes, mapped and freed by {}", self.kind, self.len, self.device)
    }

    /// True when it was made for one of `devices`, or for any without.
    fn is_of(&self, devices: Option<&[Arc<str>]>) -> bool {
        devices.is_none_or(|devices| devices.contains(&self.device))
    }
}

/// The latest [`REMEMBERED`] mappings that were unmapped.
#[derive(Default)]
pub(crate) struct MappingHistory(VecDeque<(DeviceAddr, Mapping)>);

impl MappingHistory {
    fn push(&mut self, at: DeviceAddr, mapping: Mapping) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((at, mapping));
    }

    /// Appends `later`, which is newer.
    pub(crate) fn add(&mut self, later: Self) {
        later.0.into_iter().for_each(|(at, mapping)| self.push(at, mapping));
    }

    /// Description of the last mapping at `addr` that one of `of` made, if it says whose.
    pub(crate) fn explain(&self, addr: DeviceAddr, of: Option<&[Arc<str>]>) -> Option<String> {
        let is_it = |(at, m): &&(DeviceAddr, Mapping)| m.covers(*at, addr) && m.is_of(of);
        let (at, m) = self.0.iter().rev().find(is_it)?;
        Some(m.former(*at))
    }
}

/// Current mappings, and the latest that were unmapped.
pub(super) type History = Places<Mapping>;

/// Explanation of a refused access.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultReport {
    /// Devices that may have made the access: those of the stream, or without one those attached to the domain.
    pub devices: alloc::vec::Vec<Arc<str>>,
    /// Description of the current or last mapping at the address: that of those devices, or of others of their group.
    pub mapping: Option<String>,
    /// The mapping is that of the one device which can have made the access. Without it the description is a guess: addresses are given
    /// out from the top down in each domain, so devices have often had the same ones.
    pub certain: bool,
}

impl Domain {
    #[cold]
    pub(crate) fn record_mapped(&self, range: Range, device: &Arc<str>, kind: &'static str) {
        let len = range.len;
        let new = || Mapping { len, device: Arc::clone(device), kind };
        let again = |old: &mut Mapping| {
            let stands_for_it = old.len <= len && Arc::ptr_eq(&old.device, device) && old.kind == kind;
            old.len = if stands_for_it { len } else { old.len };
            stands_for_it
        };
        let mut history = self.history.lock();
        if !history.begin(range.iova, len, new, again) {
            // Its end was not seen.
            history.end(range.iova, |_| ());
            history.begin(range.iova, len, new, again);
        }
    }

    #[inline]
    pub(crate) fn record_unmapped(&self, machine: &System, iova: DeviceAddr) {
        if machine.tracks_mappings() {
            self.record_end(iova);
        }
    }

    #[cold]
    pub(super) fn record_end(&self, iova: DeviceAddr) {
        self.history.lock().end(iova, |_| ());
    }

    /// Description of the current or last mapping at `addr` that one of `of` made, if it says whose.
    pub(crate) fn explain(&self, addr: DeviceAddr, of: Option<&[Arc<str>]>) -> Option<String> {
        let history = self.history.lock();
        if let Some((at, m)) = history.at(addr).find(|(_, m)| m.is_of(of)) {
            return Some(format!("{} of {} at {at}, still mapped", m.kind, m.device));
        }
        history.last_at(addr, |m| m.is_of(of)).map(|(at, m)| m.former(at))
    }

    /// Moves the history out, with all current mappings, when the domain is dropped.
    pub(crate) fn take_history(&self) -> MappingHistory {
        let (live, ended) = self.history.lock().take();
        let mut all = MappingHistory::default();
        ended.into_iter().chain(live).for_each(|(at, mapping)| all.push(at, mapping));
        all
    }
}
