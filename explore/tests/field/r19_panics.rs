//! A driver's code panics during tear-down (and a kernel that unwinds goes on).

use super::kernel::*;
use bindery::binding::Bound;
use bindery::dma::Coherent;
use bindery::driver::*;
use bindery::env::{IrqLine, IrqSink, Trigger};
use bindery::irq::Irq;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[derive(Clone, Copy, PartialEq, Debug)]
enum At {
    Probe,
    Interrupt,
    Quiesce,
    Drop,
    Action,
    WindDown,
}
struct Clumsy(At);
struct D<'b> {
    at: At,
    _irq: Irq<'b>,
    _m: Coherent<'b>,
}
impl Drop for D<'_> {
    fn drop(&mut self) {
        if self.at == At::Drop {
            panic!("in drop")
        }
    }
}
impl Driver for Clumsy {
    const NAME: &'static str = "clumsy";
    const MATCHES: &'static [Match] = &[Match::compatible("t,clumsy")];
    type Data<'b> = D<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<D<'b>, ProbeError> {
        let at = self.0;
        dev.mark_quiesced(Quiesced::never_started());
        let m = dev.dma().coherent(4096)?;
        if at == At::Action {
            dev.action("panics", || panic!("in an action"))?;
        }
        let irq = dev.request_irq(0, move || {
            if at == At::Interrupt {
                panic!("in interrupt")
            }
            IrqReturn::Handled
        })?;
        if at == At::Probe {
            panic!("in probe")
        }
        Ok(D { at, _irq: irq, _m: m })
    }
    fn request_release(d: &D<'_>) {
        if d.at == At::WindDown {
            panic!("in request_release")
        }
    }
    fn quiesce(d: &D<'_>) -> Result<Quiesced, QuiesceError> {
        if d.at == At::Quiesce {
            panic!("in quiesce")
        }
        Ok(Quiesced::stopped())
    }
}
/// Binds and unbinds a device whose driver panics at `at`, and returns the differences from the expected state.
fn play(at: At) -> Result<(), String> {
    let rig = rig();
    rig.machine.register(Clumsy(at));
    rig.machine.settle();
    let before = format!("{:?}", rig.machine.resource_usage());
    let mut d = dev("clumsy", "t,clumsy");
    d.resources.push(irq(304, Trigger::LevelHigh));
    rig.machine.add_device(d).unwrap();
    let caught = |what: &dyn Fn()| catch_unwind(AssertUnwindSafe(what)).is_err();
    let panics = [
        caught(&|| _ = rig.machine.settle()),
        caught(&|| rig.machine.interrupt(IrqLine(304))),
        caught(&|| _ = rig.machine.unbind("clumsy", "clumsy")),
    ];
    if !panics.contains(&true) {
        return Err("the driver was never asked".into());
    }
    let _ = caught(&|| _ = rig.machine.unbind("clumsy", "clumsy"));
    if catch_unwind(AssertUnwindSafe(|| rig.machine.remove_device("clumsy"))).is_err() {
        return Err("its removal panics".into());
    }
    let after = format!("{:?}", rig.machine.resource_usage());
    if before != after {
        return Err(format!("left behind: {before} is now {after}"));
    }
    let broken = rig.machine.promises().broken();
    if broken.is_empty() { Ok(()) } else { Err(format!("{broken:?}")) }
}

#[test]
fn the_machine_is_as_before_after_a_panic_anywhere_in_driver_code() {
    for at in [At::Probe, At::Interrupt, At::Quiesce, At::Drop, At::Action, At::WindDown] {
        let (tx, rx) = std::sync::mpsc::channel();
        std::thread::spawn(move || tx.send(play(at)));
        // A hang is a failure, too; nothing here takes long.
        let end = rx.recv_timeout(std::time::Duration::from_secs(60)).map_err(|e| e.to_string());
        assert_eq!(end, Ok(Ok(())), "{at:?}");
    }
}
