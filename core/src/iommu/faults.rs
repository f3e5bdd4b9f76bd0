//! Rate-limited reports of refused accesses.
//!
//! A device, possibly controlled by a guest, must not be able to flood the host's log. For each device the first faults
//! of a burst are reported one by one. Further ones are counted, and one is reported in each period, with the count so
//! far, until the device has caused no fault for a while. Devices that an IOMMU cannot distinguish are counted
//! together; a storm of one device does not hide faults of others that can be distinguished from it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::env::Instant;
use crate::event::EventKind;
use crate::sync::SpinLock;
use crate::system::System;

/// Number of faults of a burst that are reported one by one.
const BURST: u32 = 10;

/// Time without faults after which a burst has ended.
const QUIET_TIME: Duration = Duration::from_secs(5);

/// Period in which one fault of an ongoing burst is reported, with the number of suppressed ones.
const REPORT_PERIOD: Duration = Duration::from_mins(1);

#[derive(Default)]
struct FaultState {
    last: Instant,
    /// Time of the last report.
    reported_at: Instant,
    reported: u32,
    /// Suppressed faults of this burst.
    suppressed: u64,
    /// Faults of all bursts.
    total: u64,
}

/// Possible source of a fault: the IOMMU, and the devices that it cannot distinguish.
type FaultSource = (Arc<str>, Vec<Arc<str>>);

/// Fault states, by source: a device, or a set of devices that cannot be distinguished.
#[derive(Default)]
pub(crate) struct Faults(SpinLock<BTreeMap<FaultSource, FaultState>>);

/// Name under which faults of a source are reported and listed.
fn name((iommu, devices): &FaultSource) -> &Arc<str> {
    match &**devices {
        [device] => device,
        _ => iommu,
    }
}

/// Fault counts of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FaultCount {
    /// The device, or the IOMMU for faults whose device is not known.
    pub device: Arc<str>,
    /// Refused accesses so far.
    pub total: u64,
    /// Suppressed faults of the current or last burst.
    pub suppressed: u64,
}

impl System {
    /// Counts a fault at `iommu`, of one of `devices`. True when it is to be reported.
    pub(super) fn should_report_fault(&self, iommu: &Arc<str>, devices: &[Arc<str>]) -> bool {
        let now = self.env().now();
        // Faults of one device at several IOMMUs are counted together.
        let at = if let [device] = devices { device } else { iommu };
        let source = (Arc::clone(at), devices.to_vec());
        let (reported, storm) = {
            let mut all = self.faults().0.lock();
            let f = all.entry(source.clone()).or_default();
            f.total += 1;
            let mut storm = None;
            if now.since(f.last) >= QUIET_TIME {
                let ended = core::mem::take(&mut f.suppressed);
                storm = (ended > 0).then_some((ended, true));
                f.reported = 0;
            }
            f.last = now;
            let reported = f.reported < BURST || now.since(f.reported_at) >= REPORT_PERIOD;
            if reported {
                f.reported = f.reported.saturating_add(1);
                f.reported_at = now;
                storm = storm.or((f.suppressed > 0).then_some((f.suppressed, false)));
            } else {
                f.suppressed += 1;
                // Reported once at its beginning, then each time it has grown tenfold.
                let power = core::iter::successors(Some(1u64), |n| n.checked_mul(10)).any(|n| n == f.suppressed);
                storm = power.then_some((f.suppressed, false));
            }
            (reported, storm)
        };
        self.report_storm(name(&source), storm);
        reported
    }

    fn report_storm(&self, device: &Arc<str>, storm: Option<(u64, bool)>) {
        if let Some((suppressed, over)) = storm {
            self.emit(Some(device), || EventKind::FaultStorm { suppressed, over });
        }
    }

    /// Ends the bursts of a source with `device`, whose binding has ended, and reports their suppressed faults.
    pub(crate) fn faults_end(&self, device: &Arc<str>) {
        let mut ended = Vec::new();
        for (source, f) in self.faults().0.lock().iter_mut().filter(|((_, devices), _)| devices.contains(device)) {
            f.reported = 0;
            let suppressed = core::mem::take(&mut f.suppressed);
            ended.extend((suppressed > 0).then(|| (Arc::clone(name(source)), suppressed)));
        }
        for (device, suppressed) in ended {
            self.report_storm(&device, Some((suppressed, true)));
        }
    }

    /// Removes the fault states of sources with `device`, which is gone.
    pub(crate) fn forget_faults(&self, device: &str) {
        self.faults().0.lock().retain(|(at, devices), _| &**at != device && devices.iter().all(|d| &**d != device));
    }

    /// Refused accesses of each device that had any since it was added, by name.
    pub fn fault_counts(&self) -> Vec<FaultCount> {
        let mut counts: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
        for (source, f) in self.faults().0.lock().iter() {
            let (total, suppressed) = counts.entry(Arc::clone(name(source))).or_default();
            (*total, *suppressed) = (*total + f.total, *suppressed + f.suppressed);
        }
        counts.into_iter().map(|(device, (total, suppressed))| FaultCount { device, total, suppressed }).collect()
    }
}
