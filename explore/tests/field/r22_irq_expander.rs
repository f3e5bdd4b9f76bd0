//! A GPIO expander that is an interrupt controller, and a touch panel behind it; a second one behind the first, and a
//! button behind that; and a key that stands below its own controller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::kernel::*;
use bindery::binding::Bound;
use bindery::driver::*;
use bindery::env::{EnvError, IrqControl, IrqLine, IrqSink, Trigger};
use bindery::irq::{InterruptController, Irq};

const TREE: &[u8] = include_bytes!("trees/r22_expander.dtb");
const GPIO: &str = "10000000.gpio";
const MUX: &str = "10002000.mux";
const CHIP: &str = "10004000.chip";
const TOUCH: &str = "10001000.touch";
const BUTTON: &str = "10003000.button";
const KEY: &str = "10004000.chip:key";

/// Sixteen pins: what is up, what is on, what is masked, and what was said of each.
#[derive(Default)]
struct Pins {
    up: Mutex<BTreeSet<u32>>,
    on: Mutex<BTreeSet<u32>>,
    masked: Mutex<BTreeSet<u32>>,
    acknowledged: AtomicU32,
}
impl Pins {
    fn pending(&self) -> Vec<u32> {
        let (up, on, masked) = (self.up.lock().unwrap(), self.on.lock().unwrap(), self.masked.lock().unwrap());
        up.iter().filter(|pin| on.contains(pin) && !masked.contains(pin)).copied().collect()
    }
}
impl InterruptController for Pins {
    fn translate(&self, specifier: &[u32]) -> Option<(u32, Trigger)> {
        match *specifier {
            [pin @ 0..16, flags] => Some((pin, if flags & 3 != 0 { Trigger::EdgeRising } else { Trigger::LevelHigh })),
            _ => None,
        }
    }
    fn control(&self, line: u32, control: IrqControl) -> Result<(), EnvError> {
        let (mut on, mut masked) = (self.on.lock().unwrap(), self.masked.lock().unwrap());
        match control {
            IrqControl::Enable(_) => _ = (on.insert(line), masked.remove(&line)),
            IrqControl::Disable => _ = on.remove(&line),
            IrqControl::Mask => _ = masked.insert(line),
            IrqControl::Unmask => _ = masked.remove(&line),
        }
        Ok(())
    }
    fn acknowledge(&self, line: u32) {
        self.up.lock().unwrap().remove(&line);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

type AllPins = Arc<Mutex<BTreeMap<String, Arc<Pins>>>>;

/// The expander's driver; with `lines` it offers them.
struct Expander {
    pins: AllPins,
    lines: bool,
}
struct Expanded<'b> {
    _irq: Irq<'b>,
}
impl Driver for Expander {
    const NAME: &'static str = "expander";
    const MATCHES: &'static [Match] = &[Match::compatible("t,expander")];
    type Data<'b> = Expanded<'b>;
    fn probe<'b>(&self, dev: Bound<'b>) -> Result<Expanded<'b>, ProbeError> {
        let pins = Arc::new(Pins::default());
        self.pins.lock().unwrap().insert(dev.name().into(), Arc::clone(&pins));
        let lines = if self.lines { Some(dev.provide_interrupts(Arc::clone(&pins) as _)?) } else { None };
        let handler = move || {
            let pending = pins.pending();
            for pin in &pending {
                lines.as_ref().unwrap().deliver(*pin);
            }
            if pending.is_empty() { IrqReturn::None } else { IrqReturn::Handled }
        };
        Ok(Expanded { _irq: dev.request_irq(0, handler)? })
    }
    fn quiesce(_: &Expanded<'_>) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

struct User(Arc<Mutex<Vec<(String, usize)>>>);
struct Used<'b>(Vec<Irq<'b>>);
macro_rules! user {
    ($t:ident, $n:literal, $c:literal, $count:literal) => {
        struct $t(User);
        impl Driver for $t {
            const NAME: &'static str = $n;
            const MATCHES: &'static [Match] = &[Match::compatible($c)];
            type Data<'b> = Used<'b>;
            fn probe<'b>(&self, dev: Bound<'b>) -> Result<Used<'b>, ProbeError> {
                let handler = |index: usize| {
                    let (served, name) = (Arc::clone(&self.0.0), dev.name().to_string());
                    move || {
                        served.lock().unwrap().push((name.clone(), index));
                        IrqReturn::Handled
                    }
                };
                Ok(Used((0..$count).map(|n| dev.request_irq(n, handler(n))).collect::<Result<_, _>>()?))
            }
            fn quiesce(_: &Used<'_>) -> Result<Quiesced, QuiesceError> {
                Ok(Quiesced::stopped())
            }
        }
    };
}
user!(Touch, "touch", "t,touch", 1);
user!(Button, "button", "t,button", 3);

struct Behind {
    rig: Rig,
    pins: AllPins,
    served: Arc<Mutex<Vec<(String, usize)>>>,
}
impl Behind {
    fn with(lines: bool) -> Self {
        let (pins, served) = (AllPins::default(), Arc::default());
        let rig = rig_with(Default::default(), TREE);
        rig.machine.register(Touch(User(Arc::clone(&served))));
        rig.machine.register(Button(User(Arc::clone(&served))));
        rig.machine.register(Expander { pins: Arc::clone(&pins), lines });
        rig.machine.settle();
        Self { rig, pins, served }
    }
    fn pins(&self, name: &str) -> Arc<Pins> {
        Arc::clone(&self.pins.lock().unwrap()[name])
    }
    fn served(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut self.served.lock().unwrap())
    }
    /// The first expander's own line comes.
    fn interrupt(&self) {
        self.rig.machine.interrupt(IrqLine(32 + 290));
    }
}

#[test]
fn behind_an_expander() {
    let b = Behind::with(true);
    assert_eq!((b.rig.driver(GPIO), b.rig.driver(TOUCH)), (Some("expander"), Some("touch")));
    let gpio = b.pins(GPIO);
    gpio.up.lock().unwrap().insert(5);
    b.interrupt();
    assert_eq!(b.served(), [(TOUCH.into(), 0)]);
    assert_eq!(gpio.acknowledged.load(Ordering::SeqCst), 1, "an edge is cleared at its controller");
    b.interrupt();
    assert_eq!(b.served(), []);
    // Masking goes to the controller that has the line, and to no other.
    let touch = b.rig.machine.client::<Touch>(TOUCH).unwrap();
    touch.call(|u| u.0[0].mask()).unwrap();
    assert!(gpio.masked.lock().unwrap().contains(&5));
    gpio.up.lock().unwrap().insert(5);
    b.interrupt();
    assert_eq!(b.served(), []);
    touch.call(|u| u.0[0].unmask()).unwrap();
    b.interrupt();
    assert_eq!(b.served(), [(TOUCH.into(), 0)]);
    let claims = bindery::control::Tree::new(&b.rig.machine).read("/sys/kernel/bindery/claims").unwrap();
    assert!(
        claims.contains("interrupt line 5 of gpio (/gpio@10000000)\tshared, rising edge\t10001000.touch (touch)\n"),
        "{claims}"
    );
    assert_eq!(b.rig.machine.promises().broken(), []);
}

#[test]
fn behind_a_cascade_and_with_a_line_of_each() {
    let b = Behind::with(true);
    assert_eq!((b.rig.driver(MUX), b.rig.driver(BUTTON)), (Some("expander"), Some("button")));
    // Through both, by the machine's own controller, and through the first.
    b.pins(MUX).up.lock().unwrap().insert(3);
    b.pins(GPIO).up.lock().unwrap().insert(7);
    b.interrupt();
    assert_eq!(b.served(), [(BUTTON.into(), 0)]);
    b.rig.machine.interrupt(IrqLine(32 + 291));
    assert_eq!(b.served(), [(BUTTON.into(), 1)]);
    b.pins(GPIO).up.lock().unwrap().insert(6);
    b.interrupt();
    assert_eq!(b.served(), [(BUTTON.into(), 2)]);
    assert_eq!(b.rig.machine.promises().broken(), []);
}

#[test]
fn a_controller_takes_those_behind_it_first() {
    let b = Behind::with(true);
    b.rig.events();
    let gpio = b.pins(GPIO);
    assert_eq!(*gpio.on.lock().unwrap(), BTreeSet::from([5, 6, 7]));
    b.rig.machine.unbind(GPIO, "expander").unwrap();
    for name in [GPIO, MUX, TOUCH, BUTTON] {
        assert_eq!(b.rig.driver(name), None, "{name}");
    }
    assert_eq!(b.rig.driver(KEY), Some("touch"), "another controller's");
    assert!(gpio.on.lock().unwrap().is_empty(), "their lines were switched off, at the controller");
    let unbound: Vec<_> = b.rig.events().into_iter().filter(|s| s.contains(": unbound")).collect();
    assert!(unbound.last().unwrap().starts_with(GPIO), "{unbound:?}");
    b.rig.machine.bind(GPIO, "expander").unwrap();
    b.rig.machine.settle();
    for name in [GPIO, MUX, TOUCH, BUTTON] {
        assert!(b.rig.driver(name).is_some(), "{name}: {:?}", b.rig.machine.waiting());
    }
    assert_eq!(b.rig.machine.promises().broken(), []);
}

/// Firmware links nothing to what stands above it; who has a line of its parent is linked to it all the same.
#[test]
fn a_part_of_the_controller_itself() {
    let b = Behind::with(true);
    assert_eq!(b.rig.driver(KEY), Some("touch"), "{:?}", b.rig.machine.waiting());
    b.pins(CHIP).up.lock().unwrap().insert(0);
    b.rig.machine.interrupt(IrqLine(32 + 292));
    assert_eq!(b.served(), [(KEY.into(), 0)]);
    b.rig.machine.unbind(CHIP, "expander").unwrap();
    assert_eq!(b.rig.driver(KEY), None);
    assert_eq!(b.rig.machine.promises().broken(), []);
}

#[test]
fn a_driver_that_offers_no_lines_is_named() {
    let b = Behind::with(false);
    assert_eq!((b.rig.driver(GPIO), b.rig.driver(TOUCH)), (Some("expander"), None));
    let error = b.rig.machine.bind(TOUCH, "touch").unwrap_err();
    let words = "nobody delivers the interrupt lines of gpio (/gpio@10000000)";
    assert!(error.to_string().ends_with(words), "{error}");
    assert!(b.rig.events().iter().any(|s| s.starts_with(TOUCH) && s.ends_with(words)));
    assert_eq!(b.rig.machine.promises().broken(), []);
}

/// Two behind one pin, and a pin that does not exist.
#[test]
fn lines_behind_a_controller_are_claimed_like_others() {
    let b = Behind::with(true);
    let gpio = b.rig.node(GPIO);
    for (name, specifier) in [("a-second", [5, 2]), ("b-level", [5, 4]), ("c-none", [16, 4])] {
        let mut d = dev(name, "t,touch");
        let specifier = specifier.to_vec();
        d.resources.push(bindery::device::Resource::IrqBehind { controller: gpio, specifier });
        b.rig.machine.add_device(d).unwrap();
    }
    b.rig.machine.settle();
    assert_eq!(["a-second", "b-level", "c-none"].map(|n| b.rig.driver(n)), [Some("touch"), None, None]);
    let error = |name| b.rig.machine.bind(name, "touch").unwrap_err().to_string();
    assert!(error("b-level").contains("interrupt line 5 of gpio (/gpio@10000000) is held by 10001000.touch (touch)"));
    assert!(error("c-none").contains("gpio (/gpio@10000000) has no interrupt line [16, 4]"), "{}", error("c-none"));
    b.pins(GPIO).up.lock().unwrap().insert(5);
    b.interrupt();
    assert_eq!(b.served(), [(TOUCH.into(), 0), ("a-second".into(), 0)]);
    assert_eq!(b.rig.machine.promises().broken(), []);
}
