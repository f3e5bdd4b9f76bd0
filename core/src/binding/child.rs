//! Devices that a driver adds below its own.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::{Bound, Entry, Reservation, ResourceError, ResourceKind, UnwindCtx};
use crate::device::{Device, DeviceDesc, Supplier, SupplierKind};
use crate::error::AddError;
use crate::event::{Cause, EventKind, Outcome};

impl Bound {
    /// Adds a device below this one: a function of a chip with several, a port of a hub, a client of a bus.
    ///
    /// The child belongs to this binding. It is linked to this device, so that it is probed when this one is bound, not
    /// before; and when this binding ends, in whatever way, the child is unbound and taken off its bus before this device
    /// is stopped. A device that vanishes takes its children with it. To take a child off earlier, remove it by name
    /// ([`Machine::remove_device`](crate::machine::Machine::remove_device)).
    ///
    /// # Errors
    ///
    /// [`ResourceError::ChildExists`] and [`ResourceError::ChildName`]; an event has the name.
    pub fn add_child(&self, desc: DeviceDesc) -> Result<Arc<Device>, ResourceError> {
        let reservation = self.reservation()?;
        self.add_below(reservation, desc).map_err(|error| {
            self.emit(|| EventKind::Refused { what: "a child".into(), reason: error.to_string() });
            match error {
                AddError::Exists(_) => ResourceError::ChildExists,
                AddError::BadName(_) | AddError::NameTooLong(_) | AddError::ReservedName(_) => ResourceError::ChildName,
            }
        })
    }

    /// The same for driver code that asks the machine instead of the binding. It may be another device's, and come when
    /// the way back of this one has begun: then the device is nobody's, and waits for this one's next binding.
    pub(crate) fn adopt(&self, mut desc: DeviceDesc) -> Result<Arc<Device>, AddError> {
        below(&mut desc, self.device());
        let child = Arc::clone(self.registry()).admit(desc)?;
        let entry = ChildEntry(Arc::clone(&child));
        let (resource, what, backend) = (entry.kind().name(), entry.what(), entry.backend());
        if let Ok(id) = self.ledger.push(0, Box::new(entry)) {
            self.emit(|| EventKind::Acquired { entry: id, resource, what, backend });
        }
        Ok(child)
    }

    fn add_below(&self, reservation: Reservation, mut desc: DeviceDesc) -> Result<Arc<Device>, AddError> {
        below(&mut desc, self.device());
        let child = Arc::clone(self.registry()).admit(desc)?;
        self.push_reserved(reservation, 0, ChildEntry(Arc::clone(&child)));
        Ok(child)
    }

    /// `child`, which this binding had added, was removed by somebody else: the ledger forgets it.
    pub(crate) fn child_left(&self, child: &Arc<Device>) {
        if let Some((id, entry)) = self.ledger.take_where(|entry| entry.is_child(child)) {
            self.release_early(id, entry);
        }
    }
}

/// Puts the device of `desc` below `parent`, with a link to it.
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
        // The child is a consumer of this device, so it was unbound before this way back began, and nobody can bind it
        // meanwhile. Lock order: a parent's device lock comes before its child's.
        let cause = if ctx.bound.device().is_gone() { Cause::SurpriseRemoved } else { Cause::DeviceRemoved };
        Arc::clone(ctx.bound.registry()).take_off(&self.0, cause);
        Outcome::Returned
    }
}
