//! The driver author's face: one trait, and the answers it may give.

mod cell;
mod client;
mod erased;
#[cfg(all(test, loom))]
mod loom_tests;

pub(crate) use cell::Binding;
pub use client::{Client, Gone};
pub(crate) use erased::{Adapter, AnyDriver};

use crate::binding::Bound;
pub use crate::errno::Errno;
pub use crate::error::{Missing, ProbeError};
pub use crate::lifecycle::{DmaOwner, IrqReturn, QuiesceError, Quiesced};

/// What a driver can be matched by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Match {
    /// An entry of the device's `compatible` list, compared as a whole.
    Compatible(&'static str),
}

impl Match {
    /// Matches devices that list `name` under `compatible`.
    pub const fn compatible(name: &'static str) -> Self {
        Self::Compatible(name)
    }
}

/// A driver.
///
/// The core calls [`probe`](Self::probe) when a device matches and everything that the device needs is there. Whatever
/// `probe` takes from its [`Bound`] belongs to the binding: the core gives it back, newest first, when `probe` fails
/// and when the binding ends, and there is no other clean-up code. The driver's data may borrow from it.
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
///     fn probe<'b>(&self, dev: &'b Bound) -> Result<Lamp<'b>, ProbeError> {
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

    /// What it drives.
    const MATCHES: &'static [Match];

    /// Who programs the device's translation.
    const DMA: DmaOwner = DmaOwner::Kernel;

    /// Whether users are kept from binding and unbinding its devices by hand: in the control tree the driver then has
    /// neither `bind` nor `unbind` (linux-6.12 `struct device_driver.suppress_bind_attrs`, `include/linux/device/driver.h`;
    /// `bus_add_driver`, `drivers/base/bus.c`).
    ///
    /// For drivers that much of the machine stands on. It is about these two files only: probing by itself,
    /// `drivers_probe`, `driver_override`, the calls of [`Machine`](crate::machine::Machine), a supplier that leaves, and
    /// the removal of device or driver bind and unbind as ever.
    const SUPPRESS_BIND_ATTRS: bool = false;

    /// What the driver keeps for one device. It may borrow from the binding; it is dropped before anything that the
    /// binding owns is given back.
    type Data<'b>: Send + Sync;

    /// Starts driving a device. To be called again later when something is missing, return
    /// [`ProbeError::Defer`].
    fn probe<'b>(&self, dev: &'b Bound) -> Result<Self::Data<'b>, ProbeError>;

    /// Asks those who use the device through this driver to leave, while they can still work with it; called before
    /// [`quiesce`](Self::quiesce), not for a device that has vanished. Bound the time it takes: who has not left by then
    /// is cut off. The default asks nobody.
    fn request_release(data: &Self::Data<'_>) {
        let _ = data;
    }

    /// Stops the device: no DMA and no interrupt afterwards. Called first on the way back, when no new user can get at
    /// the data any more; users that are already inside may still be running. Bound the time it takes: a device that
    /// does not stop is reported with [`QuiesceError`], and its memory is kept from re-use.
    fn quiesce(data: &Self::Data<'_>) -> Result<Quiesced, QuiesceError>;

    /// Serves interrupt number `index` of the device. The default leaves it to a thread that waits with [`Irq::wait`](crate::irq::Irq::wait).
    fn interrupt(data: &Self::Data<'_>, index: usize) -> IrqReturn {
        let _ = (data, index);
        IrqReturn::WakeThread
    }
}
