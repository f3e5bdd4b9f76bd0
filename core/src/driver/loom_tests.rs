//! Users of driver data while the device is unbound.

use alloc::sync::Arc;
use std::sync::atomic::{AtomicBool as PlainBool, Ordering as PlainOrdering};

use loom::thread;

use crate::binding::Bound;
use crate::binding::loom_tests::of_many_steps;
use crate::device::DeviceDesc;
use crate::driver::Gone;
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::machine::{Handle, Machine, Policy};

/// Machine with one device, bound to `driver`.
fn bound_to<D: Driver>(driver: D) -> Handle {
    let machine = Machine::new(FakeEnv::silent(), Policy { check_dma: false, ..Policy::default() });
    machine.register(driver);
    let mut desc = DeviceDesc::new("1000.widget");
    desc.compatible.push("acme,widget".into());
    machine.add_device(desc).unwrap();
    machine.settle();
    machine
}

struct Widget;

struct Data<'b> {
    dev: Bound<'b>,
    alive: Arc<PlainBool>,
}

impl Drop for Data<'_> {
    fn drop(&mut self) {
        self.alive.store(false, PlainOrdering::SeqCst);
    }
}

impl Driver for Widget {
    const NAME: &'static str = "widget";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = Data<'b>;

    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Data<'b>, ProbeError> {
        Ok(Data { dev, alive: Arc::new(PlainBool::new(true)) })
    }

    fn quiesce(_: &Data<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// P5 on a whole machine: a client's call completes while the driver data is alive, or is refused.
#[test]
fn loom_a_call_completes_before_the_unbind_drops_the_data_or_is_refused() {
    of_many_steps().check(|| {
        let machine = bound_to(Widget);
        let client = machine.client::<Widget>("1000.widget").unwrap();
        let caller = {
            let client = client.clone();
            thread::spawn(move || {
                let _ = client.call(|data| {
                    assert!(data.alive.load(PlainOrdering::SeqCst), "P5: the data was dropped before the call");
                    thread::yield_now();
                    assert!(data.alive.load(PlainOrdering::SeqCst), "P5: the data was dropped during the call");
                });
            })
        };
        machine.unbind("1000.widget", "widget").unwrap();
        assert_eq!(client.call(|_| ()), Err(Gone));
        caller.join().unwrap();
        assert_eq!(machine.promises().broken(), []);
    });
}

/// P2, P4 on a whole machine: DMA memory that a client allocates while unwinding begins is freed once, whether by the
/// client or by the binding.
#[test]
fn loom_dma_memory_allocated_during_an_unbind_is_freed_once() {
    of_many_steps().check(|| {
        let machine = bound_to(Widget);
        let client = machine.client::<Widget>("1000.widget").unwrap();
        let caller = thread::spawn(move || {
            let _ = client.call(|data| {
                let Ok(memory) = data.dev.dma().coherent(1) else { return };
                let _ = data.dev.dma().coherent(1);
                memory.release();
            });
        });
        machine.unbind("1000.widget", "widget").unwrap();
        caller.join().unwrap();
        assert_eq!(machine.memory().frames().in_use(), 0, "P4");
        assert_eq!(machine.quarantine(), []);
        assert_eq!(machine.promises().broken(), []);
    });
}
