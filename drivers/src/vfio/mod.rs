//! The pass-through owner: gives a whole device to a user outside the kernel (a guest, a user-space process).
//!
//! [`Vfio`] takes platform devices with a reset line, [`VfioPci`] functions behind a PCI host bridge that can be reset by themselves, or with
//! a bus on which nobody else has a device. A user of a function has its memory BARs, and its interrupt pin or its messages (MSI, MSI-X),
//! which the host sets up. It has no configuration space, and no table of MSI-X.
//!
//! It binds through `driver_override` only. While it holds the device, nobody else can use the device's IOMMU group
//! (P7), and the group's devices are open for one owner, who has an identity ([`OwnerId`]). One user at a time opens a
//! [`Session`]: registers, interrupts, DMA maps with pinned memory, reset. To take the device back, the host requests its
//! release, waits until a deadline, and then revokes the session: register accesses fail, DMA is blocked, memory is
//! unpinned. A user's callbacks run on a thread of their own, so that one that blocks or panics affects only that user. A
//! device that could not be reset between two users is not opened again before a reset has succeeded (P12). Linux waits
//! for the last user without limit instead
//! (`drivers/vfio/vfio_main.c` `vfio_unregister_group_dev`).

mod callbacks;
mod error;
mod interrupts;
mod session;
mod shared;

pub use error::{OpenError, VfioError};
pub use session::Session;

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bindery::addr::PhysAddr;
use bindery::binding::{Bound, ResourceError};
use bindery::device::{BusKind, Resource};
use bindery::dma::PassThroughOwner;
use bindery::driver::{Client, DmaOwner, Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::iommu::OwnerId;
use bindery::machine::SystemClock;
use bindery::power::SupplyError;
use bindery::sync::pause;
use callbacks::Callbacks;
use interrupts::Interrupts;
use shared::{Region, Shared};

/// Default time that a user gets to release a device.
pub const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval at which the host checks whether a user has released a device.
const POLL: Duration = Duration::from_millis(1);

/// Number of times that the host yields to a running callback before it lets time pass: where time passes only in waits, a
/// callback would otherwise last longer than any deadline.
const TURNS: u32 = 5_000;

/// Why a device is not given away.
const NO_RESET: &str = "no reset of its own: it cannot be given away";

/// The driver of platform devices.
#[derive(Clone, Copy, Debug)]
pub struct Vfio {
    /// Time that a user gets to release a device after a request, in the machine's time.
    pub release_timeout: Duration,
}

impl Default for Vfio {
    fn default() -> Self {
        Self { release_timeout: RELEASE_TIMEOUT }
    }
}

/// The driver of PCI functions.
#[derive(Clone, Copy, Debug, Default)]
pub struct VfioPci(pub Vfio);

/// A device that is, or can be, in a user's hands.
#[derive(Debug)]
pub struct Device<'b> {
    owner: PassThroughOwner<'b>,
    clock: SystemClock,
    shared: Arc<Shared>,
    interrupts: Interrupts<'b>,
    release_timeout: Duration,
}

impl Vfio {
    /// Opens the device for a user of its own, which cannot share the IOMMU group with the users of other devices.
    ///
    /// # Errors
    ///
    /// When the device has a user, is being taken back, could not be reset, or its group has another owner.
    pub fn open(client: &Client<Self>) -> Result<Session, OpenError> {
        let session = client.call(|device| device.open(None)).unwrap_or(Err(OpenError::Leaving))?;
        Ok(session.controlled_by(Arc::new(client.clone())))
    }

    /// Opens the device for `owner`, for example a guest. The devices of an IOMMU group have one owner at a time: an open by
    /// another one fails with the holder's name. Sessions of the same owner in a group share its address space: each map is
    /// visible to all its devices.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_as(client: &Client<Self>, owner: &OwnerId) -> Result<Session, OpenError> {
        let session = client.call(|device| device.open(Some(owner))).unwrap_or(Err(OpenError::Leaving))?;
        Ok(session.controlled_by(Arc::new(client.clone())))
    }
}

impl VfioPci {
    /// As [`Vfio::open`].
    ///
    /// # Errors
    ///
    /// As [`Vfio::open`].
    pub fn open(client: &Client<Self>) -> Result<Session, OpenError> {
        let session = client.call(|device| device.open(None)).unwrap_or(Err(OpenError::Leaving))?;
        Ok(session.controlled_by(Arc::new(client.clone())))
    }

    /// As [`Vfio::open_as`].
    ///
    /// # Errors
    ///
    /// As [`Vfio::open`].
    pub fn open_as(client: &Client<Self>, owner: &OwnerId) -> Result<Session, OpenError> {
        let session = client.call(|device| device.open(Some(owner))).unwrap_or(Err(OpenError::Leaving))?;
        Ok(session.controlled_by(Arc::new(client.clone())))
    }
}

impl<'b> Device<'b> {
    /// Takes the device of `dev`.
    fn give_away(driver: Vfio, dev: &Bound<'b>) -> Result<Self, ProbeError> {
        let owner = dev.pass_through().ok_or(ProbeError::Device("its DMA is not given away"))?;
        let ioas = owner.io_address_space().ok_or(ProbeError::Device("no IOMMU domain to give away"))?;
        // Without a reset the next user would get the device in the state that the last one left (P12).
        let reset = owner.device_reset().ok_or(ProbeError::Device(NO_RESET))?;
        let mut regions = Vec::new();
        let hidden = owner.hidden_registers();
        for resource in &dev.desc().resources {
            let Resource::Mem { base, len } = resource else { continue };
            let inside = |(at, bytes): (PhysAddr, u64)| {
                let from = at.0.checked_sub(base.0).filter(|from| from < len)?;
                Some(from..from.saturating_add(bytes))
            };
            regions.push(Region { registers: dev.mmio(regions.len())?.handle(), hidden: hidden.and_then(inside) });
        }
        let shared = Shared::new(owner.host(), regions, reset, ioas);
        let interrupts = Interrupts::new(*dev, &shared)?;
        dev.mark_quiesced(shared.reset.reset().map_err(|error| match error {
            SupplyError::NoSuchLine => ProbeError::Device(NO_RESET),
            SupplyError::Bus(_) => ProbeError::Device("its bus could not reset it"),
            // Another device would be reset with it.
            SupplyError::Held(_) => ResourceError::NotReset(error).into(),
            _ => ProbeError::Device("the reset line does not answer"),
        })?);
        Ok(Self { clock: dev.system_clock(), owner, shared, interrupts, release_timeout: driver.release_timeout })
    }

    /// Asks the user for the device, and waits up to the deadline.
    fn request_release(&self) {
        let clock = &self.clock;
        let deadline = clock.now() + self.release_timeout;
        let Some(user) = self.shared.refuse_opens() else { return };
        self.owner.report("requested", format_args!("{:?} to release it", self.release_timeout));
        Callbacks::request(&user);
        let (mut turns, mut late) = (0, false);
        // An orderly release: the session is dropped, and no callback runs any more.
        while (self.shared.is_open() || user.is_busy()) && !late {
            // The clock is read first, so that a wait that was preempted past its deadline still checks once more.
            late = clock.now() >= deadline;
            if user.is_busy() && turns < TURNS {
                turns += 1;
                pause();
            } else if !late {
                let left = deadline.since(clock.now());
                clock.wait_until(left.min(POLL), POLL, || !(self.shared.is_open() || user.is_busy()));
            }
        }
        if self.shared.is_open() {
            let late = format!("not released within {:?}: revoked", self.release_timeout);
            self.owner.report("revoked", format_args!("{late}"));
        } else {
            self.owner.report("released", format_args!("released by the user"));
        }
    }

    /// Ends the user's access.
    fn revoke(&self) -> Result<Quiesced, QuiesceError> {
        self.shared.revoke().map_err(|_| QuiesceError("it could not be reset"))
    }

    /// Opens it for `owner`, or for a user of its own.
    fn open(&self, owner: Option<&OwnerId>) -> Result<Session, OpenError> {
        if self.shared.is_open() {
            return Err(OpenError::Busy);
        }
        let alone = || OwnerId::new(&format!("the user of {}", self.shared.device()));
        let owner = owner.cloned().unwrap_or_else(alone);
        let session = Shared::open(&self.shared, self.owner.hold_group(&owner)?)?;
        // Dropped on an error, which closes it.
        self.interrupts.use_lines().map_err(|error| OpenError::Interrupts(Box::new(error)))?;
        Ok(session)
    }
}

impl Drop for Device<'_> {
    /// A user may keep its session for as long as it likes.
    fn drop(&mut self) {
        self.shared.cut_off();
    }
}

impl Driver for Vfio {
    const NAME: &'static str = "vfio-platform";
    const MATCHES: &'static [Match] = &[Match::by_name(BusKind::Platform), Match::by_name(BusKind::Amba)];
    const DMA: DmaOwner = DmaOwner::PassThrough;
    type Data<'b> = Device<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Device<'b>, ProbeError> {
        if dev.desc().pci.is_some() {
            return Err(ProbeError::Device("a PCI function: vfio-pci takes it"));
        }
        Device::give_away(*self, &dev)
    }

    fn request_release(device: &Device<'_>) {
        device.request_release();
    }

    fn quiesce(device: &Device<'_>) -> Result<Quiesced, QuiesceError> {
        device.revoke()
    }
}

impl Driver for VfioPci {
    const NAME: &'static str = "vfio-pci";
    const MATCHES: &'static [Match] = &[Match::by_name(BusKind::Pci)];
    const DMA: DmaOwner = DmaOwner::PassThrough;
    type Data<'b> = Device<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Device<'b>, ProbeError> {
        if dev.desc().pci.is_none() {
            return Err(ProbeError::Device("no PCI function: vfio-platform takes it"));
        }
        Device::give_away(self.0, &dev)
    }

    fn request_release(device: &Device<'_>) {
        device.request_release();
    }

    fn quiesce(device: &Device<'_>) -> Result<Quiesced, QuiesceError> {
        device.revoke()
    }
}
