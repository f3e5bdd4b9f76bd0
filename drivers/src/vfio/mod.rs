//! The pass-through owner: hands a whole device to a user outside the kernel (a guest, a user-space process).
//!
//! It binds through `driver_override` only. While it holds the device, nobody else can use the device's IOMMU group
//! (P7), and the group's devices are open for one owner, who has an identity ([`OwnerId`]). One user at a time opens a
//! [`Session`]: registers, interrupts, DMA maps with pinned memory, reset. To get the
//! device back the host asks the user to leave, waits until a deadline, and then cuts it off: registers answer with an
//! error, DMA is blocked, pins are dropped. A user's callbacks run on a thread of their own, so that one that blocks or
//! panics holds up nobody else. A device that could not be reset between two users is remembered as such, and given to
//! nobody before a reset has worked (P12). Linux waits for the last user without limit instead
//! (`drivers/vfio/vfio_main.c` `vfio_unregister_group_dev`).

mod callbacks;
mod error;
mod session;
mod shared;

pub use error::{OpenError, VfioError};
pub use session::Session;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bindery::binding::Bound;
use bindery::dma::PassThroughOwner;
use bindery::driver::{Client, DmaOwner, Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::iommu::OwnerId;
use bindery::irq::Irq;
use bindery::machine::SystemClock;
use bindery::sync::pause;
use callbacks::Callbacks;
use shared::Shared;

/// How long a user may take to leave, unless the machine's owner says otherwise.
pub const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the host looks whether a user has left.
const POLL: Duration = Duration::from_millis(1);

/// How often the host gives way to a user that is answering before it lets time pass: on a target whose time passes only
/// when somebody waits, an answer would otherwise take longer than any deadline.
const TURNS: u32 = 5_000;

/// The driver.
#[derive(Clone, Copy, Debug)]
pub struct Vfio {
    /// How long a user may take to leave after it was asked to, in the machine's time.
    pub release_timeout: Duration,
}

impl Default for Vfio {
    fn default() -> Self {
        Self { release_timeout: RELEASE_TIMEOUT }
    }
}

/// A device that is, or can be, in a user's hands.
#[derive(Debug)]
pub struct Device<'b> {
    owner: PassThroughOwner<'b>,
    clock: SystemClock,
    shared: Arc<Shared>,
    _irqs: Vec<Irq<'b>>,
    release_timeout: Duration,
}

impl Vfio {
    /// Opens the device for the one user that it can have, who has no other device of its IOMMU group.
    pub fn open(client: &Client<Self>) -> Result<Session, OpenError> {
        let open = |device: &Device<'_>| device.open(&OwnerId::new(&format!("the user of {}", device.shared.device())));
        client.call(open).unwrap_or(Err(OpenError::Leaving))
    }

    /// Opens the device for `owner`, a guest for example. The devices of one IOMMU group are one owner's at a time: who
    /// shows another identity than the one that has a device of the group open is refused with the holder's name. Who
    /// shows the same one shares its address space: what a session maps, all the owner's devices of the group reach.
    pub fn open_as(client: &Client<Self>, owner: &OwnerId) -> Result<Session, OpenError> {
        client.call(|device| device.open(owner)).unwrap_or(Err(OpenError::Leaving))
    }
}

impl Device<'_> {
    fn open(&self, owner: &OwnerId) -> Result<Session, OpenError> {
        if self.shared.is_open() {
            return Err(OpenError::Busy);
        }
        Shared::open(&self.shared, self.owner.hold_group(owner)?)
    }
}

impl Driver for Vfio {
    const NAME: &'static str = "vfio-platform";
    const MATCHES: &'static [Match] = &[];
    const DMA: DmaOwner = DmaOwner::PassThrough;
    type Data<'b> = Device<'b>;

    fn probe<'b>(&self, dev: &'b Bound) -> Result<Device<'b>, ProbeError> {
        let owner = dev.pass_through().ok_or(ProbeError::Device("its DMA is not given away"))?;
        let ioas = owner.io_address_space().ok_or(ProbeError::Device("no IOMMU domain to give away"))?;
        // Without a reset the next user would find the device as the last one left it (P12).
        let reset = dev.reset_line().ok_or(ProbeError::Device("no reset line of its own: it cannot be given away"))?;
        let mut regions = Vec::new();
        let mut irqs = Vec::new();
        for resource in &dev.desc().resources {
            match resource {
                bindery::device::Resource::Mem { .. } => regions.push(dev.mmio(regions.len())?.handle()),
                bindery::device::Resource::Irq { .. } | bindery::device::Resource::IrqBehind { .. } => {
                    irqs.push(dev.irq(irqs.len())?);
                }
            }
        }
        irqs.iter().for_each(Irq::mask);
        dev.mark_quiesced(reset.pulse().map_err(|_| ProbeError::Device("the reset line does not answer"))?);
        let handles = irqs.iter().map(Irq::handle).collect();
        let shared = Shared::new(owner.host(), regions, handles, reset, ioas);
        Ok(Device { clock: dev.system_clock(), owner, shared, _irqs: irqs, release_timeout: self.release_timeout })
    }

    fn request_release(device: &Device<'_>) {
        let clock = &device.clock;
        let deadline = clock.now() + device.release_timeout;
        let Some(user) = device.shared.close_to_others() else { return };
        device.owner.report("requested", format_args!("{:?} to let go", device.release_timeout));
        Callbacks::request(&user);
        let (mut turns, mut late) = (0, false);
        // The device comes back in order when its user has let go and is out of its callbacks.
        while (device.shared.is_open() || user.is_busy()) && !late {
            // The clock is read first: a wait that was held up for long still looks once more before it gives up.
            late = clock.now() >= deadline;
            if user.is_busy() && turns < TURNS {
                turns += 1;
                pause();
            } else if !late {
                clock.wait(deadline.min(clock.now() + POLL));
            }
        }
        if device.shared.is_open() {
            let late = format!("no answer within {:?}: cut off", device.release_timeout);
            device.owner.report("revoked", format_args!("{late}"));
        } else {
            device.owner.report("released", format_args!("the user let go"));
        }
    }

    fn quiesce(device: &Device<'_>) -> Result<Quiesced, QuiesceError> {
        device.shared.revoke().map_err(|_| QuiesceError("the reset line does not answer"))
    }

    fn interrupt(device: &Device<'_>, index: usize) -> IrqReturn {
        device.shared.trigger(index);
        IrqReturn::Handled
    }
}
