// A minimal target for the examples in the documentation: RAM, one device with an interrupt, and its clock. The examples
// include this file in a hidden module.

use std::sync::{Arc, Mutex, Weak};

use bindery::addr::{CpuPtr, PhysAddr};
use bindery::binding::Bound;
use bindery::device::{DeviceDesc, Resource, Supplier, SupplierKind};
use bindery::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use bindery::env::{
    Barrier, CacheOp, Caching, Env, EnvError, EventToken, Instant, Io, IrqControl, IrqLine, IrqSink, Memory, RamRange,
    RamUse, Trigger,
};
use bindery::event::Event;
use bindery::machine::{Handle, Machine, Policy};
use bindery::power::{Supply, SupplyError};

const RAM: PhysAddr = PhysAddr(0x4000_0000);
const PAGES: usize = 64;
const LINE: IrqLine = IrqLine(7);

#[repr(align(4096))]
struct Page(#[allow(dead_code, reason = "accessed through a pointer")] [u8; 4096]);

struct Ram(*mut Page);

// SAFETY: the pages are leaked, and only handed out under the contract of `Memory::window`.
unsafe impl Send for Ram {}
// SAFETY: as for `Send`.
unsafe impl Sync for Ram {}

// SAFETY: the pages are aligned as their physical addresses are, live for ever, and are never borrowed here.
unsafe impl Memory for Ram {
    fn ranges(&self) -> Vec<RamRange> {
        vec![RamRange { base: RAM, len: (PAGES * 4096) as u64, use_for: RamUse::Frames }]
    }

    fn window(&self, base: PhysAddr, len: u64, _: Caching) -> Option<CpuPtr> {
        let offset = base.0.checked_sub(RAM.0)?;
        let inside = offset.checked_add(len)? <= (PAGES * 4096) as u64;
        let first = self.0.cast::<u8>().wrapping_add(offset as usize);
        inside.then(|| std::ptr::NonNull::new(first).map(CpuPtr))?
    }

    fn cache(&self, _: CacheOp, _: PhysAddr, _: u64) {}

    fn barrier(&self, _: Barrier) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

struct ExampleEnv {
    memory: Arc<Ram>,
    sink: Mutex<Option<Weak<dyn IrqSink>>>,
    enabled: Mutex<bool>,
    now: Mutex<Instant>,
}

impl Env for ExampleEnv {
    fn memory(&self) -> Arc<dyn Memory> {
        self.memory.clone()
    }

    fn map_io(&self, base: PhysAddr, len: u64) -> Result<Arc<dyn Io>, EnvError> {
        Err(EnvError::NoSuchRegisters { base, len })
    }

    fn irq(&self, _: IrqLine, control: IrqControl) -> Result<(), EnvError> {
        *self.enabled.lock().unwrap() = matches!(control, IrqControl::Enable(_) | IrqControl::Unmask);
        Ok(())
    }

    fn connect(&self, sink: Weak<dyn IrqSink>) {
        *self.sink.lock().unwrap() = Some(sink);
    }

    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }

    // The device requests an interrupt during each wait.
    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        if token.is_past() {
            return;
        }
        *self.now.lock().unwrap() = until;
        let sink = self.sink.lock().unwrap().as_ref().and_then(Weak::upgrade);
        let enabled = *self.enabled.lock().unwrap();
        if let Some(sink) = sink.filter(|_| enabled) {
            sink.interrupt(LINE);
        }
    }

    fn tracing_enabled(&self) -> bool {
        false
    }

    fn emit(&self, _: &Event) {}
}

type Script = Box<dyn for<'b> Fn(Bound<'b>) -> Result<(), ProbeError> + Send + Sync>;

struct Example(Script);

impl Driver for Example {
    const NAME: &'static str = "example";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,example")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        (self.0)(dev)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

pub struct Clock;

impl Supply for Clock {
    fn switch(&self, _: SupplierKind, _: &[u32], _: bool) -> Result<(), SupplyError> {
        Ok(())
    }
}

impl Driver for Clock {
    const NAME: &'static str = "clock";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,clock")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        Ok(dev.provide::<dyn Supply>(Arc::new(Clock))?)
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// The target, with its RAM empty.
pub fn env() -> Arc<dyn Env> {
    let pages: Vec<Page> = (0..PAGES).map(|_| Page([0; 4096])).collect();
    let memory = Arc::new(Ram(Box::leak(pages.into_boxed_slice()).as_mut_ptr()));
    Arc::new(ExampleEnv { memory, sink: Mutex::default(), enabled: Mutex::default(), now: Mutex::new(Instant(0)) })
}

/// Creates a machine without devices on the target.
pub fn machine() -> Handle {
    Machine::new(env(), Policy::default())
}

/// Binds the device to a driver whose probe is `script`, and unbinds it. Panics when the probe fails.
pub fn bind(script: impl for<'b> Fn(Bound<'b>) -> Result<(), ProbeError> + Send + Sync + 'static) {
    let machine = machine();
    let mut clock = DeviceDesc::new("clock");
    clock.compatible.push("acme,clock".into());
    let clock = machine.add_device(clock).unwrap().node();
    let mut device = DeviceDesc::new("example");
    device.compatible.push("acme,example".into());
    device.resources.push(Resource::Irq { line: LINE, trigger: Trigger::LevelHigh });
    let (kind, property) = (SupplierKind::Clock, "clocks".into());
    device.suppliers.push(Supplier { node: clock, target: clock, kind, property, args: vec![0] });
    let device = machine.add_device(device).unwrap();
    machine.register(Clock);
    machine.register(Example(Box::new(script)));
    machine.settle();
    assert_eq!(device.driver(), Some("example"), "the probe failed: {:?}", machine.waiting());
    machine.unregister("example");
    assert_eq!(machine.promises().broken(), []);
}
