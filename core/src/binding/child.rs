//! Child devices that a driver adds below its own.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt::Display;

use super::{BindingState, Bound, Entry, Reservation, ResourceError, ResourceKind, UnwindCtx};
use crate::bus::{BusDevice, Departure};
use crate::device::{Device, DeviceDesc, Supplier, SupplierKind};
use crate::error::AddError;
use crate::event::{Cause, EventKind, Outcome};
use crate::lifecycle::Quiesced;

impl Bound<'_> {
    /// Adds a child device: a function of a multi-function chip, a port of a hub, a client of a bus.
    ///
    /// The child belongs to this binding. It is linked to this device, so it is probed only once this device is bound; and
    /// however this binding ends, the child is unbound and removed from its bus before this device is stopped. Surprise
    /// removal of a device removes its children. To remove a child earlier, remove it by name
    /// ([`Machine::remove_device`](crate::machine::Machine::remove_device)).
    ///
    /// # Errors
    ///
    /// [`ResourceError::ChildExists`] when a device of that name or node exists, [`ResourceError::ChildName`] when the name
    /// cannot be used (an event says why), [`ResourceError::Unbinding`] once the binding is being torn down.
    pub fn add_child(&self, desc: DeviceDesc) -> Result<Arc<Device>, ResourceError> {
        self.add_below(desc, None)
    }

    /// As [`add_child`](Self::add_child), for the driver of a bus: the core asks `bus` about the child.
    ///
    /// # Errors
    ///
    /// As [`add_child`](Self::add_child).
    pub fn add_child_on(&self, desc: DeviceDesc, bus: Arc<dyn BusDevice>) -> Result<Arc<Device>, ResourceError> {
        self.add_below(desc, Some(bus))
    }

    /// Has the child called `name` leave its bus, once this thread has returned from driver code: its binding ends then, which may wait for
    /// its driver. False when there is no such child.
    pub fn remove_child(&self, name: &str, how: Departure) -> bool {
        self.has_child(name) && self.state.registry().device_departs(name, how)
    }

    /// Returns true while there is a child called `name`.
    pub fn has_child(&self, name: &str) -> bool {
        self.state.registry().has_child(self.state.device().node(), name)
    }

    /// Has devices that wait for a driver probed, once this thread has returned from driver code.
    pub fn probe_children(&self) {
        self.state.registry().settle_later();
    }

    /// Reports an error of the child called `name`, which it, or another one, has told to `port`.
    pub fn report_error(&self, name: &str, severity: &'static str, port: &dyn Display, what: &dyn Display) {
        let event = || EventKind::BusError { severity, port: port.to_string(), what: what.to_string() };
        self.state.system().emit(Some(&name.into()), event);
    }

    /// Reports that the link below the child called `name` went down, for this reason, or that it is up again.
    pub fn report_link(&self, name: &str, down: Option<&dyn Display>) {
        let event = || down.map_or(EventKind::LinkUp, |reason| EventKind::LinkDown { reason: reason.to_string() });
        self.state.system().emit(Some(&name.into()), event);
    }

    fn add_below(&self, desc: DeviceDesc, bus: Option<Arc<dyn BusDevice>>) -> Result<Arc<Device>, ResourceError> {
        let reservation = self.state.reservation()?;
        self.state.add_below(reservation, desc, bus).map_err(|error| {
            self.state.emit(|| EventKind::Refused { what: "a child".into(), reason: error.to_string() });
            match error {
                AddError::Exists(_) => ResourceError::ChildExists,
                AddError::BadName(_) | AddError::NameTooLong(_) | AddError::ReservedName(_) => ResourceError::ChildName,
            }
        })
    }
}

impl BindingState {
    /// Adds a child on behalf of driver code that called the machine instead of the binding. The caller may be another
    /// device's driver, and unwinding of this binding may have begun: the child then belongs to no binding and waits for
    /// the next one.
    pub(crate) fn adopt(&self, mut desc: DeviceDesc) -> Result<Arc<Device>, AddError> {
        below(&mut desc, self.device());
        let child = Arc::clone(self.registry()).admit(desc, None)?;
        let entry = ChildEntry(Arc::clone(&child));
        let (resource, what, backend) = (entry.kind().name(), entry.what(), entry.backend());
        if let Ok(id) = self.ledger.push(0, Box::new(entry)) {
            self.emit(|| EventKind::Acquired { entry: id.number(), resource, what, backend });
        }
        Ok(child)
    }

    fn add_below(
        &self,
        reservation: Reservation,
        mut desc: DeviceDesc,
        bus: Option<Arc<dyn BusDevice>>,
    ) -> Result<Arc<Device>, AddError> {
        below(&mut desc, self.device());
        let child = Arc::clone(self.registry()).admit(desc, bus)?;
        self.push_reserved(reservation, 0, ChildEntry(Arc::clone(&child)));
        Ok(child)
    }

    /// Drops the ledger entry of `child`, which was removed by other means.
    pub(crate) fn child_left(&self, child: &Arc<Device>) {
        if let Some((id, entry)) = self.ledger.take_where(|entry| entry.is_child(child)) {
            self.release_early(id, entry);
        }
    }
}

/// Makes `parent` the parent and a supplier of the device of `desc`.
fn below(desc: &mut DeviceDesc, parent: &Device) {
    let node = parent.node();
    desc.parent = Some(node);
    if !desc.suppliers.iter().any(|s| s.node == node) {
        let property = "parent".into();
        desc.suppliers.push(Supplier { node, target: node, kind: SupplierKind::Other, property, args: [].into() });
    }
}

/// Ledger entry of a child.
struct ChildEntry(Arc<Device>);

impl Entry for ChildEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Child
    }

    fn what(&self) -> String {
        self.0.name().into()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn is_child(&self, device: &Arc<Device>) -> bool {
        Arc::ptr_eq(&self.0, device)
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        // The child is a consumer of this device, so it was unbound before unwinding began and cannot be bound meanwhile.
        // Lock order: a parent's device lock comes before its child's.
        let gone = ctx.bound.device().gone_proof();
        let cause = match &gone {
            None => Cause::DeviceRemoved,
            Some(gone) if *gone == Quiesced::link_down() => Cause::LinkDown,
            Some(_) => Cause::SurpriseRemoved,
        };
        gone.inspect(|gone| self.0.set_gone(gone));
        Arc::clone(ctx.bound.registry()).take_off(&self.0, cause);
        Outcome::Returned
    }
}
