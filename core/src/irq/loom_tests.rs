//! Handlers while their line is released.

use alloc::sync::Arc;
use std::sync::atomic::{AtomicBool as PlainBool, Ordering as PlainOrdering};

use loom::thread;

use crate::binding::Bound;
use crate::binding::loom_tests::of_many_steps;
use crate::description::Resource;
use crate::device::DeviceDesc;
use crate::driver::{Driver, IrqReturn, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::env::{IrqLine, IrqSink, Trigger};
use crate::machine::{Machine, Policy};

const LINE: IrqLine = IrqLine(5);

struct Widget;

impl Driver for Widget {
    const NAME: &'static str = "widget";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,widget")];
    type Data<'b> = ();

    fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
        let released = Arc::new(PlainBool::new(false));
        let after = Arc::clone(&released);
        // Acquired before the line, so released after it.
        dev.action("the line is released", move || after.store(true, PlainOrdering::SeqCst))?;
        dev.request_irq(0, move || {
            assert!(!released.load(PlainOrdering::SeqCst), "P5: called after the release");
            thread::yield_now();
            assert!(!released.load(PlainOrdering::SeqCst), "P5: released during the call");
            IrqReturn::Handled
        })?;
        Ok(())
    }

    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

/// P5: a handler has returned when its line is released, and is not called afterwards.
#[test]
fn loom_no_handler_runs_after_its_line_was_released() {
    of_many_steps().check(|| {
        let machine = Machine::new(FakeEnv::silent(), Policy { check_dma: false, ..Policy::default() });
        machine.register(Widget);
        let mut desc = DeviceDesc::new("1000.widget");
        desc.compatible.push("acme,widget".into());
        desc.resources.push(Resource::Irq { line: LINE, trigger: Trigger::LevelHigh });
        machine.add_device(desc).unwrap();
        machine.settle();
        let sink = Arc::clone(&*machine);
        let trap = thread::spawn(move || sink.interrupt(LINE));
        machine.unbind("1000.widget", "widget").unwrap();
        trap.join().unwrap();
        assert_eq!(machine.interrupt_lines(), []);
        assert_eq!(machine.promises().broken(), []);
    });
}
