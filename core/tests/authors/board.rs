//! A target with RAM, one device, and an interrupt line of it.

// UNSAFETY: RAM is a leaked allocation, lent as the contract of `Memory::window` says.
#![expect(unsafe_code, reason = "implements the unsafe trait `Memory`")]

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, Weak};

use bindery::addr::{CpuPtr, PhysAddr};
use bindery::device::{DeviceDesc, Resource};
use bindery::driver::Driver;
use bindery::env::{
    Barrier, CacheOp, Caching, Env, EnvError, EventToken, Instant, Io, IoError, IrqControl, IrqLine, IrqSink, Job,
    Memory, RamRange, RamUse, Trigger, Width,
};
use bindery::machine::{Handle, Machine, Policy};
use bindery::mem::access;

const RAM: PhysAddr = PhysAddr(0x4000_0000);
const BYTES: u64 = 256 << 12;
const REGISTERS: PhysAddr = PhysAddr(0x1000_0000);
const LINE: IrqLine = IrqLine(9);

#[repr(align(4096))]
#[derive(Clone)]
struct Page(#[expect(dead_code, reason = "accessed through a pointer")] [u8; 4096]);

struct Ram(NonNull<u8>);

// SAFETY: the pages are leaked, and only handed out under the contract of `Memory::window`.
unsafe impl Send for Ram {}
// SAFETY: as for `Send`.
unsafe impl Sync for Ram {}

// SAFETY: the pages are aligned as their physical addresses are, live for ever, and are never borrowed here.
unsafe impl Memory for Ram {
    fn ranges(&self) -> Vec<RamRange> {
        vec![RamRange { base: RAM, len: BYTES, use_for: RamUse::Frames }]
    }

    fn window(&self, base: PhysAddr, len: u64, _: Caching) -> Option<CpuPtr> {
        let offset = base.0.checked_sub(RAM.0)?;
        let inside = offset.checked_add(len)? <= BYTES;
        inside.then(|| NonNull::new(self.0.as_ptr().wrapping_add(offset as usize)).map(CpuPtr))?
    }

    fn cache(&self, _: CacheOp, _: PhysAddr, _: u64) {}

    fn barrier(&self, _: Barrier) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}

/// The part of a board that a device model sees.
#[derive(Clone)]
pub(super) struct Bus {
    ram: Arc<Ram>,
    requested: Arc<Mutex<bool>>,
}

impl Bus {
    /// Reads `N` words of 4 bytes by DMA.
    pub(super) fn read<const N: usize>(&self, addr: u64) -> [u32; N] {
        std::array::from_fn(|n| access::load_u32(&*self.ram, PhysAddr(addr) + 4 * n as u64, Caching::Cached).unwrap())
    }

    /// Writes words of 4 bytes by DMA.
    pub(super) fn write(&self, addr: u64, words: &[u32]) {
        for (n, word) in words.iter().enumerate() {
            access::store_u32(&*self.ram, PhysAddr(addr) + 4 * n as u64, *word, Caching::Cached).unwrap();
        }
    }

    /// Requests the interrupt, which is delivered in the next wait.
    pub(super) fn request_interrupt(&self) {
        *self.requested.lock().unwrap() = true;
    }
}

/// Registers of a device model.
pub(super) trait Model: Send + Sync + 'static {
    /// Bytes of registers.
    const SIZE: u64;
    fn read(&self, bus: &Bus, offset: u64) -> u64;
    fn write(&self, bus: &Bus, offset: u64, value: u64);
}

struct Registers<M>(Arc<M>, Bus);

impl<M: Model> Io for Registers<M> {
    fn size(&self) -> u64 {
        M::SIZE
    }

    fn read(&self, offset: u64, _: Width) -> Result<u64, IoError> {
        Ok(self.0.read(&self.1, offset))
    }

    fn write(&self, offset: u64, _: Width, value: u64) -> Result<(), IoError> {
        self.0.write(&self.1, offset, value);
        Ok(())
    }
}

struct TestEnv {
    bus: Bus,
    io: Arc<dyn Io>,
    sink: Mutex<Option<Weak<dyn IrqSink>>>,
    enabled: Mutex<bool>,
    now: Mutex<Instant>,
}

impl Env for TestEnv {
    fn memory(&self) -> Arc<dyn Memory> {
        self.bus.ram.clone()
    }

    fn map_io(&self, _: PhysAddr, _: u64) -> Result<Arc<dyn Io>, EnvError> {
        Ok(Arc::clone(&self.io))
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

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        if token.is_past() {
            return;
        }
        let Some(sink) = self.sink.lock().unwrap().as_ref().and_then(Weak::upgrade) else { return };
        let deliver = *self.enabled.lock().unwrap() && std::mem::take(&mut *self.bus.requested.lock().unwrap());
        if deliver {
            return sink.interrupt(LINE);
        }
        let deadline = sink.next_deadline().filter(|at| *at <= until);
        {
            let mut now = self.now.lock().unwrap();
            *now = deadline.unwrap_or(until).max(*now);
        }
        if deadline.is_some() {
            sink.timer();
        }
    }

    // A target without threads: work items run in waits.
    fn spawn(&self, job: Job) -> Result<(), Job> {
        Err(job)
    }
}

/// Binds `driver` to a device of `model`. DMA is untranslated.
pub(super) fn bound<M: Model>(model: &Arc<M>, driver: impl Driver) -> Handle {
    let pages = vec![Page([0; 4096]); (BYTES >> 12) as usize].leak();
    let ram = Arc::new(Ram(NonNull::from(pages).cast()));
    let bus = Bus { ram, requested: Arc::default() };
    let io = Arc::new(Registers(Arc::clone(model), bus.clone()));
    let env = TestEnv { bus, io, sink: Mutex::default(), enabled: Mutex::default(), now: Mutex::new(Instant(0)) };
    let machine = Machine::new(Arc::new(env), Policy::default());
    let mut desc = DeviceDesc::new("device");
    desc.compatible.push("acme,device".into());
    desc.resources.push(Resource::Mem { base: REGISTERS, len: M::SIZE });
    desc.resources.push(Resource::Irq { line: LINE, trigger: Trigger::LevelHigh });
    machine.add_device(desc).unwrap();
    machine.register(driver);
    assert_eq!(machine.settle().bound, 1, "{:?}", machine.waiting());
    machine
}

/// Unbinds the device, and checks that nothing is left of the binding.
pub(super) fn unbind(machine: &Handle, driver: &str) {
    machine.unbind("device", driver).unwrap();
    let left = (machine.memory().frames().in_use(), machine.quarantine().len(), machine.resource_usage().mappings);
    assert_eq!(left, (0, 0, 0), "P4");
    assert_eq!(machine.promises().broken(), []);
}
