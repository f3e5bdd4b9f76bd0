//! A driver whose behaviour a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bindery::binding::{Bound, Mmio};
use bindery::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use bindery::irq::Irq;

type Hook<R> = Box<dyn Fn() -> R + Send + Sync>;

/// Behaviour of the toy, and counts of its calls.
pub struct Script {
    pub probe: Box<dyn Fn(Bound<'_>) -> Result<(), ProbeError> + Send + Sync>,
    pub interrupt: Hook<IrqReturn>,
    /// Threaded part of the interrupt.
    pub thread: Hook<()>,
    pub probes: AtomicUsize,
    pub interrupts: AtomicUsize,
    /// Touches the register at this offset in every step of its end, too.
    pub touches: Option<u64>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            probe: Box::new(|_| Ok(())),
            interrupt: Box::new(|| IrqReturn::Handled),
            thread: Box::new(|| ()),
            probes: AtomicUsize::new(0),
            interrupts: AtomicUsize::new(0),
            touches: None,
        }
    }
}

impl Script {
    pub fn probes(&self) -> usize {
        self.probes.load(Ordering::SeqCst)
    }
    pub fn interrupts(&self) -> usize {
        self.interrupts.load(Ordering::SeqCst)
    }
}

pub struct Data<'b> {
    pub dev: Bound<'b>,
    regs: Option<Mmio<'b>>,
    _irq: Option<Irq<'b>>,
    script: Arc<Script>,
}

impl Data<'_> {
    fn touch(&self) {
        if let Some(offset) = self.script.touches {
            let regs = self.regs.as_ref().expect("it has registers");
            regs.read32(offset).expect("the registers answer");
        }
    }
}

impl Drop for Data<'_> {
    fn drop(&mut self) {
        self.touch();
    }
}

fn start<'b>(script: &Arc<Script>, dev: Bound<'b>) -> Result<Data<'b>, ProbeError> {
    script.probes.fetch_add(1, Ordering::SeqCst);
    dev.mark_quiesced(Quiesced::never_started());
    let regs = dev.mmio(0).ok();
    let (ours, theirs) = (Arc::clone(script), Arc::clone(script));
    let handler = move || {
        ours.interrupts.fetch_add(1, Ordering::SeqCst);
        (ours.interrupt)()
    };
    let irq = dev.request_threaded_irq(0, handler, move || (theirs.thread)()).ok();
    let data = Data { dev, regs, _irq: irq, script: Arc::clone(script) };
    (script.probe)(dev)?;
    Ok(data)
}

macro_rules! toys {
    ($($toy:ident, $name:literal, $compatible:literal;)*) => {
        $(
            /// A toy of its own name, for devices of its own kind.
            pub struct $toy(pub Arc<Script>);

            impl Driver for $toy {
                const NAME: &'static str = $name;
                const MATCHES: &'static [Match] = &[Match::compatible($compatible)];
                type Data<'b> = Data<'b>;
                fn probe<'b>(&self, dev: Bound<'b>) -> Result<Data<'b>, ProbeError> {
                    start(&self.0, dev)
                }
                fn quiesce(data: &Data<'_>) -> Result<Quiesced, QuiesceError> {
                    data.touch();
                    Ok(Quiesced::stopped())
                }
            }
        )*
    };
}

toys! {
    Toy, "toy", "t,toy";
    Other, "other", "t,other";
    Rival, "rival", "t,toy";
}
