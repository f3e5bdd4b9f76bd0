//! Handles that outlive their binding, while unwinding revokes their access.

use alloc::sync::Arc;

use loom::thread;

use super::of_many_steps;
use crate::addr::PhysAddr;
use crate::binding::mmio::Region;
use crate::binding::{MmioHandle, UnwindCtx, unwind::release_one};
use crate::claim::{Claim, Claims, Holder, Mode, Subject};
use crate::device::{Device, DeviceDesc, NodeId, Resource};
use crate::driver::DmaOwner;
use crate::env::fake::FakeEnv;
use crate::env::{Io, IoError, IrqLine, Trigger, Width};
use crate::machine::{Handle, Machine, Policy};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Registers that must not be accessed once unmapped, and whose accesses take two steps.
struct Window {
    mapped: AtomicBool,
    inside: AtomicUsize,
}

impl Window {
    fn new() -> Arc<Self> {
        Arc::new(Self { mapped: AtomicBool::new(true), inside: AtomicUsize::new(0) })
    }

    fn access(&self) {
        self.inside.fetch_add(1, Ordering::Relaxed);
        assert!(self.mapped.load(Ordering::Relaxed), "P5: an access after the registers were released");
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    /// Unmaps the registers, as the env does after the binding has released them.
    fn unmap(&self) {
        assert_eq!(self.inside.load(Ordering::Relaxed), 0, "P5: an access is active when the registers are released");
        self.mapped.store(false, Ordering::Relaxed);
    }
}

impl Io for Window {
    fn size(&self) -> u64 {
        4
    }

    fn read(&self, _: u64, _: Width) -> Result<u64, IoError> {
        self.access();
        Ok(7)
    }

    fn write(&self, _: u64, _: Width, _: u64) -> Result<(), IoError> {
        self.access();
        Ok(())
    }
}

/// Claim to the window.
fn claim() -> Arc<Claim> {
    let subject = Subject::Registers { base: PhysAddr(0x1000), len: 4 };
    Claims::default().take(&subject, &Holder::new(&"1000.widget".into(), "widget"), Mode::Exclusive).unwrap()
}

/// Machine to which waits for active users are reported.
fn machine() -> Handle {
    Machine::new(FakeEnv::silent() as _, Policy { check_dma: false, ..Policy::default() })
}

/// P5: an access through a handle completes before the registers are released, or is refused.
#[test]
fn loom_an_access_by_a_handle_completes_before_the_registers_are_released_or_is_refused() {
    loom::model(|| {
        let (window, machine) = (Window::new(), machine());
        let region = Region::new(Arc::clone(&window) as Arc<dyn Io>, PhysAddr(0x1000), claim(), false);
        let handle = MmioHandle(Arc::clone(&region));
        let user = thread::spawn(move || {
            assert!(matches!(handle.read32(0), Ok(7) | Err(IoError::Gone)));
            assert!(matches!(handle.write32(0, 1), Ok(()) | Err(IoError::Gone)));
        });
        region.revoke(&machine);
        window.unmap();
        user.join().unwrap();
        assert_eq!(MmioHandle(region).read32(0), Err(IoError::Gone));
    });
}

/// P5: as above with two users, one of which leaves while the other enters.
#[test]
fn loom_registers_are_released_after_the_last_of_two_users_has_left() {
    of_many_steps().check(|| {
        let (window, machine) = (Window::new(), machine());
        let region = Region::new(Arc::clone(&window) as Arc<dyn Io>, PhysAddr(0x1000), claim(), false);
        let users = [0, 1].map(|_| {
            let handle = MmioHandle(Arc::clone(&region));
            thread::spawn(move || {
                let answer = handle.read32(0);
                // Once refused, always refused.
                assert!(answer.is_ok() || handle.write32(0, 1) == Err(IoError::Gone));
            })
        });
        region.revoke(&machine);
        window.unmap();
        for user in users {
            user.join().unwrap();
        }
        assert_eq!(MmioHandle(region).write32(0, 1), Err(IoError::Gone));
    });
}

/// P4, P5: a line released by its binding stays disabled, even if a handle to it still exists.
#[test]
fn loom_a_handle_does_not_enable_a_line_that_was_released() {
    loom::model(|| {
        let env = FakeEnv::silent();
        let machine = Machine::new(Arc::clone(&env) as _, Policy { check_dma: false, ..Policy::default() });
        let mut desc = DeviceDesc::new("1000.widget");
        desc.resources.push(Resource::Irq { line: IrqLine(40), trigger: Trigger::LevelHigh });
        let bound = machine.new_bound(Device::new(NodeId(0), desc, None), "widget", DmaOwner::Kernel);
        let handle = crate::binding::Bound::new(&bound, 0).irq(0).unwrap().handle();
        let user = {
            let handle = handle.clone();
            thread::spawn(move || {
                let done = handle.set_masked(false);
                assert!(done || !handle.set_masked(true), "once refused, always refused");
            })
        };
        bound.ledger.close();
        while let Some((id, entry)) = bound.ledger.pop() {
            release_one(id, entry, &mut UnwindCtx { bound: &bound, quiesced: None });
        }
        assert!(env.enabled.lock().unwrap().is_empty(), "P4: the line is enabled");
        user.join().unwrap();
        assert!(!handle.set_masked(false));
        assert!(env.enabled.lock().unwrap().is_empty(), "P5: a handle enabled the line");
        assert_eq!(machine.irqs().len(), 0, "P4");
    });
}
