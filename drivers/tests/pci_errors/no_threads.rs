//! The board `virt` without threads, with things that happen in the middle of others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use bindery::addr::PhysAddr;
use bindery::env::{Env, EnvError, EventToken, Instant, Io, IoError, IrqControl, IrqLine, IrqSink, Job, Width};
use bindery_sim::interpose::Interpose;
use bindery_sim::virt;

/// Something that happens once, in the middle of something else.
pub(crate) type Once = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// A board without threads: what is put off is done where the test waits, so each run is the same.
pub(crate) struct NoThreads {
    board: Arc<dyn Env>,
    pub(crate) at_wait: Once,
    pub(crate) at_map: Once,
    pub(crate) signals: Arc<Signals>,
}

impl NoThreads {
    pub(crate) fn on(board: Arc<dyn Env>) -> Arc<Self> {
        let (sink, at_arm, loses) = (OnceLock::new(), Once::default(), AtomicBool::new(false));
        let signals = Arc::new(Signals { board: Arc::clone(&board), sink, at_arm, loses });
        Arc::new(Self { board, at_wait: Once::default(), at_map: Once::default(), signals })
    }
}

fn happen(once: &Once) {
    let happens = once.lock().unwrap().take();
    if let Some(happens) = happens {
        happens();
    }
}

impl Interpose for NoThreads {
    fn inner(&self) -> &dyn Env {
        &*self.board
    }

    fn spawn(&self, job: Job) -> Result<(), Job> {
        Err(job)
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        happen(&self.at_wait);
        self.inner().wait(token, until);
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        happen(&self.at_map);
        let (io, signals) = (self.inner().map_io(base, len)?, Arc::clone(&self.signals));
        Ok(if (base, len) == virt::ECAM { Arc::new(Registers { io, signals }) } else { io })
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        self.signals.sink.set(sink).unwrap();
        self.inner().connect(Arc::downgrade(&self.signals) as _);
    }
}

/// Interrupts on their way to the core.
pub(crate) struct Signals {
    board: Arc<dyn Env>,
    sink: OnceLock<Weak<dyn IrqSink>>,
    /// Before the root port's slot gets its interrupt.
    pub(crate) at_arm: Once,
    /// The next interrupt is lost: a port of QEMU 7.2 takes its slot's request back when one of its registers is written.
    pub(crate) loses: AtomicBool,
}

impl IrqSink for Signals {
    fn interrupt(&self, line: IrqLine) {
        if self.loses.swap(false, Ordering::Relaxed) {
            self.board.irq(line, IrqControl::Mask).unwrap();
        } else if let Some(sink) = self.sink.get().and_then(Weak::upgrade) {
            sink.interrupt(line);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.sink.get()?.upgrade()?.next_deadline()
    }

    fn timer(&self) {
        if let Some(sink) = self.sink.get().and_then(Weak::upgrade) {
            sink.timer();
        }
    }
}

/// Configuration space.
struct Registers {
    io: Arc<dyn Io>,
    signals: Arc<Signals>,
}

impl Io for Registers {
    fn size(&self) -> u64 {
        self.io.size()
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        self.io.read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        // The interrupts of a slot, in the function 00:01.0.
        if offset >> 12 == 1 << 3 && value & 0x1029 == 0x1029 {
            happen(&self.signals.at_arm);
        }
        self.io.write(offset, width, value)
    }
}
