//! The set-up steps of a binding, in order. Unwinding reverses that order.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::Machine;
use crate::binding::{AnyBinding, BindingState, Entry, Phase, ResourceError, ResourceKind, UnwindCtx};
use crate::bus::BusError;
use crate::device::{BusKind, SupplierKind};
use crate::driver::{DmaOwner, Missing, ProbeError, QuiesceError, Quiesced};
use crate::env::IoError;
use crate::event::{EventKind, Outcome};
use crate::instrument::FaultPoint;
use crate::promise::Promise;
use crate::sync::atomic::Ordering;
use crate::{dma, iommu, power};

/// Runs all set-up steps, each of which puts an entry on the ledger of `binding`. On an error the caller unwinds it.
pub(super) fn bring_up(machine: &Arc<Machine>, binding: &Arc<dyn AnyBinding>) -> Result<(), ProbeError> {
    let bound = binding.bound();
    firmware_needs(machine, bound)?;
    suppliers(machine, bound)?;
    power::acquire(bound, SupplierKind::Power, FaultPoint::PowerOn)?;
    power::acquire(bound, SupplierKind::Clock, FaultPoint::ClockEnable)?;
    power::acquire(bound, SupplierKind::Reset, FaultPoint::ResetDeassert)?;
    power::claim_buses(bound)?;
    power::reset_after_user(bound)?;
    iommu::claim(bound)?;
    dma::configure(bound)?;
    bus_master(bound)?;
    publish(machine, binding)?;
    // Before the probe: what it has made cannot be refused afterwards, when its device runs and has children.
    let data = bound.reservation()?;
    bound.device().binding().map_or(Err(ProbeError::NoDevice), |b| b.probe())?;
    let data = bound.push_reserved(data, 0, DataEntry(Arc::clone(binding)));
    bound.ledger.set_release_first(data);
    dma::admit_users(bound);
    binding.open();
    bound.open_work();
    Ok(())
}

/// Refuses a device with a need that firmware does not describe completely: it would run without its clock, or
/// untranslated (P10).
fn firmware_needs(machine: &Machine, bound: &BindingState) -> Result<(), ProbeError> {
    machine.unmet(bound.desc()).next().map_or(Ok(()), |unmet| Err(ProbeError::Unmet(unmet.clone())))
}

/// Step 1: every supplier is bound, and stays so while this entry exists (P6).
fn suppliers(machine: &Arc<Machine>, bound: &BindingState) -> Result<(), ProbeError> {
    bound.check(FaultPoint::LinkAcquire)?;
    if let Some(node) = machine.probe_begins(bound.device().node()) {
        return Err(ProbeError::Defer { on: Missing::Node(node) });
    }
    bound.push(0, LinksEntry(Arc::clone(machine)))?;
    Ok(())
}

struct LinksEntry(Arc<Machine>);

impl Entry for LinksEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Links
    }

    fn what(&self) -> String {
        "suppliers".into()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let machine = &self.0;
        let node = ctx.bound.device().node();
        let alive = machine.suppliers_alive(node);
        machine.promises.check(Promise::SuppliersOutlast, alive, || {
            format!("{}: a supplier was unbound before its consumer", ctx.bound.name())
        });
        machine.promises.check(Promise::SuppliersOutlast, ctx.bound.ledger.len() == 0, || {
            format!("{}: its links are released while it still holds resources of its suppliers", ctx.bound.name())
        });
        machine.consumer_unbound(node);
        Outcome::Returned
    }
}

/// Step 5: the device's bus lets it access memory, now that its translation stands. When the binding ends, `unwind` has stopped it
/// before any memory is released.
fn bus_master(bound: &BindingState) -> Result<(), ProbeError> {
    let Some(bus) = bound.device().bus() else {
        // Of a function that is only described, users claim the buses all the same.
        if power::has_claimed_buses(bound.desc()) {
            bound.push(0, BusMasterEntry)?;
        }
        return Ok(());
    };
    bound.push(0, BusMasterEntry)?;
    let cut_off = &bound.device().cut_off;
    if cut_off.load(Ordering::Relaxed) {
        // With memory it would go on with the addresses of its last driver, or of firmware, which are others' by now.
        match bus.reset() {
            // So it reaches nothing any more of what its last binding has left in quarantine (P11).
            Ok(true) => bound.registry().device_quiesced(bound.device(), &Quiesced::in_reset()),
            Ok(false) | Err(BusError::Busy) => {
                let text =
                    "not known to be stopped: no access to memory until its driver says that it is (mark_quiesced)"
                        .into();
                bound.emit(|| EventKind::Log { text });
                // Its registers answer all the same, for that driver to look.
                return match bus.set_bus_master(false) {
                    Err(BusError::Gone) => Err(ProbeError::Io(IoError::Gone)),
                    Ok(()) | Err(BusError::Busy) => Ok(()),
                };
            }
            Err(BusError::Gone) => return Err(ProbeError::Io(IoError::Gone)),
        }
        cut_off.store(false, Ordering::Relaxed);
    }
    bus.set_bus_master(true).map_err(|error| match error {
        BusError::Gone => ProbeError::Io(IoError::Gone),
        BusError::Busy => ProbeError::Device("its bus does not let it access memory"),
    })
}

struct BusMasterEntry;

impl Entry for BusMasterEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::BusMaster
    }

    fn what(&self) -> String {
        "access to memory".into()
    }

    fn backend(&self) -> String {
        "bus".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        // It is off: `unwind` has seen to that before the first release. A reset does not switch it on again.
        power::BusResets::close(ctx.bound);
        Outcome::Returned
    }
}

/// Step 6: the device's `driver` link and files appear, and the event `Bind` is emitted. A link cannot have the name of a file beside
/// it (linux-6.12 `drivers/base/dd.c`, `driver_sysfs_add`).
fn publish(machine: &Machine, binding: &Arc<dyn AnyBinding>) -> Result<(), ResourceError> {
    let bound = binding.bound();
    bound.check(FaultPoint::ControlEntry)?;
    let driver = binding.driver();
    if bound.desc().bus != BusKind::Early && machine.driver_files(driver).contains(&bound.name()) {
        return Err(ResourceError::NameTaken { driver, name: Arc::clone(&bound.desc().name) });
    }
    *bound.device().visible_driver.lock() = Some(driver);
    bound.push(0, ControlEntry(driver))?;
    // Release, after the push: a reader that sees the flag sees the entry, too.
    bound.bind_emitted.store(true, Ordering::Release);
    bound.emit(|| EventKind::Bind { driver: driver.into() });
    Ok(())
}

struct ControlEntry(&'static str);

impl Entry for ControlEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Control
    }

    fn what(&self) -> String {
        format!("drivers/{}", self.0)
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        *ctx.bound.device().visible_driver.lock() = None;
        Outcome::Returned
    }
}

/// Stops a device that its driver could not stop: its bus keeps it from memory, or it is held in reset.
pub(super) fn quiesce_by_force(bound: &BindingState) -> Option<Quiesced> {
    let machine = bound.system();
    // Its handlers read its registers, which do not answer once it is held in reset.
    let silence = || machine.irqs().silence(machine, bound.device().node());
    bound.quiesce_by_bus().or_else(|| power::quiesce_by_reset(bound, silence))
}

/// Step 8: the driver's data. Its release revokes access, stops the device (P11), waits for active users, and drops the
/// data (P5).
struct DataEntry(Arc<dyn AnyBinding>);

impl DataEntry {
    /// Proof that the device is quiesced: from the driver, else by a reset.
    fn stop(&self, bound: &BindingState) -> Option<Quiesced> {
        let stopped = match bound.check(FaultPoint::Quiesce) {
            Ok(()) => self.0.quiesce().unwrap_or(Err(QuiesceError("there is no driver data"))),
            Err(_) => Err(QuiesceError("injected: the device ignores the stop")),
        };
        match stopped {
            Ok(quiesced) => Some(quiesced),
            Err(busy) => {
                bound.emit(|| EventKind::QuiesceFailed { error: busy.to_string() });
                let quiesced = if let Some(gone) = bound.device().gone_proof() {
                    Some(gone)
                } else {
                    // Drained first: active users may access registers, which do not answer once the device is held in reset.
                    self.0.drain();
                    quiesce_by_force(bound)
                };
                bound.system().promises.check(Promise::QuiescedFirst, quiesced != Some(Quiesced::stopped()), || {
                    format!("{}: it did not stop ({busy}), and counts as stopped", bound.name())
                });
                quiesced
            }
        }
    }
}

impl Entry for DataEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Data
    }

    fn what(&self) -> String {
        self.0.driver().into()
    }

    fn backend(&self) -> String {
        "driver".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        let bound = ctx.bound;
        if !bound.device().is_gone() {
            self.0.request_release();
        }
        self.0.close();
        bound.close_work();
        // Before the stop: one that fails, or does not get to the users, must not leave them a device that is stopped by force next.
        dma::shut_users_out(bound);
        ctx.quiesced = self.stop(bound);
        bound.set_quiesce_proof(ctx.quiesced.clone());
        if bound.owner() == DmaOwner::PassThrough {
            // Kept from memory by its bus alone, it has all that its user left in it (P12).
            let reset = ctx.quiesced.as_ref().is_some_and(|proof| *proof != Quiesced::bus_master_off());
            // Release: pairs with the acquire in `reset_after_user`, at the start of the next binding.
            bound.device().left_by_user.store(!reset, Ordering::Release);
        }
        if let Some(quiesced) = &ctx.quiesced {
            bound.emit(|| EventKind::Quiesced { how: quiesced.how().into() });
        }
        if bound.device().phase() == Phase::Quiescing {
            bound.device().set_phase(bound.system(), Phase::Releasing);
        }
        self.0.drop_data();
        // Checked again after the drop: a user who still finds the data would use freed memory.
        bound.system().promises.check(Promise::NoUseAfterRevoke, !self.0.is_open(), || {
            format!("{}: users are let in after the driver data was dropped", bound.name())
        });
        Outcome::Returned
    }
}
