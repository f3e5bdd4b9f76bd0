//! Refused accesses, told a few at a time.
//!
//! A device, in a guest's hands perhaps, must not choose how much the host has to say. Of each device the first faults of a
//! burst are told one by one. What comes on top is counted; one of it is told in each period, with the count so far, until
//! the device has been silent for a while. Devices that an IOMMU cannot tell apart count together, and nobody else with them:
//! the storm of one does not hide the faults of another that can be told from it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::env::Instant;
use crate::event::EventKind;
use crate::sync::Mutex;
use crate::system::System;

/// Faults of one device that are told one by one.
const BURST: u32 = 10;

/// A burst is over when there was no fault for this long.
const SILENCE: Duration = Duration::from_secs(5);

/// While a burst goes on, one fault is told in each time of this length: what goes on, and how much of it was not told.
const PERIOD: Duration = Duration::from_mins(1);

#[derive(Default)]
struct Faulting {
    last: Instant,
    /// When the last one was told, or the first one suppressed.
    told_at: Instant,
    told: u32,
    /// Of this burst.
    suppressed: u64,
    /// Of all bursts.
    total: u64,
}

/// Who may have done it: the IOMMU, and the devices that it cannot tell apart there.
type Suspects = (Arc<str>, Vec<Arc<str>>);

/// The faults of each device; those that no single device can be named for, of each group of them.
#[derive(Default)]
pub(crate) struct Faults(Mutex<BTreeMap<Suspects, Faulting>>);

/// Under whose name faults are told and listed.
fn name((iommu, devices): &Suspects) -> &Arc<str> {
    match &**devices {
        [device] => device,
        _ => iommu,
    }
}

/// How a device fares with its IOMMU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultCount {
    /// The device, or the IOMMU, for all of its faults of which it is not known which device it was.
    pub device: Arc<str>,
    /// Refused accesses so far.
    pub total: u64,
    /// Those of the burst that goes on, or was the last, that were not told.
    pub suppressed: u64,
}

impl System {
    /// Counts one more fault at `iommu`, of one of `devices`. Whether it is to be told.
    pub(super) fn should_report_fault(&self, iommu: &Arc<str>, devices: &[Arc<str>]) -> bool {
        let now = self.env().now();
        // A device may fault at several IOMMUs, and is one device.
        let at = if let [device] = devices { device } else { iommu };
        let suspects = (Arc::clone(at), devices.to_vec());
        let (told, storm) = {
            let mut all = self.faults().0.lock();
            let f = all.entry(suspects.clone()).or_default();
            f.total += 1;
            let mut storm = None;
            if now.since(f.last) >= SILENCE {
                let ended = core::mem::take(&mut f.suppressed);
                storm = (ended > 0).then_some((ended, true));
                f.told = 0;
            }
            f.last = now;
            let told = f.told < BURST || now.since(f.told_at) >= PERIOD;
            if told {
                f.told = f.told.saturating_add(1);
                f.told_at = now;
                storm = storm.or((f.suppressed > 0).then_some((f.suppressed, false)));
            } else {
                f.suppressed += 1;
                // Once at its beginning, then each time when it is ten times as long.
                let power = core::iter::successors(Some(1u64), |n| n.checked_mul(10)).any(|n| n == f.suppressed);
                storm = power.then_some((f.suppressed, false));
            }
            (told, storm)
        };
        self.tell_storm(name(&suspects), storm);
        told
    }

    fn tell_storm(&self, who: &Arc<str>, storm: Option<(u64, bool)>) {
        if let Some((suppressed, over)) = storm {
            self.emit(Some(who), || EventKind::FaultStorm { suppressed, over });
        }
    }

    /// A binding of `device` has ended, and with it each burst that it may have had a part in: how many were not told is
    /// told.
    pub(crate) fn faults_end(&self, device: &Arc<str>) {
        let mut ended = Vec::new();
        for (suspects, f) in self.faults().0.lock().iter_mut().filter(|((_, devices), _)| devices.contains(device)) {
            f.told = 0;
            let suppressed = core::mem::take(&mut f.suppressed);
            ended.extend((suppressed > 0).then(|| (Arc::clone(name(suspects)), suppressed)));
        }
        for (who, suppressed) in ended {
            self.tell_storm(&who, Some((suppressed, true)));
        }
    }

    /// `device` is gone: what it did, or may have done.
    pub(crate) fn forget_faults(&self, device: &str) {
        self.faults().0.lock().retain(|(at, devices), _| &**at != device && devices.iter().all(|d| &**d != device));
    }

    /// Refused accesses of each device that had any since it was added, by name.
    pub fn fault_counts(&self) -> Vec<FaultCount> {
        let mut counts: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
        for (suspects, f) in self.faults().0.lock().iter() {
            let (total, suppressed) = counts.entry(Arc::clone(name(suspects))).or_default();
            (*total, *suppressed) = (*total + f.total, *suppressed + f.suppressed);
        }
        counts.into_iter().map(|(device, (total, suppressed))| FaultCount { device, total, suppressed }).collect()
    }
}
