//! The driver author's interface: one trait and its return types.

mod cell;
mod client;
mod erased;
#[cfg(all(test, loom))]
mod loom_tests;
mod service;
mod work;

pub(crate) use cell::Binding;
pub use client::{Client, Gone};
pub(crate) use erased::{Adapter, AnyDriver};
pub use service::ClientService;
pub use work::{Work, WorkHandle};

use alloc::borrow::Cow;

use crate::binding::{Bound, ResourceError};
use crate::description::{BusKind, pci_class_name, pci_name, pci_subsystem_name};
pub use crate::errno::Errno;
pub use crate::error::{Missing, ProbeError};
pub use crate::lifecycle::{DmaOwner, IrqReturn, QuiesceError, Quiesced};

/// Criterion by which a driver matches devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Match {
    /// An entry of the device's `compatible` list, compared as a whole.
    Compatible(&'static str),
    /// Vendor and device ID of a PCI function.
    Pci(u16, u16),
    /// The same, and the two IDs of its subsystem.
    PciSubsystem((u16, u16), (u16, u16)),
    /// Class code of a PCI function.
    PciClass(u32, ClassBits),
    /// The driver's own name, which a user gives to a device of this bus (`driver_override`).
    ByName(BusKind),
}

/// Part of a PCI class code that is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClassBits {
    /// Base class alone: `0x01_0000` matches mass storage.
    Base,
    /// Base class and subclass: `0x01_0600` matches a SATA controller with any programming interface.
    Subclass,
    /// Base class, subclass and programming interface.
    Interface,
}

impl Match {
    /// Matches devices that list `name` under `compatible`.
    pub const fn compatible(name: &'static str) -> Self {
        Self::Compatible(name)
    }

    /// Matches PCI functions with this vendor and device ID.
    pub const fn pci(vendor: u16, device: u16) -> Self {
        Self::Pci(vendor, device)
    }

    /// Matches PCI functions with this vendor and device ID, and these of the subsystem. Preferred to the first two alone.
    pub const fn pci_subsystem(id: (u16, u16), subsystem: (u16, u16)) -> Self {
        Self::PciSubsystem(id, subsystem)
    }

    /// Matches PCI functions by class code (24 bits). Drivers for the very device are preferred.
    ///
    /// ```
    /// use bindery::driver::{ClassBits, Match};
    ///
    /// const AHCI: Match = Match::pci_class(0x01_0601, ClassBits::Interface);
    /// ```
    pub const fn pci_class(class: u32, bits: ClassBits) -> Self {
        Self::PciClass(class, bits)
    }

    /// Matches no device by itself: the driver is for those of `bus` to which a user gives its name (`driver_override`).
    pub const fn by_name(bus: BusKind) -> Self {
        Self::ByName(bus)
    }

    /// The bus whose devices it is about.
    pub(crate) const fn bus(&self) -> BusKind {
        match *self {
            Self::ByName(bus) => bus,
            Self::Compatible(_) => BusKind::Platform,
            Self::Pci(..) | Self::PciSubsystem(..) | Self::PciClass(..) => BusKind::Pci,
        }
    }

    /// The entry of a `compatible` list that it matches, if it matches one.
    pub fn name(&self) -> Option<Cow<'static, str>> {
        Some(match *self {
            Self::Compatible(name) => Cow::Borrowed(name),
            Self::Pci(vendor, device) => Cow::Owned(pci_name(vendor, device)),
            Self::PciSubsystem(id, subsystem) => Cow::Owned(pci_subsystem_name(id, subsystem)),
            Self::PciClass(class, ClassBits::Base) => Cow::Owned(pci_class_name(class, 8)),
            Self::PciClass(class, ClassBits::Subclass) => Cow::Owned(pci_class_name(class, 16)),
            Self::PciClass(class, ClassBits::Interface) => Cow::Owned(pci_class_name(class, 24)),
            Self::ByName(_) => return None,
        })
    }
}

/// Device driver.
///
/// The core calls [`probe`](Self::probe) when a device matches and all its suppliers are present. Everything that `probe`
/// acquires from its [`Bound`] belongs to the binding: the core releases it, newest first, when `probe` fails and when
/// the binding ends, so there is no other clean-up code. The driver data may borrow from it.
///
/// ```
/// use bindery::binding::{Bound, Mmio};
/// use bindery::driver::{QuiesceError, Driver, Match, ProbeError, Quiesced};
///
/// struct Led;
/// struct Lamp<'b> {
///     regs: Mmio<'b>,
/// }
///
/// impl Driver for Led {
///     const NAME: &'static str = "led";
///     const MATCHES: &'static [Match] = &[Match::compatible("acme,led")];
///     type Data<'b> = Lamp<'b>;
///
///     fn probe<'b>(&self, dev: Bound<'b>) -> Result<Lamp<'b>, ProbeError> {
///         let regs = dev.mmio(0)?;
///         regs.write32(0x0, 1)?;
///         Ok(Lamp { regs })
///     }
///
///     fn quiesce(lamp: &Lamp<'_>) -> Result<Quiesced, QuiesceError> {
///         lamp.regs.write32(0x0, 0).map_err(|_| QuiesceError("the lamp does not answer"))?;
///         Ok(Quiesced::stopped())
///     }
/// }
/// ```
pub trait Driver: Send + Sync + Sized + 'static {
    /// Name under `/sys/bus/*/drivers`.
    const NAME: &'static str;

    /// Devices that it drives.
    const MATCHES: &'static [Match];

    /// Owner of the device's DMA translation.
    const DMA: DmaOwner = DmaOwner::Kernel;

    /// Suppresses manual bind and unbind by users: in the control tree the driver then has neither `bind` nor `unbind`
    /// (linux-6.12 `struct device_driver.suppress_bind_attrs`, `include/linux/device/driver.h`;
    /// `bus_add_driver`, `drivers/base/bus.c`).
    ///
    /// For drivers that much of the machine depends on. It affects these two files only: automatic probing,
    /// `drivers_probe`, `driver_override`, the methods of [`Machine`](crate::machine::Machine), a supplier that leaves, and
    /// the removal of the device or driver still bind and unbind.
    const SUPPRESS_BIND_ATTRS: bool = false;

    /// Driver data of one device. It may borrow from the binding; it is dropped before any resource of the binding is
    /// released.
    type Data<'b>: Send + Sync;

    /// Initialises a device and returns the driver data.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Defer`] when something is missing: the core calls `probe` again once it has arrived. Any other error
    /// leaves the device unbound.
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError>;

    /// Requests users of the device to release it while it still works (as a VFIO release request). Called before
    /// [`quiesce`](Self::quiesce), but not after a surprise removal. Must take bounded time: users that have not left by
    /// then are cut off. The default does nothing.
    fn request_release(data: &Self::Data<'_>) {
        let _ = data;
    }

    /// Stops the device: no DMA and no interrupts afterwards. Called at the start of unwinding, when new users of the driver
    /// data are refused; active users may still be running. Must take bounded time.
    ///
    /// # Errors
    ///
    /// [`QuiesceError`] when the device does not stop: its memory is then quarantined.
    fn quiesce(data: &Self::Data<'_>) -> Result<Quiesced, QuiesceError>;

    /// Offers interface `T` of the driver data of `dev`, to consumers ([`Bound::supplier`]) and to other users
    /// ([`Machine::service`](crate::machine::Machine::service)), while the device is bound; for a call in
    /// [`probe`](Self::probe), not to be implemented. Each call of the interface enters the run-down of the binding: it completes
    /// before the data is dropped, or gets the interface's error (P5). [`ClientService`] has an example.
    ///
    /// # Errors
    ///
    /// As [`Bound::provide`], and [`ResourceError::OtherDriver`] when this is not the driver of `dev`.
    fn provide_client<T: ?Sized + ClientService<Self>>(&self, dev: Bound<'_>) -> Result<(), ResourceError> {
        dev.state.provide_client::<Self, T>()
    }
}
