//! CPUs: threads of the host that take traps.

// UNSAFETY: a signal handler and signals to threads; an allocator that counts. The handler touches atomics and locals of its
// thread without destructors, and what it calls is what this test is about.
#![expect(unsafe_code, reason = "traps are signals")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, compiler_fence};
use std::sync::{Mutex, Once, OnceLock};
use std::thread;

use bindery::sync::{HardIrq, InterruptState, TargetHooks, set_target_hooks};

/// Number of CPUs. The last one is for the test whose trap does not end, since it never comes back.
pub const CPUS: usize = 5;
const TRAP: libc::c_int = libc::SIGUSR1;

/// A CPU: the traps that it has begun and ended, and the lines that wait for it.
#[derive(Default)]
pub struct Cpu {
    /// Thread that is this CPU. Changed, and read for a signal, under the lock: no signal goes to a thread that has ended.
    thread: Mutex<Option<libc::pthread_t>>,
    raised: AtomicU64,
    begun: AtomicUsize,
    ended: AtomicUsize,
    /// Line that is delivered, for the watchdog.
    line: AtomicUsize,
}

thread_local! {
    static THIS: Cell<Option<&'static Cpu>> = const { Cell::new(None) };
    static MASKED: Cell<bool> = const { Cell::new(false) };
    static PENDING: Cell<bool> = const { Cell::new(false) };
    static IN_TRAP: Cell<bool> = const { Cell::new(false) };
}

/// What one trap does for a line.
type Deliver = dyn Fn(usize) + Send + Sync;
static DELIVER: OnceLock<Box<Deliver>> = OnceLock::new();

/// Allocations and frees in traps, and locks that were taken there.
pub static IN_TRAPS: Counts = Counts { allocations: AtomicUsize::new(0), locks: AtomicUsize::new(0) };

pub struct Counts {
    pub allocations: AtomicUsize,
    pub locks: AtomicUsize,
}

impl Counts {
    pub fn take(&self) -> (usize, usize) {
        (self.allocations.swap(0, Ordering::SeqCst), self.locks.swap(0, Ordering::SeqCst))
    }
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count_allocation() {
    if IN_TRAP.try_with(Cell::get).unwrap_or(false) {
        IN_TRAPS.allocations.fetch_add(1, Ordering::SeqCst);
    }
}

// SAFETY: forwards to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_allocation();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count_allocation();
        // SAFETY: the caller's.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count_allocation();
        // SAFETY: the caller's.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Disables and restores the traps of the calling CPU.
struct Hooks;

impl TargetHooks for Hooks {
    fn disable_interrupts(&self) -> InterruptState {
        if IN_TRAP.get() {
            IN_TRAPS.locks.fetch_add(1, Ordering::SeqCst);
        }
        let before = MASKED.replace(true);
        compiler_fence(Ordering::SeqCst);
        usize::from(before)
    }

    fn restore_interrupts(&self, before: InterruptState) {
        compiler_fence(Ordering::SeqCst);
        MASKED.set(before != 0);
        compiler_fence(Ordering::SeqCst);
        if before == 0 && PENDING.get() {
            service();
        }
    }
}

extern "C" fn trap(_: libc::c_int) {
    // SAFETY: the location of this thread's `errno`, which the interrupted code may be about to read.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    if MASKED.get() {
        PENDING.set(true);
    } else {
        service();
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Takes a trap on the calling CPU.
fn service() {
    let Some(cpu) = THIS.get() else { return };
    MASKED.set(true);
    PENDING.set(false);
    IN_TRAP.set(true);
    cpu.begun.fetch_add(1, Ordering::SeqCst);
    {
        let _hard = HardIrq::enter();
        let mut lines = cpu.raised.swap(0, Ordering::SeqCst);
        while lines != 0 {
            let line = lines.trailing_zeros() as usize;
            lines &= lines - 1;
            cpu.line.store(line, Ordering::SeqCst);
            if let Some(deliver) = DELIVER.get() {
                deliver(line);
            }
        }
    }
    cpu.ended.fetch_add(1, Ordering::SeqCst);
    IN_TRAP.set(false);
    compiler_fence(Ordering::SeqCst);
    MASKED.set(false);
}

/// The CPU that the calling thread is.
pub fn current() -> Option<&'static Cpu> {
    THIS.get()
}

/// True inside a trap.
pub fn in_trap() -> bool {
    IN_TRAP.get()
}

static CPUS_OF_PROCESS: OnceLock<[Cpu; CPUS]> = OnceLock::new();

/// The CPUs of this process. `deliver` is called in traps, for each line.
pub fn cpus(deliver: impl Fn(usize) + Send + Sync + 'static) -> &'static [Cpu; CPUS] {
    static SET_UP: Once = Once::new();
    SET_UP.call_once(|| {
        set_target_hooks(&Hooks).unwrap();
        assert!(DELIVER.set(Box::new(deliver)).is_ok());
        // SAFETY: a zeroed `sigaction` is one without flags and with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = trap as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` is complete, and its handler is async-signal-safe if what it calls keeps the contract under test.
        assert_eq!(unsafe { libc::sigaction(TRAP, &raw const action, std::ptr::null_mut()) }, 0);
    });
    CPUS_OF_PROCESS.get_or_init(Default::default)
}

impl Cpu {
    /// Its place among the CPUs.
    pub fn number(&self) -> usize {
        let all = CPUS_OF_PROCESS.get().into_iter().flatten();
        all.into_iter().position(|cpu| std::ptr::eq(cpu, self)).unwrap_or(usize::MAX)
    }

    /// Runs `act` on the calling thread as this CPU.
    pub fn run<R>(&'static self, act: impl FnOnce() -> R) -> R {
        THIS.set(Some(self));
        // SAFETY: no preconditions.
        *self.thread.lock().unwrap() = Some(unsafe { libc::pthread_self() });
        let result = act();
        // Masked first: a trap while this thread holds the lock would be harmless, but one after it has left would not be its.
        MASKED.set(true);
        *self.thread.lock().unwrap() = None;
        THIS.set(None);
        MASKED.set(false);
        result
    }

    /// Interrupts this CPU for `line`. False when it is not online. Not called on a CPU.
    pub fn interrupt(&self, line: usize) -> bool {
        let thread = self.thread.lock().unwrap();
        let Some(thread) = *thread else { return false };
        self.raised.fetch_or(1 << line, Ordering::SeqCst);
        // SAFETY: the thread has not ended: it takes the lock before it does.
        unsafe { libc::pthread_kill(thread, TRAP) == 0 }
    }

    /// Line in whose delivery the CPU is now, with the number of the trap.
    pub fn delivering(&self) -> Option<(usize, usize)> {
        let begun = self.begun.load(Ordering::SeqCst);
        (begun != self.ended.load(Ordering::SeqCst)).then(|| (begun, self.line.load(Ordering::SeqCst)))
    }
}

/// Looks at a trap after which it counts as one that does not end: they take 20 s at least. A busy host may keep a CPU's thread, or one
/// whose lock it waits for, from running for seconds.
pub const LOOKS: u32 = 10_000;

/// Watches `cpu` until it has had the same trap for so many looks, 2 ms and more apart, and returns the report; `None` once `over` is
/// set.
pub fn watchdog(cpu: &Cpu, over: &AtomicBool, looks: u32) -> Option<String> {
    let mut stuck = (None, 0);
    while !over.load(Ordering::SeqCst) {
        thread::sleep(std::time::Duration::from_millis(2));
        let now = cpu.delivering();
        stuck = if now.is_some() && now == stuck.0 { (now, stuck.1 + 1) } else { (now, 0) };
        if let (Some((number, line)), seen) = stuck
            && seen >= looks
        {
            return Some(format!(
                "trap {number}, on line {line}, does not end: it waits for the code that it interrupted"
            ));
        }
    }
    None
}
