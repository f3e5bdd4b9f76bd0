//! Interrupt controllers that are devices, such as a GPIO expander or a multiplexer.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::fmt;

use super::{IrqTable, LineKey};
use crate::binding::{Bound, ResourceError};
use crate::claim::{Provider, Subject};
use crate::device::{NodeId, Resource};
use crate::driver::ProbeError;
use crate::env::{EnvError, IrqControl, Trigger};
use crate::system::System;

/// Secondary interrupt controller: a device that receives other devices' interrupts and signals them by its own. Its
/// driver registers it with [`Bound::provide_interrupts`].
///
/// The methods are called with the core's table of lines locked: they may access registers, and must not call the core
/// otherwise.
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
    /// table's lock.
    fn acknowledge(&self, line: u32) {
        let _ = line;
    }
}

/// Handle by which an interrupt controller's driver delivers the requests that it has received.
#[derive(Clone)]
pub struct InterruptLines {
    system: Weak<System>,
    node: NodeId,
}

impl InterruptLines {
    /// Calls the handlers of `line` and returns after them; the controller's driver calls it from its own
    /// [`interrupt`](crate::driver::Driver::interrupt). False when the line has no user.
    pub fn deliver(&self, line: u32) -> bool {
        self.system.upgrade().is_some_and(|machine| machine.irqs().deliver(&machine, (Some(self.node), line)))
    }
}

impl fmt::Debug for InterruptLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterruptLines(node {})", self.node.0)
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
        self.provide::<dyn InterruptController>(lines)?;
        Ok(InterruptLines { system: Arc::downgrade(self.state.system()), node: self.state.device().node() })
    }
}

/// Resolved interrupt of a device: line, trigger and controller.
pub(crate) struct LineRequest {
    pub(crate) key: LineKey,
    pub(crate) trigger: Trigger,
    pub(crate) subject: Subject,
    /// `None` for the machine's own controller.
    pub(crate) controller: Option<Arc<dyn InterruptController>>,
    /// Name of the controller.
    pub(crate) by: String,
}

impl IrqTable {
    /// Resolves the device's interrupt number `index`.
    pub(crate) fn line_request(dev: Bound<'_>, index: usize) -> Result<LineRequest, ResourceError> {
        let mut lines = dev.desc().resources.iter().filter(|r| !matches!(r, Resource::Mem { .. }));
        match lines.nth(index) {
            Some(Resource::Irq { line, trigger }) => Ok(LineRequest {
                key: (None, line.0),
                trigger: *trigger,
                subject: Subject::Interrupt { controller: None, line: line.0 },
                controller: None,
                by: "env".into(),
            }),
            Some(Resource::IrqBehind { controller: node, specifier }) => {
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
                Ok(LineRequest {
                    key: (Some(*node), line),
                    trigger,
                    subject: Subject::Interrupt { controller: Some(provider), line },
                    controller: Some(controller),
                    by: name,
                })
            }
            _ => Err(ResourceError::Absent { kind: "interrupt", index }),
        }
    }
}
