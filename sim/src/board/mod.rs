//! One board: all its parts behind one lock, and its interface as the core's env and instrument.
//!
//! Lock order: the board's state is locked alone; while it is held nothing else is. Fault plan and events have leaf
//! locks of their own. Interrupts and listeners are called with no lock of the board held.

#![forbid(unsafe_code)]

mod env;
mod state;
mod window;

use std::hash::Hasher;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use bindery::addr::PhysAddr;
use bindery::env::{IrqLine, IrqSink, RamRange};
use bindery::event::Event;
use bindery::machine::{Handle, Machine, Policy};
use bindery::sync::SpinLock;
use bindery::sync::thread::ThreadId;

use crate::disk::Disk;
use crate::events::Events;
use crate::fault::FaultPlan;
use crate::memory::Ram;
use crate::models::Doorbell;
use crate::models::attached::Attached;
use crate::models::ipmmu::Fault;
use crate::models::pci::{Host, Severity};
use crate::models::sata::SataFaults;
use crate::page_cache::PageCache;
use crate::report::ModelError;
use crate::trace::TraceEntry;
use state::State;

/// Configuration of a board, except its RAM.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) disk: Option<Disk>,
    pub(crate) cpus: usize,
    pub(crate) coherent: bool,
    pub(crate) trace: usize,
    pub(crate) fixed: Vec<(PhysAddr, u64, u32)>,
    pub(crate) attached: Vec<Attached>,
    /// It has the devices of the R-Car H3.
    pub(crate) soc: bool,
    pub(crate) pci: Option<PciConfig>,
}

/// The PCI host bridge of a board, and where its doorbell is.
#[derive(Debug)]
pub(crate) struct PciConfig {
    pub(crate) host: Host,
    pub(crate) ecam: (PhysAddr, u64),
    /// Memory that it passes on, at the same addresses.
    pub(crate) memory: (PhysAddr, u64),
    pub(crate) doorbell: Doorbell,
}

/// The board has no device of that name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the board has no device {0:?}")]
pub struct UnknownDevice(pub String);

/// Part of the board that can be made to hang.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stuck {
    /// A flush of the root IPMMU never completes.
    IpmmuFlush,
    /// A flush of this context of the root IPMMU never completes.
    IpmmuContext(u8),
    /// Enabled module clocks never start.
    ModuleClock,
    /// Power domains never finish switching.
    PowerDomain,
    /// Functions behind the PCI bridge of this name never answer after a reset of their bus.
    SecondaryBus(&'static str),
}

/// State shared by the board and its register windows.
struct Inner {
    ram: Arc<Ram>,
    state: SpinLock<State>,
    /// Board time in nanoseconds; the clock in `state` moves it.
    now: Arc<AtomicU64>,
    sink: SpinLock<Option<Weak<dyn IrqSink>>>,
    page_cache: PageCache,
    events: Events,
    faults: FaultPlan,
    cpus: usize,
    /// Threads in the order in which they first asked for their CPU.
    threads: SpinLock<Vec<ThreadId>>,
}

/// A simulated board: an [`Env`](bindery::env::Env), and an [`Instrument`](bindery::instrument::Instrument) of the machine
/// on it. Any thread may use it.
pub struct Board {
    inner: Arc<Inner>,
}

impl Board {
    pub(crate) fn new(ranges: &[RamRange], config: Config) -> Self {
        let ram = Arc::new(Ram::new(ranges));
        let cpus = config.cpus;
        let state = State::new(Arc::clone(&ram), config);
        let inner = Inner {
            ram,
            now: state.clock.shared_now(),
            state: SpinLock::new(state),
            sink: SpinLock::new(None),
            page_cache: PageCache::new(ranges),
            events: Events::default(),
            faults: FaultPlan::default(),
            cpus,
            threads: SpinLock::new(Vec::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Makes a machine on this board, with the board as its instrument: its [fault plan](Self::faults) decides which
    /// calls fail.
    pub fn machine(self: &Arc<Self>, policy: Policy) -> Handle {
        Machine::with_instrument(Arc::clone(self) as _, policy, Arc::clone(self) as _)
    }

    /// The RAM, for tools and tests. The core accesses it as its [`Memory`](bindery::env::Memory).
    pub fn ram(&self) -> &Arc<Ram> {
        &self.inner.ram
    }

    /// The owner of the pages of RAM that the core does not manage.
    pub fn page_cache(&self) -> &PageCache {
        &self.inner.page_cache
    }

    /// Plan of injected faults.
    pub fn faults(&self) -> &FaultPlan {
        &self.inner.faults
    }

    /// Keeps the newest `capacity` events for [`take_events`](Self::take_events). 0 keeps none.
    pub fn keep_events(&self, capacity: usize) {
        self.inner.events.keep(capacity);
    }

    /// The events kept since the last call, oldest first.
    pub fn take_events(&self) -> Vec<Event> {
        self.inner.events.take()
    }

    /// Number of events dropped because the ring was full.
    pub fn dropped_events(&self) -> u64 {
        self.inner.events.dropped()
    }

    /// Calls `listener` with every event from now on, from the thread that caused it and with the core's locks held: it
    /// must not call the machine.
    pub fn on_event(&self, listener: Box<dyn Fn(&Event) + Send + Sync>) {
        self.inner.events.listen(Arc::from(listener));
    }

    /// The first 256 model errors: violations of the hardware's manuals by software.
    pub fn model_errors(&self) -> Vec<ModelError> {
        self.inner.state.lock().report.kept().to_vec()
    }

    /// Takes the model errors; later calls return only new ones.
    pub fn take_model_errors(&self) -> Vec<ModelError> {
        self.inner.state.lock().report.take()
    }

    /// Asserts that there are no model errors, at the end of a test.
    ///
    /// # Panics
    ///
    /// When there is a model error.
    #[track_caller]
    pub fn assert_clean(&self) {
        let (errors, more) = {
            let state = self.inner.state.lock();
            (state.report.kept().to_vec(), state.report.dropped())
        };
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{} model errors:\n{}", errors.len() as u64 + more, lines.join("\n"));
    }

    /// Removes a device: accesses to its registers fail, and its DMA stops. `name` is its name on the platform bus
    /// (`ee300000.sata`), of which only the address counts. A function behind a PCI host bridge has a name of its own, and goes with
    /// all that is behind it; reads of its registers then answer ones.
    ///
    /// # Errors
    ///
    /// When no device has that address.
    pub fn unplug(&self, name: &str) -> Result<(), UnknownDevice> {
        self.inner.state.lock().set_present(name, false)
    }

    /// Returns false while the platform device called `name`, as [`unplug`](Self::unplug) takes it, is removed. `None` when there is none.
    pub fn is_plugged(&self, name: &str) -> Option<bool> {
        self.inner.state.lock().is_present(name)
    }

    /// Inserts a removed device again, in its power-up state. Windows from before stay invalid.
    ///
    /// # Errors
    ///
    /// When no device has that address.
    pub fn plug(&self, name: &str) -> Result<(), UnknownDevice> {
        self.inner.state.lock().set_present(name, true)
    }

    /// Presses the attention button of the slot of a PCI port: its device is to leave, or to come into service.
    ///
    /// # Errors
    ///
    /// When no port of that name has a slot.
    pub fn press_attention(&self, port: &str) -> Result<(), UnknownDevice> {
        self.inner.state.lock().press(port)
    }

    /// Has a PCI function detect an error of its bus, and tell its root port of it, as far as software lets it. The message names
    /// the function, or `source` (a requester ID) where that is given.
    ///
    /// # Errors
    ///
    /// When no function of that name reports errors.
    pub fn pci_error(&self, name: &str, severity: Severity, source: Option<u16>) -> Result<(), UnknownDevice> {
        self.inner.state.lock().pci_error(name, severity, source)
    }

    /// Has the link below a PCI port fail, or come up again. What is behind it is reset.
    ///
    /// # Errors
    ///
    /// When there is no such port.
    pub fn set_link_failed(&self, port: &str, failed: bool) -> Result<(), UnknownDevice> {
        self.inner.state.lock().set_link_failed(port, failed)
    }

    /// Changes the injected faults of the disk controller. A link that is up goes down at once, and one that is wanted comes up
    /// by itself once its fault has gone.
    pub fn sata_faults(&self, change: impl FnOnce(&mut SataFaults)) {
        self.inner.state.lock().change_sata_faults(change);
    }

    /// Makes a part of the board hang or work. An operation that already hangs does not complete when the part works again;
    /// a new one does.
    pub fn set_stuck(&self, part: Stuck, stuck: bool) {
        let mut state = self.inner.state.lock();
        match part {
            Stuck::IpmmuFlush => state.ipmmu.stuck = stuck,
            Stuck::IpmmuContext(context) => state.ipmmu.stuck_context = stuck.then_some(context),
            Stuck::ModuleClock => state.cpg.stuck = stuck,
            Stuck::PowerDomain => state.sysc.stuck = stuck,
            Stuck::SecondaryBus(bridge) => state.set_bus_stuck(bridge, stuck),
        }
    }

    /// Calls `look` with the disk on the SATA port. `None` when there is none. Accesses the disk's contents directly, without
    /// DMA.
    pub fn with_disk<T>(&self, look: impl FnOnce(&mut Disk) -> T) -> Option<T> {
        self.inner.state.lock().sata.disk.as_mut().map(look)
    }

    /// Translates an access of the bus master behind micro-TLB `utlb` (0 to 47) of the `leaf`-th leaf IPMMU (0 is
    /// `ipmmu_hc`). As for a real access, caches are filled and faults recorded. `None` when there is no such micro-TLB.
    pub fn translate(&self, leaf: usize, utlb: usize, addr: u64, write: bool) -> Option<Result<PhysAddr, Fault>> {
        self.inner.state.lock().translate(leaf, utlb, addr, write)
    }

    /// Number of enabled interrupt lines, masked or not.
    pub fn enabled_lines(&self) -> usize {
        self.inner.state.lock().intc.enabled()
    }

    /// State of an interrupt line at the controller: `None` when it is not enabled, else true when it is masked.
    pub fn line_masked(&self, line: IrqLine) -> Option<bool> {
        self.inner.state.lock().intc.masked(line.0)
    }

    /// Returns true when `line` is asserted.
    pub fn line_is_high(&self, line: IrqLine) -> bool {
        self.inner.state.lock().intc.level(line.0)
    }

    /// Returns true when module `number` (815 is SATA) is clocked and not in reset.
    pub fn module_runs(&self, number: u32) -> bool {
        crate::models::cpg::Module::new(number).is_some_and(|m| self.inner.state.lock().cpg.running(m))
    }

    /// Returns true when power domain `number` is on; `None` when the board has no such domain. 32 is always on.
    pub fn powered(&self, number: u32) -> Option<bool> {
        self.inner.state.lock().sysc.powered(number)
    }

    /// Runs due timers and delivers pending interrupts without advancing time. Returns the number of deliveries.
    pub fn run_pending(&self) -> usize {
        self.inner.state.lock().run_due();
        self.inner.deliver()
    }

    /// Hash of all register accesses, timers and delivered interrupts. Equal for two runs that did the same.
    pub fn fingerprint(&self) -> u64 {
        self.inner.state.lock().trace.hash()
    }

    /// Hashes the state that determines the hardware's behaviour, except [register windows](Self::hash_windows) and the
    /// contents of RAM and disk: interrupt lines, and timers by their remaining time. Boards with equal hashes, including
    /// windows and [details](Self::hash_details), behave alike.
    pub fn hash_state(&self, state: &mut impl Hasher) {
        self.inner.state.lock().hash_state(state);
    }

    /// Calls `each` with base address and name of every register window, and a hash of the device behind it: its registers
    /// and its presence. Identical devices in the same state have equal hashes.
    pub fn hash_windows<H: Hasher + Default>(&self, mut each: impl FnMut(PhysAddr, &'static str, u64)) {
        let mut inner = self.inner.state.lock();
        inner.follow_supplies();
        inner.hash_windows(|base, name, state: H| each(base, name, state.finish()));
    }

    /// Hashes the remaining state: memory addresses in registers, and numbers of cached translations. They matter only when
    /// software has a bug, and may differ between two states in which it holds the same resources.
    pub fn hash_details(&self, state: &mut impl Hasher) {
        let parts = self.inner.state.lock();
        parts.ipmmu.hash_details(state);
        parts.sata.hash_details(state);
    }

    /// Evicts all translations that the IPMMUs cache, which hardware may do at any time.
    pub fn evict_translations(&self) {
        self.inner.state.lock().ipmmu.evict_translations();
    }

    /// Trace of the registers, up to the number of entries given to
    /// [`Salvator::trace`](crate::salvator::Salvator::trace).
    pub fn trace(&self) -> Vec<TraceEntry> {
        self.inner.state.lock().trace.kept().to_vec()
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("ram", &self.inner.ram).finish_non_exhaustive()
    }
}
