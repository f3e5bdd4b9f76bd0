//! An env over a QEMU process.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bindery::addr::{PAGE_SIZE, PhysAddr};
use bindery::device::DeviceDesc;
use bindery::env::{
    Env, EnvError, EventToken, Instant, Io, IoError, IrqControl, IrqLine, IrqSink, Memory, RamRange, RamUse, Vector,
    VectorRequest, Width,
};
use bindery::event::Event;
use bindery::pci::{FunctionId, Window};
use bindery::sync::relax;
use serde_json::{Value, json};

use crate::interrupts::{FIRST_MESSAGE, Interrupts, MESSAGES};
use crate::memory::SharedRam;
use crate::{Error, Machine, Options, Qemu};

/// Device time of one register access, and of a delivery: time also passes for a driver that polls without waiting.
const ACCESS: Duration = Duration::from_micros(1);
/// Number of times that one call delivers a line that stays high.
const ROUNDS: usize = 8;
/// Alarms of a second each in one run of the clock: the first one comes when a second of the clock begins.
const ALARMS: usize = 2;
/// Time of the host for which a wait for other threads lets them run, and device time that then passes.
const THREADS_RUN: Duration = Duration::from_micros(100);
const THREADS_TICK: Duration = Duration::from_millis(1);

/// Bytes of RAM, and how many at its start firmware has: QEMU's device tree, or the holes of a PC below 1 MiB.
const RAM: u64 = 64 << 20;
const FIRMWARE: u64 = 2 << 20;
const CONTIGUOUS: u64 = 16 << 20;

/// Receiver of events.
pub type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// The PCI host bridge of a machine.
#[derive(Clone, Debug)]
pub struct PciHost {
    /// First byte of the ECAM window, and its bytes.
    pub ecam: (PhysAddr, u64),
    /// Addresses that the host bridge passes on.
    pub windows: Vec<Window>,
}

/// A machine of QEMU as the core's env: RAM mapped directly, registers over the socket, interrupt lines as QEMU's interrupt controller
/// gets them, messages (MSI) by words of a page in RAM.
///
/// QEMU's clock stands still but for [`wait`](Env::wait), each of which lets it run for a second at least: what devices do within a second
/// is then done, however short the wait. A run of one thread does the same each time, however long the host takes for it. Of threads
/// that wait at once each lets the clock run in its turn.
///
/// When QEMU ends, hangs, or answers what the protocol does not have, registers read as ones and writes are lost, as for devices that
/// were removed, and time passes in waits alone. [`error`](Self::error) then has the reason.
pub struct QemuEnv {
    inner: Arc<Inner>,
}

struct Inner {
    qemu: Mutex<Qemu>,
    within: Duration,
    /// The first error, after which QEMU is asked nothing more.
    error: Mutex<Option<Error>>,
    failed: AtomicBool,
    ram: Arc<SharedRam>,
    base: PhysAddr,
    pci: PciHost,
    blob: Option<Vec<u8>>,
    interrupts: Mutex<Interrupts>,
    now: AtomicU64,
    /// Held while QEMU's clock runs: the alarm that ends a run is one, and a stop would end another thread's run as well.
    clock: Mutex<()>,
    /// Threads that deliver interrupts.
    delivering: Mutex<Vec<ThreadId>>,
    /// Number of register accesses. Held while a wait advances the time.
    accesses: Mutex<u64>,
    /// Ports whose devices were pulled out, and the addresses that were behind them: first and past the last.
    absent: Mutex<Vec<(FunctionId, PhysAddr, PhysAddr)>>,
    sink: Mutex<Option<Weak<dyn IrqSink>>>,
    listener: Mutex<Option<Listener>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl QemuEnv {
    /// Starts a machine, its clock stopped.
    ///
    /// # Errors
    ///
    /// As [`Qemu::start`], and when its RAM or its interrupt lines cannot be had.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let machine = options.machine;
        let mut qemu = Qemu::start(&options.clone().shared(RAM))?;
        let file = |source| Error::File { what: "the machine's RAM".into(), source };
        let (base, first_line) = match machine {
            Machine::Q35 => (PhysAddr(0), 0),
            // SPI n is input n of the controller, and interrupt 32 + n.
            Machine::Virt => (PhysAddr(0x4000_0000), 32),
        };
        let (ecam, windows, blob) = {
            let config = qemu.config_space()?;
            let buses = config.buses();
            let len = (u64::from(*buses.end()) - u64::from(*buses.start()) + 1) << 20;
            ((PhysAddr(config.ecam()), len), config.windows().to_vec(), config.tree().map(<[u8]>::to_vec))
        };
        let ranges = [
            // The last page is the doorbell's.
            (base.0 + FIRMWARE, RAM - FIRMWARE - CONTIGUOUS, RamUse::Frames),
            (base.0 + RAM - CONTIGUOUS, CONTIGUOUS - PAGE_SIZE, RamUse::Contiguous),
        ];
        let ranges = ranges.map(|(base, len, use_for)| RamRange { base: PhysAddr(base), len, use_for }).to_vec();
        let opened = File::options().read(true).write(true).open(qemu.ram_file()).map_err(file)?;
        let ram = Arc::new(SharedRam::map(&opened, base, RAM as usize, ranges).map_err(file)?);
        qemu.intercept()?;
        let inner = Inner {
            qemu: Mutex::new(qemu),
            within: options.within,
            error: Mutex::default(),
            failed: AtomicBool::new(false),
            ram,
            base,
            pci: PciHost { ecam, windows },
            blob,
            interrupts: Mutex::new(Interrupts::new(first_line)),
            now: AtomicU64::new(0),
            clock: Mutex::default(),
            delivering: Mutex::default(),
            accesses: Mutex::default(),
            absent: Mutex::default(),
            sink: Mutex::default(),
            listener: Mutex::default(),
        };
        let env = Self { inner: Arc::new(inner) };
        // The CPU gets to its halt.
        env.inner.run_clock();
        match env.take_error() {
            Some(error) => Err(error),
            None => Ok(env),
        }
    }

    /// The PCI host bridge of the machine.
    pub fn pci(&self) -> &PciHost {
        &self.inner.pci
    }

    /// The device tree that QEMU has made; `None` for a machine that has none.
    pub fn device_tree(&self) -> Option<&[u8]> {
        self.inner.blob.as_deref()
    }

    /// Address and data of message `n`, and the line by which it is delivered; `None` past the last one.
    pub fn message(&self, n: u32) -> Option<(PhysAddr, u32, IrqLine)> {
        (n < MESSAGES).then(|| (self.inner.doorbell(n), n + 1, IrqLine(FIRST_MESSAGE + n)))
    }

    /// True while QEMU holds the line asserted, as far as it has told.
    pub fn line_is_high(&self, line: IrqLine) -> bool {
        lock(&self.inner.interrupts).is_high(line.0)
    }

    /// The line of pin `pin` (0 for INTA) of device `device` on the host bridge's own bus.
    pub fn pin_line(&self, device: u8, pin: u8) -> IrqLine {
        let turned = (u32::from(device) + u32::from(pin)) % 4;
        let machine = lock(&self.inner.qemu).machine;
        // The Q35's chipset has registers for the devices from 25 on, and PIRQE to PIRQH (20 to 23) for those below.
        IrqLine(if machine == Machine::Q35 { 20 + turned } else { 35 + turned })
    }

    /// Sends a command to the monitor.
    ///
    /// # Errors
    ///
    /// QEMU refuses it, which ends nothing. Or it ends or does not answer, as at any other access: it is asked nothing more then, and
    /// further calls return [`Error::Failed`] at once.
    pub fn monitor(&self, command: &str, arguments: &Value) -> Result<Value, Error> {
        if self.inner.failed.load(Ordering::Relaxed) {
            let earlier = self.error().unwrap_or_else(|| "an error that was taken".into());
            return Err(Error::Failed { doing: format!("its monitor for {command}"), earlier });
        }
        let answer = lock(&self.inner.qemu).monitor(command, arguments);
        self.inner.notice();
        if let Err(error) = &answer
            && !matches!(error, Error::Refused { .. })
        {
            self.inner.fail(error.copy());
        }
        answer
    }

    /// The error because of which QEMU is asked nothing more, as text.
    pub fn error(&self) -> Option<String> {
        lock(&self.inner.error).as_ref().map(ToString::to_string)
    }

    /// The same error itself. The env stays as it is: registers read as ones.
    pub fn take_error(&self) -> Option<Error> {
        lock(&self.inner.error).take()
    }

    /// Reads RAM, the core's or not, for tools and tests. Returns false when not all of it is RAM.
    pub fn read_ram(&self, at: PhysAddr, bytes: &mut [u8]) -> bool {
        self.inner.ram.read(at, bytes)
    }

    /// Writes RAM likewise.
    pub fn write_ram(&self, at: PhysAddr, bytes: &[u8]) -> bool {
        self.inner.ram.write(at, bytes)
    }

    /// Says that nothing answers at the addresses `window` behind `port` any more; `None`: that something may. A host bridge reads ones
    /// there; the Q35 of QEMU reads zeros.
    pub(crate) fn set_absent(&self, port: FunctionId, window: Option<(PhysAddr, PhysAddr)>) {
        let mut list = lock(&self.inner.absent);
        list.retain(|other| other.0 != port);
        list.extend(window.map(|(first, end)| (port, first, end)));
    }

    /// Number of register accesses so far.
    pub fn accesses(&self) -> u64 {
        *lock(&self.inner.accesses)
    }

    /// Calls `listener` with every event from now on, instead of an earlier one. It must not call the machine.
    pub fn on_event(&self, listener: Listener) {
        *lock(&self.inner.listener) = Some(listener);
    }

    /// Delivers what is pending without letting time pass. Returns the number of deliveries.
    pub fn run_pending(&self) -> usize {
        self.inner.synchronise();
        self.inner.deliver()
    }

    /// Lets time pass until `until`, with what is due delivered.
    pub fn advance(&self, until: Instant) {
        let waiter = bindery::sync::Waiter::of_this_thread();
        while self.now() < until {
            self.wait(&waiter.token(), until);
        }
    }
}

impl Inner {
    fn doorbell(&self, n: u32) -> PhysAddr {
        self.base + (RAM - PAGE_SIZE) + 4 * u64::from(n)
    }

    /// Calls `ask` unless QEMU has failed before. An error is kept.
    fn ask<T>(&self, ask: impl FnOnce(&mut Qemu) -> Result<T, Error>) -> Option<T> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        let answer = ask(&mut lock(&self.qemu));
        self.notice();
        answer.map_err(|error| self.fail(error)).ok()
    }

    fn fail(&self, error: Error) {
        self.failed.store(true, Ordering::Relaxed);
        lock(&self.error).get_or_insert(error);
    }

    /// Takes over what QEMU has told of its lines with its last answer, and looks at the doorbell.
    fn notice(&self) {
        let mut qemu = lock(&self.qemu);
        let mut interrupts = lock(&self.interrupts);
        interrupts.update(&mut qemu.inputs);
        interrupts.messages(|n| self.ram.take_word(self.doorbell(n)));
    }

    /// Has QEMU tell what has happened until now.
    fn synchronise(&self) {
        self.ask(|qemu| qemu.qtest("endianness"));
    }

    /// Lets QEMU's clock run for a second at least, which its CPU, always idle, spends going from timer to timer. An alarm of the
    /// machine's own clock tells that the second is over: how long it takes the host plays no part. The lock of the clock is held.
    fn run_clock(&self) {
        let control = |command: &str| self.ask(|qemu| qemu.monitor(command, &json!({})));
        let until = std::time::Instant::now() + self.within;
        for alarm in 0..ALARMS {
            self.ask(Qemu::set_alarm);
            if alarm == 0 {
                control("cont");
            }
            loop {
                self.synchronise();
                if self.failed.load(Ordering::Relaxed) || lock(&self.qemu).inputs.rang {
                    break;
                }
                if std::time::Instant::now() > until {
                    let said = lock(&self.qemu).said();
                    let doing = "its clock was to run".into();
                    self.fail(Error::Hangs { doing, within: self.within, said });
                }
            }
        }
        control("stop");
        self.synchronise();
    }

    /// Advances the time to `until` after a run of the clock that began when there had been `before` accesses.
    fn end_run(&self, until: Instant, before: u64) {
        let accesses = lock(&self.accesses);
        if self.sink().is_some() && self.is_signalled() {
            // When it came cannot be told: some time has passed.
            self.pass(ACCESS);
        } else if until == Instant::MAX || *accesses != before {
            // Only another thread can end this wait. Or what one has begun meanwhile has not had its second, and it would be late:
            // the next run has all of it.
            drop(accesses);
            relax();
        } else {
            self.now.fetch_max(until.0, Ordering::AcqRel);
        }
    }

    fn pass(&self, time: Duration) {
        self.now.fetch_add(time.as_nanos() as u64, Ordering::AcqRel);
    }

    fn sink(&self) -> Option<Arc<dyn IrqSink>> {
        lock(&self.sink).as_ref().and_then(Weak::upgrade)
    }

    /// True when an interrupt is to be delivered, or another thread delivers one: somebody may wait for it who is not late.
    fn is_signalled(&self) -> bool {
        // Under the lock, by which it is one or the other.
        let interrupts = lock(&self.interrupts);
        let me = thread::current().id();
        interrupts.pending(0).is_some() || lock(&self.delivering).iter().any(|thread| *thread != me)
    }

    /// Calls the machine's timer if its deadline has passed.
    fn run_timer(&self) -> bool {
        let now = Instant(self.now.load(Ordering::Acquire));
        let due = self.sink().filter(|sink| sink.next_deadline().is_some_and(|at| at <= now));
        if let Some(sink) = &due {
            sink.timer();
        }
        due.is_some()
    }

    /// Delivers pending lines, lowest first, each at most [`ROUNDS`] times.
    fn deliver(&self) -> usize {
        let Some(sink) = self.sink() else { return 0 };
        let mut delivered = 0;
        for _ in 0..ROUNDS {
            let before = delivered;
            let mut from = 0;
            // The lock is free while the receiver runs. A line is pending or being delivered at each moment.
            let take = |from| {
                let mut interrupts = lock(&self.interrupts);
                Some((interrupts.take(from)?, Delivery::begin(&self.delivering)))
            };
            while let Some((line, _delivery)) = take(from) {
                self.pass(ACCESS);
                sink.interrupt(IrqLine(line));
                delivered += 1;
                from = line + 1;
            }
            if delivered == before {
                break;
            }
        }
        delivered
    }
}

/// A delivery, from its line's being taken to its end.
struct Delivery<'i>(&'i Mutex<Vec<ThreadId>>);

impl<'i> Delivery<'i> {
    fn begin(delivering: &'i Mutex<Vec<ThreadId>>) -> Self {
        lock(delivering).push(thread::current().id());
        Self(delivering)
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        let (me, mut delivering) = (thread::current().id(), lock(self.0));
        if let Some(i) = delivering.iter().position(|thread| *thread == me) {
            delivering.swap_remove(i);
        }
    }
}

impl Env for QemuEnv {
    fn memory(&self) -> Arc<dyn Memory> {
        Arc::clone(&self.inner.ram) as _
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        let none = EnvError::NoSuchRegisters { base, len };
        let end = base.checked_add(len).filter(|_| len > 0).ok_or(none)?;
        let (first, last) = (self.inner.base, self.inner.base + RAM);
        if first < end && base < last {
            return Err(none);
        }
        Ok(Arc::new(Registers { inner: Arc::clone(&self.inner), base, len }))
    }

    fn irq(&self, line: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        if let (IrqControl::Enable(_), Some(n)) = (control, line.0.checked_sub(FIRST_MESSAGE).filter(|n| *n < MESSAGES))
        {
            // What was written before nobody waits for.
            self.inner.ram.take_word(self.inner.doorbell(n));
        }
        lock(&self.inner.interrupts).control(line, control)
    }

    fn alloc_vectors(&self, request: &VectorRequest<'_>) -> Result<Vec<Vector>, EnvError> {
        // Each word of the page is a message, so messages that have one address are one.
        let count = if request.consecutive { 1 } else { request.count };
        let free = lock(&self.inner.interrupts).allocate(count);
        let message = |n: u32| {
            let (address, data, line) = self.message(n)?;
            Some(Vector { line, address, data })
        };
        let found: Vec<Vector> = free.into_iter().filter_map(message).collect();
        if found.is_empty() { Err(EnvError::NoVectors) } else { Ok(found) }
    }

    fn free_vectors(&self, _: &DeviceDesc, vectors: &[Vector]) {
        let mut interrupts = lock(&self.inner.interrupts);
        for vector in vectors {
            interrupts.free(vector.line);
        }
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        *lock(&self.inner.sink) = Some(sink);
    }

    fn now(&self) -> Instant {
        Instant(self.inner.now.load(Ordering::Acquire))
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        let inner = &*self.inner;
        inner.synchronise();
        if token.is_past() || inner.deliver() > 0 || inner.run_timer() {
            return;
        }
        let mut until = until;
        if token.awaits_threads() {
            token.park(THREADS_RUN);
            if token.is_past() {
                return;
            }
            until = until.min(self.now() + THREADS_TICK);
        }
        let deadline = inner.sink().and_then(|sink| sink.next_deadline());
        let until = deadline.map_or(until, |at| at.min(until));
        let one_run = lock(&inner.clock);
        // Another thread's run may have been what this one waits for.
        if token.is_past() {
            return;
        }
        let before = self.accesses();
        inner.run_clock();
        inner.end_run(until, before);
        drop(one_run);
        inner.deliver();
        inner.run_timer();
    }

    fn tracing_enabled(&self) -> bool {
        lock(&self.inner.listener).is_some()
    }

    fn emit(&self, event: &Event) {
        let listener = lock(&self.inner.listener).clone();
        if let Some(listener) = listener {
            listener(event);
        }
    }

    fn env_owned(&self, compatible: &[Arc<str>]) -> bool {
        const OWNED: [&str; 4] = ["arm,cortex-a15-gic", "arm,gic-v3", "arm,gic-v2m-frame", "arm,armv8-timer"];
        compatible.iter().any(|c| OWNED.contains(&&**c))
    }
}

/// Registers of a device, each access a command of the qtest protocol.
struct Registers {
    inner: Arc<Inner>,
    base: PhysAddr,
    len: u64,
}

impl Registers {
    fn command(&self, offset: u64, width: Width, what: &str) -> Result<String, IoError> {
        let bytes = width.bytes();
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.len);
        if !inside || offset & (bytes - 1) != 0 {
            return Err(IoError::Bad { offset, bytes: bytes as u8 });
        }
        self.inner.pass(ACCESS);
        Ok(format!("{what}{} {:#x}", crate::config::letter(width), self.base.0 + offset))
    }
}

impl Registers {
    /// Counts an access once it is done: a run of the clock that it has come in the middle of then sees it, or advances the time before
    /// the caller looks at it.
    fn count(&self) {
        *lock(&self.inner.accesses) += 1;
    }
}

impl Io for Registers {
    fn size(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let command = self.command(offset, width, "read")?;
        let ones = u64::MAX >> (64 - 8 * width.bytes());
        let at = self.base + offset;
        if lock(&self.inner.absent).iter().any(|(_, first, end)| (*first..*end).contains(&at)) {
            self.count();
            return Ok(ones);
        }
        let value = self.inner.ask(|qemu| qemu.number(&command)).map_or(ones, |value| value & ones);
        self.count();
        Ok(value)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        let value = value & u64::MAX >> (64 - 8 * width.bytes());
        let command = self.command(offset, width, "write")?;
        self.inner.ask(|qemu| qemu.qtest(&format!("{command} {value:#x}")));
        self.count();
        Ok(())
    }
}

impl std::fmt::Debug for QemuEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QemuEnv({:?})", lock(&self.inner.qemu))
    }
}
