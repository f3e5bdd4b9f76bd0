//! Refused accesses, told a few at a time.
//!
//! A device, in a guest's hands perhaps, must not choose how much the host has to say. Of each device the first faults of a
//! burst are told one by one; what comes on top is counted, until the device has been silent for a while.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::Machine;
use crate::env::Instant;
use crate::event::EventKind;
use crate::sync::Mutex;

/// Faults of one device that are told one by one.
const BURST: u32 = 10;

/// A burst is over when there was no fault for this long.
const SILENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Faulting {
    last: Instant,
    told: u32,
    /// Of this burst.
    muted: u64,
    /// Of all bursts.
    total: u64,
}

/// The faults of each device; those that nobody can be named for, of each IOMMU.
#[derive(Default)]
pub(crate) struct Faults(Mutex<BTreeMap<Arc<str>, Faulting>>);

/// How a device fares with its IOMMU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultCount {
    /// The device, or the IOMMU when it is not known which device it was.
    pub device: Arc<str>,
    /// Refused accesses so far.
    pub total: u64,
    /// Those of the burst that goes on, or was the last, that were not told.
    pub muted: u64,
}

impl Machine {
    /// Counts one more fault of `who`. Whether it is to be told.
    pub(crate) fn fault_is_told(&self, who: &Arc<str>) -> bool {
        let now = self.env.now();
        let (told, storm) = {
            let mut all = self.faults.0.lock();
            let f = all.entry(Arc::clone(who)).or_default();
            f.total += 1;
            let over = now.since(f.last) >= SILENCE;
            f.last = now;
            let ended = if over { (f.told, core::mem::take(&mut f.muted)).1 } else { 0 };
            if over {
                f.told = 0;
            }
            if f.told < BURST {
                f.told += 1;
                (true, (ended > 0).then_some((ended, true)))
            } else {
                f.muted += 1;
                // Once at its beginning, then each time when it is ten times as long.
                let power = core::iter::successors(Some(1u64), |n| n.checked_mul(10)).any(|n| n == f.muted);
                (false, power.then_some((f.muted, false)))
            }
        };
        self.tell_storm(who, storm);
        told
    }

    fn tell_storm(&self, who: &Arc<str>, storm: Option<(u64, bool)>) {
        if let Some((muted, over)) = storm {
            self.emit(Some(who), || EventKind::FaultStorm { muted, over });
        }
    }

    /// A binding of `device` has ended, and with it the burst: how many were not told is told.
    pub(super) fn faults_end(&self, device: &Arc<str>) {
        let muted = {
            let mut all = self.faults.0.lock();
            all.get_mut(device).map_or(0, |f| {
                f.told = 0;
                core::mem::take(&mut f.muted)
            })
        };
        self.tell_storm(device, (muted > 0).then_some((muted, true)));
    }

    /// `device` is gone.
    pub(super) fn forget_faults(&self, device: &str) {
        self.faults.0.lock().remove(device);
    }

    /// Refused accesses of each device that had any since it was added, by name.
    pub fn fault_counts(&self) -> Vec<FaultCount> {
        let all = self.faults.0.lock();
        let count = |(device, f): (&Arc<str>, &Faulting)| FaultCount {
            device: Arc::clone(device),
            total: f.total,
            muted: f.muted,
        };
        all.iter().map(count).collect()
    }

    /// Devices whose way back waits for users that are still inside their driver, with each of these in words.
    pub fn stuck_users(&self) -> Vec<(Arc<str>, Vec<String>)> {
        let now = self.env.now();
        let stuck = |device: &Arc<crate::device::Device>| {
            let ends = matches!(device.phase(), crate::binding::Phase::Quiescing | crate::binding::Phase::Releasing);
            let inside = device.binding().filter(|_| ends)?.visits(now);
            (!inside.is_empty()).then(|| (Arc::clone(&device.desc().name), inside))
        };
        self.devices().iter().filter_map(stuck).collect()
    }
}
