//! Set-up, step by step, in the order whose reverse is the way back.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::{AnyBinding, Bound, Entry, HoldingKind, Phase, ResourceError, WayBack};
use crate::device::SupplierKind;
use crate::driver::{Busy, DmaOwner, Missing, ProbeError, Quiet};
use crate::env::Site;
use crate::event::{EventKind, Outcome};
use crate::machine::Machine;
use crate::promise::Promise;
use crate::sync::atomic::Ordering;
use crate::{dma, iommu, power};

/// Fills the ledger of `binding` until the driver holds the device. On an error the caller unwinds what is there.
pub(crate) fn bring_up(binding: &Arc<dyn AnyBinding>) -> Result<(), ProbeError> {
    let bound = binding.bound();
    firmware_needs(bound)?;
    suppliers(bound)?;
    power::acquire(bound, SupplierKind::Power, Site::PowerOn)?;
    power::acquire(bound, SupplierKind::Clock, Site::ClockEnable)?;
    power::acquire(bound, SupplierKind::Reset, Site::ResetDeassert)?;
    power::reset_after_user(bound)?;
    iommu::claim(bound)?;
    dma::configure(bound)?;
    publish(binding)?;
    bound.device().binding().map_or(Err(ProbeError::NoDevice), |b| b.probe())?;
    let data = bound.push(0, DataEntry(Arc::clone(binding)))?;
    bound.ledger.set_first_out(data);
    binding.open();
    Ok(())
}

/// Refuses a device of which firmware says that it needs something, but not what: it would run without its clock, or
/// untranslated (P10).
fn firmware_needs(bound: &Bound) -> Result<(), ProbeError> {
    bound.machine().unmet(bound.desc()).next().map_or(Ok(()), |unmet| Err(ProbeError::Unmet(unmet.clone())))
}

/// Step 1: every supplier is there, and stays while this entry lives (P6).
fn suppliers(bound: &Bound) -> Result<(), ProbeError> {
    bound.check(Site::LinkAcquire)?;
    if let Some(node) = bound.machine().probe_begins(bound.device().node()) {
        return Err(ProbeError::Defer { on: Missing::Node(node) });
    }
    bound.push(0, LinksEntry)?;
    Ok(())
}

struct LinksEntry;

impl Entry for LinksEntry {
    fn kind(&self) -> HoldingKind {
        HoldingKind::Links
    }

    fn what(&self) -> String {
        "suppliers".into()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        let machine: &Machine = way.bound.machine();
        let node = way.bound.device().node();
        let alive = machine.suppliers_alive(node);
        machine.promises.check(Promise::SuppliersOutlast, alive, || {
            format!("{}: a supplier was unbound before its consumer", way.bound.name())
        });
        machine.promises.check(Promise::SuppliersOutlast, way.bound.ledger.len() == 0, || {
            format!("{}: its suppliers may go while it holds what they supply", way.bound.name())
        });
        machine.consumer_unbound(node);
        Outcome::Returned
    }
}

/// Step 5: the device's `driver` link and files appear, and listeners are told.
fn publish(binding: &Arc<dyn AnyBinding>) -> Result<(), ResourceError> {
    let bound = binding.bound();
    bound.check(Site::ControlEntry)?;
    let driver = binding.driver();
    *bound.device().visible_driver.lock() = Some(driver);
    bound.push(0, ControlEntry(driver))?;
    bound.announced.store(true, Ordering::Release);
    bound.emit(|| EventKind::Bind { driver: driver.into() });
    Ok(())
}

struct ControlEntry(&'static str);

impl Entry for ControlEntry {
    fn kind(&self) -> HoldingKind {
        HoldingKind::Control
    }

    fn what(&self) -> String {
        format!("drivers/{}", self.0)
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        *way.bound.device().visible_driver.lock() = None;
        Outcome::Returned
    }
}

/// Step 7: the driver's data. On the way back users are shut out, the device is stopped (P11), those inside leave, and
/// the data is dropped (P5).
struct DataEntry(Arc<dyn AnyBinding>);

impl DataEntry {
    /// Evidence that the device is quiet: from the driver, else by force.
    fn stop(&self, bound: &Bound) -> Option<Quiet> {
        let stopped = match bound.check(Site::Quiesce) {
            Ok(()) => self.0.quiesce().unwrap_or(Err(Busy("there is no driver data to ask"))),
            Err(_) => Err(Busy("injected: the device ignores the stop")),
        };
        match stopped {
            Ok(quiet) => Some(quiet),
            Err(busy) => {
                bound.emit(|| EventKind::QuiesceFailed { error: busy.to_string() });
                let quiet = if bound.device().is_gone() {
                    Some(Quiet::gone())
                } else {
                    // Those inside may be at the registers, which do not answer once the device is held in reset.
                    self.0.drain();
                    power::force_quiet(bound)
                };
                bound.machine().promises.check(Promise::QuietFirst, quiet != Some(Quiet::stopped()), || {
                    format!("{}: it did not stop ({busy}), and counts as stopped", bound.name())
                });
                quiet
            }
        }
    }
}

impl Entry for DataEntry {
    fn kind(&self) -> HoldingKind {
        HoldingKind::Data
    }

    fn what(&self) -> String {
        self.0.driver().into()
    }

    fn backend(&self) -> String {
        "driver".into()
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        let bound = way.bound;
        if !bound.device().is_gone() {
            self.0.wind_down();
        }
        self.0.close();
        way.quiet = self.stop(bound);
        bound.set_evidence(way.quiet.clone());
        if bound.owner() == DmaOwner::PassThrough {
            bound.device().left_by_user.store(way.quiet.is_none(), Ordering::Release);
        }
        if let Some(quiet) = &way.quiet {
            bound.emit(|| EventKind::Quiet { how: quiet.how().into() });
        }
        if bound.device().phase() == Phase::Quiescing {
            bound.device().set_phase(bound.machine().env(), Phase::Releasing);
        }
        self.0.drop_data();
        let late = self.0.interrupt(0).is_some();
        bound.machine().promises.check(Promise::NobodyInside, !late, || {
            format!("{}: driver data was reached after it was dropped", bound.name())
        });
        Outcome::Returned
    }
}
