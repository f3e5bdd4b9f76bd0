//! Two devices name one line with different triggers.
use super::kernel::*;
use bindery::binding::Bound;
use bindery::driver::*;
use bindery::env::{IrqControl, Trigger};
use bindery::irq::Irq;

struct Taker;
impl Driver for Taker {
    const NAME: &'static str = "taker";
    const MATCHES: &'static [Match] = &[Match::compatible("t,taker")];
    type Data<'b> = Irq<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Irq<'b>, ProbeError> {
        Ok(dev.irq(0)?)
    }
    fn quiesce(_: &Irq<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

#[test]
fn second_trigger() {
    let rig = rig();
    rig.machine.register(Taker);
    for (name, trigger) in [("a-edge", Trigger::EdgeRising), ("b-level", Trigger::LevelHigh)] {
        let mut d = dev(name, "t,taker");
        d.resources.push(irq(301, trigger));
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.settle();
    let asked: Vec<IrqControl> =
        rig.tap.irqs.lock().unwrap().iter().filter(|(l, _)| *l == 301).map(|(_, c)| *c).collect();
    println!(
        "R02 a {:?} b {:?} asked of the line {asked:?}; {}",
        rig.driver("a-edge"),
        rig.driver("b-level"),
        rig.verdict()
    );
    let events = rig.events();
    println!("R02 events {:#?}", events.iter().filter(|s| s.starts_with("b-level")).collect::<Vec<_>>());
    assert_eq!(rig.driver("b-level"), None, "R02: bound on a line that is set up for the other trigger, nothing said");
    assert_eq!(asked, [IrqControl::Enable(Trigger::EdgeRising)]);
    let error = rig.machine.bind("b-level", "taker").unwrap_err();
    assert_eq!(error.errno(), Errno::EBUSY);
    let words = "interrupt line 301 is held by a-edge (taker), shared, rising edge";
    assert!(error.to_string().contains(words) && events.iter().any(|s| s.starts_with("b-level") && s.contains(words)));
    rig.machine.unbind("a-edge", "taker").unwrap();
    rig.machine.bind("b-level", "taker").unwrap();
    assert!(
        rig.machine.bind("a-edge", "taker").unwrap_err().to_string().contains("b-level (taker), shared, level high")
    );
    assert_eq!(rig.machine.promises().broken(), []);
}

/// One device lists one line twice, with two triggers.
#[test]
fn of_one_device() {
    struct Both;
    impl Driver for Both {
        const NAME: &'static str = "both";
        const MATCHES: &'static [Match] = &[Match::compatible("t,both")];
        type Data<'b> = (Irq<'b>, Irq<'b>);
        fn probe<'b>(&self, dev: Bound<'b>) -> Result<Self::Data<'b>, ProbeError> {
            Ok((dev.irq(0)?, dev.irq(1)?))
        }
        fn quiesce(_: &Self::Data<'_>) -> Result<Quiesced, QuiesceError> {
            Ok(Quiesced::stopped())
        }
    }
    let rig = rig();
    rig.machine.register(Both);
    for (name, second) in [("a-same", Trigger::EdgeRising), ("b-mixed", Trigger::LevelHigh)] {
        let mut d = dev(name, "t,both");
        let line = if name == "a-same" { 301 } else { 302 };
        d.resources.push(irq(line, Trigger::EdgeRising));
        d.resources.push(irq(line, second));
        rig.machine.add_device(d).unwrap();
    }
    rig.machine.settle();
    assert_eq!((rig.driver("a-same"), rig.driver("b-mixed")), (Some("both"), None));
    let error = rig.machine.bind("b-mixed", "both").unwrap_err().to_string();
    assert!(error.contains("interrupt line 302 is held by b-mixed (both), shared, rising edge"), "{error}");
    assert_eq!(rig.machine.promises().broken(), []);
}
