//! The target: an interrupt controller that interrupts CPUs, registers by which handlers acknowledge, and a thread for task
//! context.

use std::io::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;

use bindery::addr::PhysAddr;
use bindery::device::DeviceDesc;
use bindery::env::{
    Env, EnvError, EventToken, Instant, Io, IoError, IrqControl, IrqLine, IrqSink, Memory, Trigger, Vector,
    VectorRequest, Width,
};

use super::cpu::{CPUS, Cpu, LOOKS, cpus, watchdog};
use super::example;

const LINES: usize = 8;
/// Lines for messages; a message is the number of one, written to the doorbell.
const MESSAGES: Range<usize> = 4..8;
/// No register of a device is there, and no RAM.
pub const DOORBELL: PhysAddr = PhysAddr(0xf000_0000);

/// One line of the controller, and the device behind it. Nothing here is a lock: traps read and change it.
#[derive(Default)]
struct Line {
    enabled: AtomicBool,
    masked: AtomicBool,
    edge: AtomicBool,
    /// The device asserts its level, or an edge is latched.
    asserted: AtomicBool,
    delivered: AtomicU32,
    /// The only CPU that is interrupted, plus one; 0 for any.
    cpu: AtomicUsize,
}

impl Line {
    fn is_open(&self) -> bool {
        self.enabled.load(Ordering::SeqCst)
            && !self.masked.load(Ordering::SeqCst)
            && self.asserted.load(Ordering::SeqCst)
    }
}

/// The target. There is one in the process, since traps find it without an argument.
pub struct Target {
    inner: Arc<dyn Env>,
    begun: std::time::Instant,
    lines: [Line; LINES],
    sink: Mutex<Option<Weak<dyn IrqSink>>>,
}

/// The receiver of interrupts, alive for as long as traps may come.
static SINK: Receiver = Receiver { current: AtomicU32::new(0), all: [const { OnceLock::new() }; 32] };

/// The machine that has the CPUs, and its target.
type Online = (Arc<dyn IrqSink>, Arc<Target>);

/// Receivers of all tests of the process, one after the other: none is dropped, so no trap drops the last reference.
struct Receiver {
    current: AtomicU32,
    all: [OnceLock<Online>; 32],
}

impl Receiver {
    fn get(&self) -> Option<&Online> {
        self.all[self.current.load(Ordering::SeqCst).checked_sub(1)? as usize].get()
    }
}

/// One test at a time has the CPUs.
static TURN: Mutex<()> = Mutex::new(());

impl Target {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: example::env(),
            begun: std::time::Instant::now(),
            lines: Default::default(),
            sink: Mutex::default(),
        })
    }

    /// Runs `act` with the CPUs, a thread that interrupts them, and one for task context. The machine on this target exists
    /// already. A trap that does not end is reported, and ends the process, since its CPU does not come back.
    pub fn run<R>(self: &Arc<Self>, act: impl FnOnce(&'static [Cpu; CPUS]) -> R) -> R {
        self.run_watched(true, act)
    }

    /// As [`run`](Self::run), with interrupts on the last CPU only, and without the watchdog.
    pub fn run_on_last<R>(self: &Arc<Self>, act: impl FnOnce(&'static [Cpu; CPUS]) -> R) -> R {
        self.run_watched(false, act)
    }

    fn run_watched<R>(self: &Arc<Self>, watched: bool, act: impl FnOnce(&'static [Cpu; CPUS]) -> R) -> R {
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let cpus = cpus(|line| {
            if let Some((sink, target)) = SINK.get() {
                target.deliver(&**sink, line);
            }
        });
        let sink = self.sink.lock().unwrap().as_ref().and_then(Weak::upgrade).unwrap();
        let number = SINK.current.load(Ordering::SeqCst);
        assert!(SINK.all[number as usize].set((Arc::clone(&sink), Arc::clone(self))).is_ok());
        SINK.current.store(number + 1, Ordering::SeqCst);
        let over = AtomicBool::new(false);
        thread::scope(|s| {
            let used = if watched { &cpus[..CPUS - 1] } else { &cpus[CPUS - 1..] };
            s.spawn(|| self.interrupt_cpus(used, &over));
            for cpu in used.iter().filter(|_| watched) {
                s.spawn(|| {
                    if let Some(report) = watchdog(cpu, &over, LOOKS) {
                        // Not by `eprintln`, which the test keeps for its end.
                        let _ = writeln!(std::io::stderr(), "{report}");
                        std::process::exit(101);
                    }
                });
            }
            s.spawn(|| {
                // Task context: threaded parts and timers, on a thread that takes no traps.
                while !over.load(Ordering::SeqCst) {
                    if sink.next_deadline().is_some_and(|at| at <= self.now()) {
                        sink.timer();
                    }
                    thread::sleep(std::time::Duration::from_micros(20));
                }
            });
            let result = act(cpus);
            over.store(true, Ordering::SeqCst);
            result
        })
    }

    /// The controller: interrupts some CPU while a line is open.
    fn interrupt_cpus(&self, cpus: &[Cpu], over: &AtomicBool) {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        while !over.load(Ordering::SeqCst) {
            for (number, line) in self.lines.iter().enumerate() {
                if line.is_open() {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let any = random as usize % cpus.len();
                    let cpu = line.cpu.load(Ordering::SeqCst).checked_sub(1).unwrap_or(any);
                    cpus[cpu].interrupt(number);
                    (0..random % 512).for_each(|_| std::hint::spin_loop());
                }
            }
            thread::sleep(std::time::Duration::from_micros(20));
        }
    }

    /// In a trap.
    fn deliver(&self, sink: &dyn IrqSink, number: usize) {
        let line = &self.lines[number];
        if !line.is_open() {
            return;
        }
        if line.edge.load(Ordering::SeqCst) {
            line.asserted.store(false, Ordering::SeqCst);
        }
        line.delivered.fetch_add(1, Ordering::SeqCst);
        sink.interrupt(IrqLine(number as u32));
    }

    /// The device at `line` requests an interrupt.
    pub fn raise(&self, line: usize) {
        self.lines[line].asserted.store(true, Ordering::SeqCst);
    }

    /// The device at `line` has a request that was not acknowledged.
    pub fn is_asserted(&self, line: usize) -> bool {
        self.lines[line].asserted.load(Ordering::SeqCst)
    }

    pub fn is_masked(&self, line: usize) -> bool {
        self.lines[line].masked.load(Ordering::SeqCst)
    }

    pub fn delivered(&self, line: usize) -> u32 {
        self.lines[line].delivered.load(Ordering::SeqCst)
    }
}

/// Registers of the device whose base is its line's number times 4096: a write acknowledges.
struct Registers(Arc<Target>, usize);

impl Io for Registers {
    fn size(&self) -> u64 {
        16
    }

    fn read(&self, _: u64, _: Width) -> Result<u64, IoError> {
        Ok(u64::from(self.0.lines[self.1].asserted.load(Ordering::SeqCst)))
    }

    fn write(&self, _: u64, _: Width, _: u64) -> Result<(), IoError> {
        self.0.lines[self.1].asserted.store(false, Ordering::SeqCst);
        Ok(())
    }
}

/// The env; registers need the target shared.
pub struct SmpEnv(pub Arc<Target>);

impl std::ops::Deref for SmpEnv {
    type Target = Target;
    fn deref(&self) -> &Target {
        &self.0
    }
}

impl Target {
    fn now(&self) -> Instant {
        Instant(0) + self.begun.elapsed()
    }
}

impl Env for SmpEnv {
    fn memory(&self) -> Arc<dyn Memory> {
        self.inner.memory()
    }

    fn map_io(&self, base: PhysAddr, _: u64) -> Result<Arc<dyn Io>, EnvError> {
        Ok(Arc::new(Registers(Arc::clone(&self.0), (base.0 / 4096) as usize)))
    }

    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        let line = self.lines.get(line.0 as usize).ok_or(EnvError::NoSuchLine(line))?;
        match control {
            IrqControl::Enable(trigger) => {
                line.edge.store(trigger == Trigger::EdgeRising, Ordering::SeqCst);
                line.masked.store(false, Ordering::SeqCst);
                line.enabled.store(true, Ordering::SeqCst);
            }
            IrqControl::Disable => line.enabled.store(false, Ordering::SeqCst),
            IrqControl::Mask => line.masked.store(true, Ordering::SeqCst),
            IrqControl::Unmask => line.masked.store(false, Ordering::SeqCst),
        }
        Ok(())
    }

    /// The lines of messages in turn, each for the CPU that the device asks for.
    fn alloc_vectors(&self, request: &VectorRequest<'_>) -> Result<Vec<Vector>, EnvError> {
        let vector = |(n, line): (usize, usize)| {
            let cpu = request.cpus.get(n % request.cpus.len().max(1)).map_or(0, |cpu| cpu % CPUS + 1);
            self.lines[line].cpu.store(cpu, Ordering::SeqCst);
            Vector { line: IrqLine(line as u32), address: DOORBELL, data: line as u32 }
        };
        Ok(MESSAGES.take(request.count).enumerate().map(vector).collect())
    }

    fn free_vectors(&self, _: &DeviceDesc, vectors: &[Vector]) {
        for vector in vectors {
            self.lines[vector.line.0 as usize].cpu.store(0, Ordering::SeqCst);
        }
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        *self.sink.lock().unwrap() = Some(sink);
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        token.park(until.since(self.0.now()));
    }
}
