//! Interface that a target must implement: memory, registers, interrupts, time, and an event sink.
//!
//! A machine owns one [`Env`]. The simulated board, bare metal and Linux user space each implement it; the core and the
//! drivers do not know which one they run on.

#[cfg(test)]
pub(crate) mod fake;
mod io;
mod irq;
mod mapped;
mod vectors;

pub use crate::description::{IrqLine, Trigger};
pub use crate::mem::{Barrier, CacheOp, Caching, Memory, PageSource, RamRange, RamUse};
pub use crate::sync::{EventToken, Job};
pub use crate::time::Instant;
pub use io::{Io, IoError, Width};
pub use irq::{IrqControl, IrqSink};
pub use mapped::MappedRegisters;
pub(crate) use mapped::Registers;
pub use vectors::{Vector, VectorRequest};

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::addr::PhysAddr;
use crate::description::DeviceDesc;
use crate::event::Event;
use crate::translation::Iommu;

/// Error of an env's operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EnvError {
    /// No register window covers this range.
    #[error("no device registers at {base}, {len:#x} bytes")]
    NoSuchRegisters {
        /// First byte requested.
        base: PhysAddr,
        /// Bytes requested.
        len: u64,
    },
    /// The interrupt controller has no such line.
    #[error("no interrupt line {0}")]
    NoSuchLine(IrqLine),
    /// No messages are left for a device.
    #[error("no interrupt vectors")]
    NoVectors,
    /// A fault was injected here for a test.
    #[error("injected fault")]
    Injected,
}

/// Target that the core runs on.
///
/// Every method may be called from any thread. None may call back into the machine, except that
/// [`wait`](Self::wait) delivers interrupts to the sink given to [`connect`](Self::connect).
pub trait Env: Send + Sync {
    /// The RAM of this machine. The same object every time.
    fn memory(&self) -> Arc<dyn Memory>;

    /// The target's own allocator of page frames. The default has none: the core manages the ranges of [`RamUse::Frames`] itself. Asked
    /// once, when the machine is created.
    fn page_source(&self) -> Option<Arc<dyn PageSource>> {
        None
    }

    /// Maps the device registers at `base`, `len` bytes.
    ///
    /// # Errors
    ///
    /// [`EnvError::NoSuchRegisters`] unless one register window covers the whole range.
    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError>;

    /// Changes the delivery of one interrupt line. Called in hard interrupt context as well: it must not sleep, allocate, or
    /// take a lock that is held elsewhere with interrupts enabled.
    ///
    /// # Errors
    ///
    /// [`EnvError::NoSuchLine`] for a line that the interrupt controller does not have.
    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError>;

    /// Supplies messages that a device sends as interrupts: as many as `request` has, or fewer. Each has a line of its own, which is
    /// [enabled](Self::irq) by its user, and a message while it is not is lost. The default has none.
    ///
    /// # Errors
    ///
    /// [`EnvError::NoVectors`] when there is none.
    fn alloc_vectors(&self, request: &VectorRequest<'_>) -> Result<Vec<Vector>, EnvError> {
        let _ = request;
        Err(EnvError::NoVectors)
    }

    /// Takes back what [`alloc_vectors`](Self::alloc_vectors) has supplied: the device sends no such message any more.
    fn free_vectors(&self, device: &DeviceDesc, vectors: &[Vector]) {
        let _ = (device, vectors);
    }

    /// Sets the receiver of interrupts. Called once, when the machine is created.
    fn connect(&self, sink: Weak<dyn IrqSink>);

    /// Monotonic time since the machine started. Callable in hard interrupt context.
    fn now(&self) -> Instant;

    /// Lets time pass until `token` [is past](EventToken::is_past) or until `until`, whichever is first; returns at once
    /// when the token is past already. The caller took the token and then checked its condition, so a wake-up that comes
    /// in between must not be slept through: a bare-metal target masks interrupts, checks the token, and waits for an
    /// interrupt with them masked (`wfi`); one on a host's threads calls `EventToken::park`.
    ///
    /// May return early for no reason. The receiver of interrupts may have a [deadline](IrqSink::next_deadline) before
    /// `until`: it is kept.
    fn wait(&self, token: &EventToken<'_>, until: Instant);

    /// Runs `job` soon, on a thread that holds no locks. With the feature `std` the default starts a thread.
    ///
    /// # Errors
    ///
    /// The job itself on a target without such a thread: the core then runs it when it is called next, and a user's
    /// callback runs in the context in which it became due and must not block.
    fn spawn(&self, job: Job) -> Result<(), Job> {
        crate::sync::spawn(job)
    }

    /// Index of the current CPU, for per-CPU caches. A hint: it may be stale when used.
    fn cpu(&self) -> usize {
        0
    }

    /// Returns true when events are recorded. The core builds none otherwise.
    fn tracing_enabled(&self) -> bool {
        false
    }

    /// Records one event. Called with core locks held: store or write it, but do not call the machine.
    fn emit(&self, event: &Event) {
        let _ = event;
    }

    /// Returns true when the target itself operates devices with this `compatible` list (the interrupt controller, the
    /// timer): they count as present from the start and are never probed.
    fn env_owned(&self, compatible: &[Arc<str>]) -> bool {
        let _ = compatible;
        false
    }

    /// Host-owned IOMMU between `device` and this machine's memory, in a guest or a program that uses VFIO. Its stream is
    /// looked up with an empty specifier. `None` when the machine operates its own IOMMUs.
    fn host_iommu(&self, device: &DeviceDesc) -> Option<Arc<dyn Iommu>> {
        let _ = device;
        None
    }
}
