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
use bindery::sync::Mutex;
use bindery::sync::thread::ThreadId;

use crate::disk::Disk;
use crate::events::Events;
use crate::fault::FaultPlan;
use crate::memory::Ram;
use crate::models::ipmmu::Fault;
use crate::models::sata::Knobs;
use crate::report::ModelError;
use crate::trace::TraceEntry;
use state::State;

/// What a board is made of, beside its RAM.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) disk: Option<Disk>,
    pub(crate) cpus: usize,
    pub(crate) coherent: bool,
    pub(crate) trace: usize,
    pub(crate) fixed: Vec<(PhysAddr, u64, u32)>,
}

/// The board has no device of that name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the board has no device {0:?}")]
pub struct UnknownDevice(pub String);

/// Something on the board that can be broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stuck {
    /// A flush at the root IPMMU never ends.
    IpmmuFlush,
    /// Module clocks that are switched on never start.
    ModuleClock,
    /// Power domains never finish switching.
    PowerDomain,
}

/// What the board and the register windows that it gave out share.
struct Inner {
    ram: Arc<Ram>,
    state: Mutex<State>,
    /// Board time in nanoseconds; the clock in `state` moves it.
    now: Arc<AtomicU64>,
    sink: Mutex<Option<Weak<dyn IrqSink>>>,
    events: Events,
    faults: FaultPlan,
    cpus: usize,
    /// Threads in the order in which they first asked for their CPU.
    threads: Mutex<Vec<ThreadId>>,
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
            now: state.clock.face(),
            state: Mutex::new(state),
            sink: Mutex::new(None),
            events: Events::default(),
            faults: FaultPlan::default(),
            cpus,
            threads: Mutex::new(Vec::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Makes a machine on this board, with the board as its instrument: its [fault plan](Self::faults) decides which
    /// calls fail.
    pub fn machine(self: &Arc<Self>, policy: Policy) -> Handle {
        Machine::with_instrument(Arc::clone(self) as _, policy, Arc::clone(self) as _)
    }

    /// The RAM, for tools and tests; the core gets it as its [`Memory`](bindery::env::Memory).
    pub fn ram(&self) -> &Arc<Ram> {
        &self.inner.ram
    }

    /// Which of the core's calls fail on purpose.
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

    /// How many events the ring had no room for.
    pub fn dropped_events(&self) -> u64 {
        self.inner.events.dropped()
    }

    /// Calls `listener` with every event from now on, from the thread that caused it and with the core's locks held: it
    /// must not call the machine.
    pub fn on_event(&self, listener: Box<dyn Fn(&Event) + Send + Sync>) {
        self.inner.events.listen(Arc::from(listener));
    }

    /// What software did wrong to the hardware so far: the first 256.
    pub fn model_errors(&self) -> Vec<ModelError> {
        self.inner.state.lock().report.kept().to_vec()
    }

    /// The same, and forgets them.
    pub fn take_model_errors(&self) -> Vec<ModelError> {
        self.inner.state.lock().report.take()
    }

    /// # Panics
    ///
    /// When software did anything wrong to the hardware. For the end of a test.
    #[track_caller]
    pub fn assert_clean(&self) {
        let (errors, more) = {
            let state = self.inner.state.lock();
            (state.report.kept().to_vec(), state.report.dropped())
        };
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{} model errors:\n{}", errors.len() as u64 + more, lines.join("\n"));
    }

    /// Pulls a device out: its registers answer no more, and it does no more DMA. `name` is its name on the platform bus
    /// (`ee300000.sata`); only the address in it counts.
    pub fn unplug(&self, name: &str) -> Result<(), UnknownDevice> {
        self.inner.state.lock().set_present(name, false)
    }

    /// Puts a device back, as after power-up. Windows from before stay dead.
    pub fn plug(&self, name: &str) -> Result<(), UnknownDevice> {
        self.inner.state.lock().set_present(name, true)
    }

    /// Changes the faults of the disk controller.
    pub fn sata_faults(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.inner.state.lock().sata.knobs);
    }

    /// Lets a part of the board hang, or work again. What hung before stays as it is until it is asked again.
    pub fn set_stuck(&self, part: Stuck, stuck: bool) {
        let mut state = self.inner.state.lock();
        match part {
            Stuck::IpmmuFlush => state.ipmmu.stuck = stuck,
            Stuck::ModuleClock => state.cpg.stuck = stuck,
            Stuck::PowerDomain => state.sysc.stuck = stuck,
        }
    }

    /// The disk on the SATA port, or `None` when there is none. Reading it here is not DMA: it shows what the disk holds.
    pub fn with_disk<T>(&self, look: impl FnOnce(&mut Disk) -> T) -> Option<T> {
        self.inner.state.lock().sata.disk.as_mut().map(look)
    }

    /// What the IPMMUs make of an access of a bus master behind micro-TLB `utlb` (0 to 47) of the `leaf`-th leaf (0 is
    /// `ipmmu_hc`), as if it were made now: caches fill and faults are recorded. `None` when there is no such place.
    pub fn translate(&self, leaf: usize, utlb: usize, addr: u64, write: bool) -> Option<Result<PhysAddr, Fault>> {
        self.inner.state.lock().translate(leaf, utlb, addr, write)
    }

    /// How many interrupt lines are enabled, masked or not.
    pub fn enabled_lines(&self) -> usize {
        self.inner.state.lock().intc.enabled()
    }

    /// Whether the controller sees a request on `line`.
    pub fn line_is_high(&self, line: IrqLine) -> bool {
        self.inner.state.lock().intc.level(line.0)
    }

    /// Whether module `number` (815 is SATA) has its clock and is out of reset.
    pub fn module_runs(&self, number: u32) -> bool {
        crate::models::cpg::Module::new(number).is_some_and(|m| self.inner.state.lock().cpg.running(m))
    }

    /// Whether power domain `number` is on; `None` when the board has no such domain. 32 is always on.
    pub fn powered(&self, number: u32) -> Option<bool> {
        self.inner.state.lock().sysc.powered(number)
    }

    /// Delivers what is pending now, without letting time pass. Returns how many interrupts were delivered.
    pub fn run_pending(&self) -> usize {
        self.inner.state.lock().run_due();
        self.inner.deliver()
    }

    /// A hash over all that happened at the registers, timers and interrupt lines. Two runs that did the same have the
    /// same one.
    pub fn fingerprint(&self) -> u64 {
        self.inner.state.lock().trace.hash()
    }

    /// Feeds what decides what the hardware does next to `state`, but for what is behind
    /// [windows](Self::hash_windows) and what RAM and disk hold: interrupt lines, and timers by how long they still run.
    /// Boards that hash alike, windows and [details](Self::hash_details) included, answer alike.
    pub fn hash_state(&self, state: &mut impl Hasher) {
        self.inner.state.lock().hash_state(state);
    }

    /// Calls `each` with the first address and the name of every window of registers, and a number for what is behind it:
    /// the device's registers, and whether it is plugged in. Twins in the same state have the same number.
    pub fn hash_windows<H: Hasher + Default>(&self, mut each: impl FnMut(PhysAddr, &'static str, u64)) {
        self.inner.state.lock().hash_windows(|base, name, state: H| each(base, name, state.finish()));
    }

    /// Feeds the rest to `state`: the addresses of memory that are in registers, and how many translations are cached.
    /// Both decide something only where software errs, and may differ between two times at which it holds the same.
    pub fn hash_details(&self, state: &mut impl Hasher) {
        let parts = self.inner.state.lock();
        parts.ipmmu.hash_details(state);
        parts.sata.hash_details(state);
    }

    /// Lets the IPMMUs forget what they have cached, which hardware may do at any time.
    pub fn forget_cached(&self) {
        self.inner.state.lock().ipmmu.forget_cached();
    }

    /// What happened at the registers, as far as [`Salvator::trace`](crate::salvator::Salvator::trace) asked to keep it.
    pub fn trace(&self) -> Vec<TraceEntry> {
        self.inner.state.lock().trace.kept().to_vec()
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("ram", &self.inner.ram).finish_non_exhaustive()
    }
}
