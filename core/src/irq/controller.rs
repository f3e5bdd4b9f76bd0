//! Interrupt controllers that are devices: a GPIO expander, a multiplexer.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::fmt;

use super::{IrqTable, LineKey};
use crate::binding::{Bound, ResourceError, Scope};
use crate::claim::{Provider, Subject};
use crate::device::{NodeId, Resource};
use crate::driver::ProbeError;
use crate::env::{EnvError, IrqControl, Trigger};
use crate::machine::Machine;

/// A device that takes other devices' interrupts and passes them on by its own; its driver offers it with
/// [`Bound::provide_interrupts`].
///
/// The methods are called with the core's table of lines locked: they may use registers, and must not call the core
/// otherwise.
pub trait InterruptController: Send + Sync {
    /// The line that a specifier names, as firmware writes it, and what on it is a request. `None` when there is no such
    /// line.
    fn translate(&self, specifier: &[u32]) -> Option<(u32, Trigger)>;

    /// Changes how a line is delivered. Lines are off until they are enabled; a request on a line that is masked is kept.
    fn control(&self, line: u32, control: IrqControl) -> Result<(), EnvError>;

    /// Clears what is latched of a request: before it is served when it is an edge, afterwards when it is a level. Called
    /// without the table's lock.
    fn acknowledge(&self, line: u32) {
        let _ = line;
    }
}

/// The way on for the requests that an interrupt controller has received.
#[derive(Clone)]
pub struct InterruptLines {
    machine: Weak<Machine>,
    node: NodeId,
}

impl InterruptLines {
    /// Delivers a request on `line` to the drivers that have it, before it returns: the controller's driver calls it from its
    /// own [`interrupt`](crate::driver::Driver::interrupt). False when nobody has the line.
    pub fn deliver(&self, line: u32) -> bool {
        self.machine.upgrade().is_some_and(|machine| machine.irqs.deliver(&machine, (Some(self.node), line)))
    }
}

impl fmt::Debug for InterruptLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterruptLines(node {})", self.node.0)
    }
}

impl Bound {
    /// Offers the lines of this device, an interrupt controller, to the devices behind it, from the moment that it is
    /// bound until the binding ends; they are unbound before that.
    pub fn provide_interrupts(&self, lines: Arc<dyn InterruptController>) -> Result<InterruptLines, ResourceError> {
        self.provide::<dyn InterruptController>(lines)?;
        Ok(InterruptLines { machine: Arc::downgrade(self.machine()), node: self.device().node() })
    }
}

/// A line that a device asks for, with who switches it.
pub(crate) struct Wanted {
    pub(crate) key: LineKey,
    pub(crate) trigger: Trigger,
    pub(crate) subject: Subject,
    /// `None` for the machine's own controller.
    pub(crate) controller: Option<Arc<dyn InterruptController>>,
    /// Its name.
    pub(crate) by: String,
}

impl IrqTable {
    /// Finds the device's interrupt number `index`, and whoever delivers it.
    pub(crate) fn wanted(scope: &Scope<'_>, index: usize) -> Result<Wanted, ResourceError> {
        let bound = scope.bound;
        let mut lines = bound.desc().resources.iter().filter(|r| !matches!(r, Resource::Mem { .. }));
        match lines.nth(index) {
            Some(Resource::Irq { line, trigger }) => Ok(Wanted {
                key: (None, line.0),
                trigger: *trigger,
                subject: Subject::Interrupt { controller: None, line: line.0 },
                controller: None,
                by: "env".into(),
            }),
            Some(Resource::IrqBehind { controller: node, specifier }) => {
                let name = bound.machine().node_name(*node);
                let controller = match bound.supplier::<dyn InterruptController>(*node) {
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
                Ok(Wanted {
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
