//! Interrupt controllers that are devices, such as a GPIO expander or a multiplexer.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use super::descriptor::Descriptor;
use super::domain::Domain;
use super::{IrqTable, VectorLines};
use crate::binding::{Bound, Entry, ResourceError, ResourceKind, UnwindCtx};
use crate::claim::{Provider, Subject};
use crate::device::Resource;
use crate::driver::ProbeError;
use crate::env::{EnvError, IrqControl, Trigger};
use crate::error::VectorError;
use crate::event::Outcome;
use crate::sync::Delivering;
use crate::system::System;

/// Secondary interrupt controller: a device that receives other devices' interrupts and signals them by its own. Its
/// driver registers it with [`Bound::provide_interrupts`].
///
/// The methods are called with a lock of the line held, and interrupts disabled, also in hard interrupt context: they may access
/// registers, and must not sleep or call the core otherwise.
pub trait InterruptController: Send + Sync {
    /// Line number and trigger for a firmware specifier. `None` when there is no such line.
    fn translate(&self, specifier: &[u32]) -> Option<(u32, Trigger)>;

    /// Enables, disables, masks or unmasks a line. Lines are disabled at first; a request on a masked line stays
    /// pending.
    ///
    /// # Errors
    ///
    /// The controller's registers are gone or do not respond.
    fn control(&self, line: u32, control: IrqControl) -> Result<(), EnvError>;

    /// Clears the latch of a request: before the handlers for an edge, afterwards for a level. Called without the
    /// line's lock.
    fn acknowledge(&self, line: u32) {
        let _ = line;
    }
}

/// Handle by which an interrupt controller's driver delivers the requests that it has received.
#[derive(Clone)]
pub struct InterruptLines {
    system: Weak<System>,
    domain: Arc<Domain>,
}

impl InterruptLines {
    /// Calls the handlers of `line` and returns after them. The controller's driver calls it from its own hard handler, or,
    /// when its registers are behind a bus on which accesses sleep, from the threaded part. Threaded parts of the handlers then
    /// run before this returns: they cannot wait for another request of this controller. False when the line has no user.
    pub fn deliver(&self, line: u32) -> bool {
        let Some(machine) = self.system.upgrade() else { return false };
        let delivered = {
            let _delivering = Delivering::enter();
            if let Some(descriptor) = self.domain.find(line) {
                descriptor.deliver(&machine)
            } else {
                // Spurious: mask it, so that it does not repeat.
                if let Some(controller) = self.domain.controller.as_ref().and_then(|place| place.enter()) {
                    let _ = controller.control(line, IrqControl::Mask);
                }
                false
            }
        };
        if machine.irqs().has_deferred() && !Delivering::is_active() {
            machine.run_deferred_interrupts();
        }
        delivered
    }
}

impl fmt::Debug for InterruptLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InterruptLines")
    }
}

/// Ledger entry of the lines that a controller offers.
struct LinesEntry(Arc<Domain>);

impl Entry for LinesEntry {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Service
    }

    fn what(&self) -> String {
        "interrupt lines".into()
    }

    fn backend(&self) -> String {
        "core".into()
    }

    fn release(self: Box<Self>, ctx: &mut UnwindCtx<'_>) -> Outcome {
        // Consumers are unbound, so only a spurious request is under way, if any.
        let place = self.0.controller.as_ref();
        if let Some(place) = place {
            place.close();
            ctx.bound.system().wait_for_users(ctx.bound.name(), place.drained_queue(), || place.drained(), Vec::new);
            drop(place.take());
        }
        Outcome::Returned
    }
}

impl Bound<'_> {
    /// Registers this device as an interrupt controller for the devices behind it, from the moment that it is bound
    /// until the binding ends; they are unbound before that.
    ///
    /// # Errors
    ///
    /// As [`provide`](Self::provide).
    pub fn provide_interrupts(&self, lines: Arc<dyn InterruptController>) -> Result<InterruptLines, ResourceError> {
        self.provide::<dyn InterruptController>(Arc::clone(&lines))?;
        let system = self.state.system();
        let domain = system.irqs().add_domain(self.state.device().node());
        let refused = domain.controller.as_ref().and_then(|place| place.publish(lines).err());
        debug_assert!(refused.is_none(), "the domain is new");
        self.state.push(0, LinesEntry(Arc::clone(&domain)))?;
        Ok(InterruptLines { system: Arc::downgrade(system), domain })
    }
}

/// Resolved interrupt of a device: line and trigger.
pub(crate) struct LineRequest {
    pub(crate) trigger: Trigger,
    pub(crate) subject: Subject,
    pub(super) line: Arc<Descriptor>,
    /// Name of the controller.
    pub(crate) by: String,
}

impl IrqTable {
    /// Resolves the device's interrupt number `index`.
    pub(crate) fn line_request(dev: Bound<'_>, index: usize) -> Result<LineRequest, ResourceError> {
        if let Some(vectors) = dev.state.slots.get::<VectorLines>() {
            let line = vectors.lines.get(index).ok_or(ResourceError::Absent { kind: "vector", index })?;
            if !dev.state.ledger.is_inside(dev.tag, vectors.tag) {
                let device = dev.state.device().name().into();
                return Err(ResourceError::Vectors(Box::new(VectorError::OtherGroup { device })));
            }
            return Ok(LineRequest {
                trigger: Trigger::EdgeRising,
                subject: Subject::Interrupt { controller: None, line: line.0 },
                line: dev.state.system().irqs().own.find_or_add(line.0),
                by: "env".into(),
            });
        }
        let mut lines = dev.desc().resources.iter().filter(|r| !matches!(r, Resource::Mem { .. }));
        Self::described_line(dev, lines.nth(index).ok_or(ResourceError::Absent { kind: "interrupt", index })?)
    }

    /// Resolves an interrupt that a description has.
    pub(crate) fn described_line(dev: Bound<'_>, line: &Resource) -> Result<LineRequest, ResourceError> {
        match line {
            Resource::Irq { line, trigger } => Ok(LineRequest {
                trigger: *trigger,
                subject: Subject::Interrupt { controller: None, line: line.0 },
                line: dev.state.system().irqs().own.find_or_add(line.0),
                by: "env".into(),
            }),
            Resource::IrqBehind { controller: node, specifier } => {
                let name = dev.state.system().node_name(*node);
                let controller = match dev.supplier::<dyn InterruptController>(*node) {
                    Ok(controller) => controller,
                    Err(ProbeError::Resource(ResourceError::NotProvided)) => {
                        return Err(ResourceError::NotDelivered(name.into()));
                    }
                    Err(ProbeError::Resource(error)) => return Err(error),
                    Err(_) => return Err(ResourceError::NotYet(*node)),
                };
                let no_such =
                    || ResourceError::NoSuchLine { controller: name.as_str().into(), specifier: specifier.clone() };
                let (line, trigger) = controller.translate(specifier).ok_or_else(no_such)?;
                let provider = Provider { node: *node, name: name.as_str().into() };
                let domain = dev.state.system().irqs().domain(*node);
                let domain = domain.ok_or_else(|| ResourceError::NotDelivered(name.as_str().into()))?;
                Ok(LineRequest {
                    trigger,
                    subject: Subject::Interrupt { controller: Some(provider), line },
                    line: domain.find_or_add(line),
                    by: name,
                })
            }
            Resource::Mem { .. } => Err(ResourceError::Absent { kind: "interrupt", index: 0 }),
        }
    }
}
