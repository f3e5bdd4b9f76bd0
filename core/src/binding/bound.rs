//! The bound handle: a driver's access to its device and resources.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::action::Action;
use super::mmio::{MmioEntry, Region};
use super::{BindingState, DevresGroup, GroupTag, Mmio, ResourceError};
use crate::claim::{Mode, Subject};
use crate::context::SystemClock;
use crate::device::{DeviceDesc, NodeId, Resource};
use crate::error::Missing;
use crate::event::EventKind;
use crate::instrument::FaultPoint;
use crate::lifecycle::{DmaOwner, Quiesced};

/// Bound handle of a device: a driver's access to the device and its resources.
///
/// A `Bound<'b>` proves that this driver is bound to the device, that the device's suppliers are present and enabled, and
/// that its DMA is set up. All of this holds for the lifetime `'b`, from which the resources borrow. Copies are
/// equivalent.
///
/// Acquired resources belong to the binding. Registers, interrupts, DMA memory, work items and actions acquired through the
/// handle of a [`DevresGroup`], or in [`devres`](Self::devres), belong to that group.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use std::time::Duration;
/// # example::bind(|dev| {
/// let irq = dev.irq(0)?;
/// let ring = dev.dma().coherent_slice::<u64>(16)?;
/// dev.log(format_args!("{} has a ring at {}", dev.name(), ring.device_addr()));
/// // The device raises an interrupt soon:
/// assert!(irq.wait(Duration::from_millis(10)).is_ok());
/// // Both are on the ledger, and released with the binding:
/// let kinds: Vec<_> = dev.resources().into_iter().map(|(_, kind, ..)| kind).collect();
/// assert!(kinds.ends_with(&["irq", "dma coherent"]));
/// # Ok(())
/// # });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bound<'b> {
    pub(crate) state: &'b BindingState,
    /// Devres group to which acquired resources belong; 0 for the binding itself.
    pub(crate) tag: GroupTag,
}

impl<'b> Bound<'b> {
    pub(crate) fn new(state: &'b BindingState, tag: GroupTag) -> Self {
        Self { state, tag }
    }

    /// Name of the device on its bus.
    pub fn name(&self) -> &'b str {
        self.state.name()
    }

    /// Firmware description of the device.
    pub fn desc(&self) -> &'b DeviceDesc {
        self.state.desc()
    }

    /// Raw value of a firmware property.
    pub fn property(&self, name: &str) -> Option<&'b [u8]> {
        self.desc().property(name)
    }

    /// Maps register window `index` of the device (entry of `reg`, from 0) for exclusive use.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Absent`] without such a window, [`ResourceError::Held`] when another user holds some of the
    /// registers, [`ResourceError::Env`] when the target cannot map them, [`ResourceError::Unbinding`] once the binding is
    /// being torn down.
    pub fn mmio(&self, index: usize) -> Result<Mmio<'b>, ResourceError> {
        self.map_registers(index, Mode::Exclusive)
    }

    /// Maps register window `index` of the device for shared use: a register block that firmware assigns to several
    /// devices. All users must request it as shared and must not interfere with each other. A pass-through owner never
    /// shares.
    ///
    /// # Errors
    ///
    /// As [`mmio`](Self::mmio); [`ResourceError::Held`] only for users that do not share.
    pub fn mmio_shared(&self, index: usize) -> Result<Mmio<'b>, ResourceError> {
        self.map_registers(index, Mode::Shared(""))
    }

    fn map_registers(&self, index: usize, mode: Mode) -> Result<Mmio<'b>, ResourceError> {
        let windows = self.state.desc().resources.iter().filter_map(|r| match r {
            Resource::Mem { base, len } => Some((*base, *len)),
            Resource::Irq { .. } | Resource::IrqBehind { .. } => None,
        });
        let (base, len) = windows.into_iter().nth(index).ok_or(ResourceError::Absent { kind: "registers", index })?;
        self.state.check(FaultPoint::MapIo)?;
        let claim = match self.state.owner() {
            DmaOwner::Kernel => self.state.claim(&Subject::Registers { base, len }, mode)?,
            // A guest gets whole pages of registers, including whatever else lies on them.
            DmaOwner::PassThrough => self.state.claim(&Subject::whole_pages(base, len), Mode::Exclusive)?,
        };
        let io = match self.state.system().env().map_io(base, len) {
            Ok(io) => io,
            Err(error) => {
                self.state.system().release_claim(&claim);
                return Err(error.into());
            }
        };
        let region = Region::new(io, base, claim, self.tag != 0);
        self.state.push(self.tag, MmioEntry(Arc::clone(&region)))?;
        Ok(Mmio::new(region))
    }

    /// Registers `run` to be called during unwinding, in order with the releases. It owns what it uses: capture a
    /// [`Mmio::handle`], not a [`Mmio`]. `what` names it in events.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Unbinding`] once the binding is being torn down; `run` is then called immediately.
    pub fn action(&self, what: &'static str, run: impl FnOnce() + Send + Sync + 'static) -> Result<(), ResourceError> {
        self.state.push(self.tag, Action { what, run: Box::new(run) }).map(|_| ())
    }

    /// Opens a devres group whose resources can be released before the binding ends. Groups nest.
    pub fn devres_group(&self) -> DevresGroup<'b> {
        DevresGroup::open(*self)
    }

    /// Reports that the device is quiesced now: it was reset or stopped, and uses none of the DMA addresses published
    /// before. Memory in quarantine and supplies left enabled since earlier bindings are released (P11), and a device that only its
    /// bus kept from accessing memory may access it again. The proof expires when the driver reads another device address.
    pub fn mark_quiesced(&self, quiesced: Quiesced) {
        self.state.mark_quiesced(quiesced);
    }

    /// Condition to wait for, with a name computed by the driver: `Err(ProbeError::Defer { on: dev.condition(&name) })`.
    /// See [`Machine::fulfil`](crate::machine::Machine::fulfil).
    pub fn condition(&self, name: &str) -> Missing {
        Missing::Node(self.state.registry().condition_node(name))
    }

    /// Nodes that property `name` refers to, with their specifier cells.
    pub fn references<'a>(&self, name: &'a str) -> impl Iterator<Item = (NodeId, &'b [u32])> + use<'a, 'b> {
        self.desc().suppliers.iter().filter(move |s| &*s.property == name).map(|s| (s.node, s.args.as_slice()))
    }

    /// Offers `service` to the consumers of this device while it is bound. A device offers at most one service of each
    /// type.
    ///
    /// # Errors
    ///
    /// [`ResourceError::Held`] when the device already offers a service of this type, [`ResourceError::Unbinding`] once the
    /// binding is being torn down.
    pub fn provide<T: ?Sized + Send + Sync + 'static>(&self, service: Arc<T>) -> Result<(), ResourceError> {
        self.state.provide(service, false)
    }

    /// The clock of the machine.
    pub fn system_clock(&self) -> SystemClock {
        self.state.system().system_clock()
    }

    /// Waits until `done` returns true. See [`SystemClock::wait_until`].
    pub fn wait_until(&self, timeout: Duration, poll: Duration, done: impl FnMut() -> bool) -> bool {
        self.system_clock().wait_until(timeout, poll, done)
    }

    /// Emits a log event.
    pub fn log(&self, text: fmt::Arguments<'_>) {
        self.state.emit(|| EventKind::Log { text: text.to_string() });
    }

    /// All entries of the ledger, oldest first: number, kind, description, back-end.
    pub fn resources(&self) -> Vec<(u64, &'static str, String, String)> {
        self.state.ledger.list()
    }
}
