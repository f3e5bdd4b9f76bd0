//! Models of what races with the way back, in every interleaving up to a bound.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use std::sync::atomic::{AtomicBool as PlainBool, Ordering as PlainOrdering};

use loom::thread;

use super::mmio::Region;
use super::{Bound, Entry, Gone, HoldingKind, Ledger, MmioHandle, WayBack};
use crate::addr::PhysAddr;
use crate::device::DeviceDesc;
use crate::driver::{Busy, Driver, Match, ProbeError, Quiet};
use crate::env::fake::FakeEnv;
use crate::env::{Io, IoError, Width};
use crate::event::Outcome;
use crate::machine::{Machine, Policy};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Registers that must not be touched once they are unmapped.
struct Window(AtomicBool);

impl Io for Window {
    fn size(&self) -> u64 {
        4
    }

    fn read(&self, _: u64, _: Width) -> Result<u64, IoError> {
        assert!(self.0.load(Ordering::Relaxed), "P5: an access after the registers were given back");
        Ok(7)
    }

    fn write(&self, _: u64, _: Width, _: u64) -> Result<(), IoError> {
        assert!(self.0.load(Ordering::Relaxed), "P5: an access after the registers were given back");
        Ok(())
    }
}

/// P5: an access through a handle happens before the registers are given back, or is refused.
#[test]
fn loom_a_handle_reaches_registers_before_they_are_given_back_or_not_at_all() {
    loom::model(|| {
        let window = Arc::new(Window(AtomicBool::new(true)));
        let region = Region::new(Arc::clone(&window) as Arc<dyn Io>, PhysAddr(0x1000));
        let handle = MmioHandle(Arc::clone(&region));
        let user = thread::spawn(move || {
            assert!(matches!(handle.read32(0), Ok(7) | Err(IoError::Gone)));
            assert!(matches!(handle.write32(0, 1), Ok(()) | Err(IoError::Gone)));
        });
        region.revoke();
        window.0.store(false, Ordering::Relaxed);
        user.join().unwrap();
        assert_eq!(MmioHandle(region).read32(0), Err(IoError::Gone));
    });
}

struct Counted(Arc<AtomicUsize>);

impl Entry for Counted {
    fn kind(&self) -> HoldingKind {
        HoldingKind::Action
    }

    fn what(&self) -> String {
        String::new()
    }

    fn backend(&self) -> String {
        String::new()
    }

    fn release(self: Box<Self>, _: &mut WayBack<'_>) -> Outcome {
        Outcome::Returned
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// P3, P4: what is pushed while the way back begins is either on the ledger, and popped, or comes back to its pusher.
#[test]
fn loom_an_entry_is_on_the_ledger_or_refused_and_never_lost() {
    loom::model(|| {
        let ledger = Arc::new(Ledger::default());
        let alive = Arc::new(AtomicUsize::new(2));
        let pushers = [0, 1].map(|_| {
            let (ledger, alive) = (Arc::clone(&ledger), Arc::clone(&alive));
            thread::spawn(move || drop(ledger.push(0, Box::new(Counted(alive)))))
        });
        ledger.close();
        let mut newer = u64::MAX;
        while let Some((id, entry)) = ledger.pop() {
            assert!(id < newer, "P3: newest first");
            newer = id;
            drop(entry);
        }
        for pusher in pushers {
            pusher.join().unwrap();
        }
        assert_eq!(alive.load(Ordering::Relaxed), 0, "P4: an entry was lost");
        assert_eq!(ledger.len(), 0);
    });
}

struct Widget;

struct Data(Arc<PlainBool>);

impl Drop for Data {
    fn drop(&mut self) {
        self.0.store(false, PlainOrdering::SeqCst);
    }
}

impl Driver for Widget {
    const NAME: &'static str = "widget";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = Data;

    fn probe(&self, _: &Bound) -> Result<Data, ProbeError> {
        Ok(Data(Arc::new(PlainBool::new(true))))
    }

    fn quiesce(_: &Data) -> Result<Quiet, Busy> {
        Ok(Quiet::stopped())
    }
}

/// P5 on a whole machine: a call by a client runs to its end while the data lives, or finds nobody.
#[test]
fn loom_a_call_runs_before_the_unbind_drops_the_data_or_not_at_all() {
    let mut model = loom::model::Builder::new();
    // A machine has many locks; bugs that need more preemptions than this are beyond an exhaustive search of it.
    model.preemption_bound = Some(2);
    model.max_branches = 100_000;
    model.check(|| {
        let machine = Machine::new(FakeEnv::new(), Policy { check_dma: false, ..Policy::default() });
        machine.register(Widget);
        let mut desc = DeviceDesc::new("1000.widget");
        desc.compatible.push("acme,widget".into());
        machine.add_device(desc).unwrap();
        machine.settle();
        let client = machine.client::<Widget>("1000.widget").unwrap();
        let caller = {
            let client = client.clone();
            thread::spawn(move || {
                let _ = client.call(|data| {
                    assert!(data.0.load(PlainOrdering::SeqCst), "P5: the data is gone when the call begins");
                    thread::yield_now();
                    assert!(data.0.load(PlainOrdering::SeqCst), "P5: the data went during the call");
                });
            })
        };
        machine.unbind("1000.widget", "widget").unwrap();
        assert_eq!(client.call(|_| ()), Err(Gone));
        caller.join().unwrap();
        assert_eq!(machine.promises().broken(), []);
    });
}
