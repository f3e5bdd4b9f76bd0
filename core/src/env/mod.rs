//! What a target must supply, and nothing else: memory, registers, interrupts, time, and somewhere to tell events.
//!
//! A machine owns one [`Env`]. The simulated board, bare metal and Linux user space each implement it; the core and the
//! drivers never learn which one they run on.

#[cfg(test)]
pub(crate) mod fake;
mod io;
mod irq;

pub use crate::description::{IrqLine, Trigger};
pub use crate::mem::{Barrier, CacheOp, Caching, Memory, RamRange, RamUse};
pub use crate::sync::Job;
pub use crate::time::Instant;
pub use io::{Io, IoError, Width};
pub use irq::{IrqControl, IrqSink};

use alloc::sync::{Arc, Weak};

use crate::addr::PhysAddr;
use crate::description::DeviceDesc;
use crate::event::Event;
use crate::translation::Iommu;

/// Why the env could not do what the core asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnvError {
    /// There are no registers at this address, or not that many bytes of them.
    #[error("no device registers at {base}, {len:#x} bytes")]
    NoSuchRegisters {
        /// First byte asked for.
        base: PhysAddr,
        /// Bytes asked for.
        len: u64,
    },
    /// The interrupt controller has no such line.
    #[error("no interrupt line {0}")]
    NoSuchLine(IrqLine),
    /// A fault was injected here on purpose.
    #[error("injected fault")]
    Injected,
}

/// One target: the machine below the core.
///
/// Every method may be called from any thread. None may call back into the machine, except that
/// [`wait`](Self::wait) delivers interrupts to the sink given to [`connect`](Self::connect).
pub trait Env: Send + Sync {
    /// The RAM of this machine. The same object every time.
    fn memory(&self) -> Arc<dyn Memory>;

    /// Gives access to the device registers at `base`, `len` bytes.
    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError>;

    /// Changes how one interrupt line is delivered.
    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError>;

    /// Names the receiver of interrupts. Called once, when the machine is made.
    fn connect(&self, sink: Weak<dyn IrqSink>);

    /// Time since the machine started, never going back.
    fn now(&self) -> Instant;

    /// Lets time pass until something happens (an interrupt was delivered, a device moved) or until `until`, whichever
    /// is first. May return early for no reason; callers loop over their own condition. The receiver of interrupts may
    /// have a [deadline](IrqSink::next_deadline) before `until`: it is kept.
    fn wait(&self, until: Instant);

    /// Runs `job` soon, on a thread that holds nothing. A target that has no such thread gives the job back; the core
    /// then does it when it is called next, and a user's callback runs where it is due and must not block. With the
    /// feature `std` the default starts a thread.
    fn spawn(&self, job: Job) -> Result<(), Job> {
        crate::sync::spawn(job)
    }

    /// Index of the CPU this runs on, for per-CPU caches. A hint: it may be stale when used.
    fn cpu(&self) -> usize {
        0
    }

    /// Returns true when somebody reads events. The core builds none otherwise.
    fn tracing_enabled(&self) -> bool {
        false
    }

    /// Takes one event. Called with core locks held: store it or write it, do not call the machine.
    fn emit(&self, event: &Event) {
        let _ = event;
    }

    /// Returns true when the target itself operates devices with this `compatible` list (the interrupt controller, the
    /// timer): they count as present from the start and are never probed.
    fn env_owned(&self, compatible: &[Arc<str>]) -> bool {
        let _ = compatible;
        false
    }

    /// The IOMMU between `device` and this machine's memory when a host owns it: for a guest, or a program over VFIO. It
    /// is asked for the stream of an empty specifier. `None` when the machine operates its own IOMMUs.
    fn host_iommu(&self, device: &DeviceDesc) -> Option<Arc<dyn Iommu>> {
        let _ = device;
        None
    }
}
