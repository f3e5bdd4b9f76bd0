//! A guest: a second machine, whose env is built on a device passed through by the first.
//!
//! Its RAM is memory of the host that it has pinned for the device; its IOMMU is the host's, through the session; its
//! interrupts are the session's, delivered when the guest waits; its clock is the board's. The same driver source runs on it as on the host.

mod io;
mod iommu;
mod memory;
mod system;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bindery::addr::{PAGE_SIZE, PhysAddr};
use bindery::device::{DeviceDesc, Resource};
use bindery::dma::{DmaError, DmaMemory};
use bindery::env::{Env, EnvError, EventToken, Instant, Io, IrqControl, IrqLine, IrqSink, Job, Memory};
use bindery::event::Event;
use bindery::instrument::{CoveragePoint, FaultPoint, Instrument};
use bindery::iommu::Iommu;
use bindery::machine::{GuestTimers, Handle, Machine, Policy, SystemClock};
use bindery::sync::SpinLock;
use bindery::sync::atomic::{AtomicBool, Ordering};
use bindery_drivers::vfio::{Session, VfioError};

use io::RegionWindow;
use iommu::SessionIommu;
use memory::GuestRam;

pub use system::{Guest, GuestError};

/// Guest-physical base address of the RAM, as in the guest's device tree.
pub const RAM_BASE: PhysAddr = PhysAddr(0x4000_0000);

/// Default size of a guest's RAM in bytes. Smaller than in its device tree: the core uses the RAM that the env describes.
pub const RAM_LEN: u64 = 4 << 20;

/// The session, while the guest has the device. Later accesses to the device fail.
pub(crate) type Slot = Arc<SpinLock<Option<Arc<Session>>>>;

/// Listener of a guest's events.
type Listener = Box<dyn Fn(&Event) + Send + Sync>;

/// Guest-physical windows and interrupt lines of the passed-through device.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Guest-physical window of each region, in the session's order.
    pub regions: Vec<(PhysAddr, u64)>,
    /// Interrupt line of each interrupt, in the session's order.
    pub lines: Vec<IrqLine>,
}

impl Layout {
    /// The layout that the guest's firmware describes.
    pub fn of(desc: &DeviceDesc) -> Self {
        let mut layout = Self::default();
        for resource in &desc.resources {
            match resource {
                Resource::Mem { base, len } => layout.regions.push((*base, *len)),
                Resource::Irq { line, .. } => layout.lines.push(*line),
                Resource::IrqBehind { .. } => {}
            }
        }
        layout
    }
}

/// An interrupt line of the guest.
struct Input {
    /// The session's number for it.
    index: usize,
    /// Set by the session when the interrupt has fired.
    fired: Arc<AtomicBool>,
    /// The line is masked by the guest.
    masked: AtomicBool,
}

impl Input {
    fn new(index: usize) -> Self {
        Self { index, fired: Arc::default(), masked: AtomicBool::new(true) }
    }
}

/// The env of a guest with one device.
pub struct GuestEnv {
    host: Arc<dyn Env>,
    /// The host's.
    clock: SystemClock,
    /// The host's.
    instrument: Option<Arc<dyn Instrument>>,
    ram: Arc<GuestRam>,
    slot: Slot,
    layout: Layout,
    by_line: BTreeMap<IrqLine, Input>,
    sink: SpinLock<Option<Weak<dyn IrqSink>>>,
    /// The host tracks the guest's deadlines, whether the guest runs or not.
    timers: Arc<GuestTimers>,
    listener: SpinLock<Option<Arc<Listener>>>,
    iommu: Arc<SessionIommu>,
}

impl GuestEnv {
    /// Makes an env whose only device is the one behind `session`. The RAM (`ram_len` bytes, rounded up to whole pages)
    /// is allocated from `host`.
    ///
    /// # Errors
    ///
    /// When `host` has not enough memory.
    pub fn new(host: &Machine, session: Session, layout: Layout, ram_len: u64) -> Result<Arc<Self>, DmaError> {
        let host_env = Arc::clone(host.shared_env());
        let backing = DmaMemory::allocate(host.memory(), ram_len.next_multiple_of(PAGE_SIZE))?;
        let ram = Arc::new(GuestRam::new(backing, host_env.memory(), RAM_BASE));
        let slot: Slot = Arc::new(SpinLock::new(Some(Arc::new(session))));
        let iommu = Arc::new(SessionIommu::new(Arc::clone(&slot), Arc::clone(&ram)));
        let by_line = layout.lines.iter().enumerate().map(|(index, line)| (*line, Input::new(index))).collect();
        Ok(Arc::new(Self {
            host: host_env,
            clock: host.system_clock(),
            instrument: host.instrument().cloned(),
            ram,
            slot,
            layout,
            by_line,
            sink: SpinLock::default(),
            timers: Arc::clone(host.guest_timers()),
            listener: SpinLock::default(),
            iommu,
        }))
    }

    /// Makes a machine on this env, with the fault points and the coverage of the host's instrument.
    pub fn machine(self: &Arc<Self>, policy: Policy) -> Handle {
        Machine::with_instrument(Arc::clone(self) as _, policy, Arc::clone(self) as _)
    }

    /// Calls `listener` with each event of the guest's machine.
    pub fn on_event(&self, listener: Box<dyn Fn(&Event) + Send + Sync>) {
        *self.listener.lock() = Some(Arc::new(listener));
    }

    /// Calls `request` when the host requests the device's release.
    ///
    /// # Errors
    ///
    /// When the session is revoked.
    pub fn on_request(&self, request: impl Fn() + Send + Sync + 'static) -> Result<(), VfioError> {
        self.session().ok_or(VfioError::Revoked)?.on_request(request)
    }

    /// Returns the device to the host. The guest's driver must be unbound from it.
    pub fn release_device(&self) {
        let session = self.slot.lock().take();
        drop(session);
    }

    /// Returns true while the guest has the device and the session is not revoked.
    pub fn has_device(&self) -> bool {
        self.session().is_some_and(|s| !s.is_revoked())
    }

    /// Delivers pending interrupts in the context of the guest's wait. Returns true if there was one.
    fn deliver(&self) -> bool {
        let due = |input: &Input| !input.masked.load(Ordering::Acquire) && input.fired.swap(false, Ordering::AcqRel);
        let mut any = false;
        for (line, input) in self.by_line.iter().filter(|(_, input)| due(input)) {
            any = true;
            let sink = self.sink.lock().as_ref().and_then(Weak::upgrade);
            if let Some(sink) = sink {
                sink.interrupt(*line);
            }
            self.end_automask(input);
        }
        any
    }

    /// Unmasks an interrupt that was delivered: the session masks each one when it fires, and the guest's core unmasks only what it
    /// has masked itself.
    fn end_automask(&self, input: &Input) {
        let Some(session) = self.session() else { return };
        let mut masked = input.masked.load(Ordering::Acquire);
        if masked {
            return;
        }
        loop {
            // A revoked session has no interrupts.
            let _ = session.set_masked(input.index, masked);
            // Another thread of the guest may have changed it meanwhile.
            let now = input.masked.load(Ordering::Acquire);
            if now == masked {
                return;
            }
            masked = now;
        }
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.slot.lock().clone()
    }
}

impl Env for GuestEnv {
    fn memory(&self) -> Arc<dyn Memory> {
        Arc::<GuestRam>::clone(&self.ram)
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        let inside = |(at, size): &(PhysAddr, u64)| {
            base.0.checked_sub(at.0).and_then(|o| o.checked_add(len)).is_some_and(|end| end <= *size)
        };
        let region = self.layout.regions.iter().position(inside).ok_or(EnvError::NoSuchRegisters { base, len })?;
        let start = base - self.layout.regions[region].0;
        Ok(Arc::new(RegionWindow { slot: Arc::clone(&self.slot), region, start, len }))
    }

    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        let input = self.by_line.get(&line).ok_or(EnvError::NoSuchLine(line))?;
        let Some(session) = self.session() else { return Ok(()) };
        let masked = matches!(control, IrqControl::Mask | IrqControl::Disable);
        input.masked.store(masked, Ordering::Release);
        let enabled = match control {
            IrqControl::Enable(_) => {
                input.fired.store(false, Ordering::Release);
                session.flag_interrupt(input.index, Arc::clone(&input.fired))
            }
            IrqControl::Unmask | IrqControl::Mask | IrqControl::Disable => Ok(()),
        };
        let done = enabled.and_then(|()| session.set_masked(input.index, masked));
        match done {
            // The line of a revoked device never fires again, so there is nothing to change.
            Ok(()) | Err(VfioError::Revoked) => Ok(()),
            Err(_) => Err(EnvError::NoSuchLine(line)),
        }
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        self.timers.add(Weak::clone(&sink));
        *self.sink.lock() = Some(sink);
    }

    fn now(&self) -> Instant {
        self.host.now()
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        // A thread of the host may deliver the guest's request between the check and the wait.
        let _host = self.clock.wakes(token);
        if !token.is_past() && !self.deliver() {
            self.host.wait(token, until);
            self.deliver();
        }
    }

    fn spawn(&self, job: Job) -> Result<(), Job> {
        self.host.spawn(job)
    }

    fn cpu(&self) -> usize {
        self.host.cpu()
    }

    fn tracing_enabled(&self) -> bool {
        self.listener.lock().is_some()
    }

    fn emit(&self, event: &Event) {
        let listener = self.listener.lock().clone();
        if let Some(listener) = listener {
            listener(event);
        }
    }

    fn env_owned(&self, compatible: &[Arc<str>]) -> bool {
        self.host.env_owned(compatible)
    }

    fn host_iommu(&self, device: &DeviceDesc) -> Option<Arc<dyn Iommu>> {
        let ours = Layout::of(device).regions.iter().any(|r| self.layout.regions.contains(r));
        ours.then(|| Arc::<SessionIommu>::clone(&self.iommu) as Arc<dyn Iommu>)
    }
}

/// Fault points and coverage are the host's. Its observations of RAM are not: they are about the host's addresses.
impl Instrument for GuestEnv {
    fn should_fail(&self, point: FaultPoint) -> bool {
        self.instrument.should_fail(point)
    }

    fn cover(&self, point: CoveragePoint) {
        self.instrument.cover(point);
    }
}
