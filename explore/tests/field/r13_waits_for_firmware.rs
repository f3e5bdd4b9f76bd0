//! A driver that needs a file (firmware) which comes when a file system is mounted: it waits for a named condition.

use std::sync::{Arc, Mutex};

use super::kernel::*;
use bindery::binding::Bound;
use bindery::driver::*;

const FILE: &str = "firmware: gpu.bin";
type Files = Arc<Mutex<Vec<String>>>;

struct Gpu(Files);
impl Driver for Gpu {
    const NAME: &'static str = "gpu";
    const MATCHES: &'static [Match] = &[Match::compatible("t,gpu")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        if self.0.lock().unwrap().iter().any(|f| f == "gpu.bin") {
            return Ok(());
        }
        Err(ProbeError::Defer { on: Missing::Condition(FILE) })
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::stopped())
    }
}

fn with_gpu() -> (Rig, Files) {
    let rig = rig();
    let files = Files::default();
    rig.machine.register(Gpu(Arc::clone(&files)));
    rig.machine.add_device(dev("gpu", "t,gpu")).unwrap();
    (rig, files)
}

fn why(rig: &Rig, name: &str) -> Vec<String> {
    rig.machine.waiting().into_iter().filter(|w| &*w.device == name).flat_map(|w| w.on).collect()
}

const WELL: &str = "promises broken: []; model errors: []; dma misuses: []";

#[test]
fn firmware() {
    let (rig, files) = with_gpu();
    rig.machine.settle();
    assert_eq!(why(&rig, "gpu"), ["condition firmware: gpu.bin: not fulfilled"]);
    assert_eq!(rig.machine.waiting_for(FILE), ["gpu"]);
    let deferred = "gpu: deferred by gpu: waits for condition firmware: gpu.bin";
    assert!(rig.events().iter().any(|l| l == deferred));
    files.lock().unwrap().push("gpu.bin".into());
    assert_eq!(rig.machine.fulfil(FILE), 1);
    assert_eq!(rig.machine.settle().bound, 1);
    assert_eq!(rig.driver("gpu"), Some("gpu"));
    assert!(rig.events().iter().any(|l| l == "gpu: woken by condition firmware: gpu.bin: nothing is missing any more"));
    assert!(why(&rig, "gpu").is_empty());
    rig.machine.unbind("gpu", "gpu").unwrap();
    assert_eq!(rig.verdict(), WELL);
}

#[test]
fn it_is_fulfilled_before_anybody_waits() {
    let (rig, files) = with_gpu();
    files.lock().unwrap().push("gpu.bin".into());
    assert_eq!(rig.machine.fulfil(FILE), 0);
    assert!(rig.machine.is_fulfilled(FILE));
    rig.machine.settle();
    assert_eq!(rig.driver("gpu"), Some("gpu"));
    assert_eq!(rig.verdict(), WELL);
}

#[test]
fn it_is_fulfilled_between_the_probe_and_the_next_settle() {
    let (rig, files) = with_gpu();
    while rig.machine.step() {}
    files.lock().unwrap().push("gpu.bin".into());
    rig.machine.fulfil(FILE);
    rig.machine.fulfil(FILE);
    assert_eq!(rig.machine.settle().attempts, 1, "woken once");
    assert_eq!(rig.driver("gpu"), Some("gpu"));
}

#[test]
fn it_is_unfulfilled_again() {
    let (rig, files) = with_gpu();
    files.lock().unwrap().push("gpu.bin".into());
    rig.machine.fulfil(FILE);
    rig.machine.settle();
    // Who is bound stays.
    assert!(rig.machine.unfulfil(FILE) && !rig.machine.unfulfil(FILE));
    assert_eq!(rig.driver("gpu"), Some("gpu"));
    files.lock().unwrap().clear();
    rig.machine.unbind("gpu", "gpu").unwrap();
    assert_eq!(
        rig.machine.probe("gpu").map_err(|e| e.to_string()),
        Err("gpu waits for condition firmware: gpu.bin".into())
    );
    assert_eq!(why(&rig, "gpu").len(), 1);
    files.lock().unwrap().push("gpu.bin".into());
    assert_eq!(rig.machine.fulfil(FILE), 1);
    rig.machine.settle();
    assert_eq!(rig.driver("gpu"), Some("gpu"));
    assert_eq!(rig.verdict(), WELL);
}

/// Bound after a deferral, and un-fulfilled while it is bound: the link to the condition keeps no device bound (P6).
#[test]
fn it_is_unfulfilled_while_who_waited_for_it_is_bound() {
    let (rig, files) = with_gpu();
    rig.machine.settle();
    files.lock().unwrap().push("gpu.bin".into());
    rig.machine.fulfil(FILE);
    rig.machine.settle();
    assert!(rig.machine.unfulfil(FILE));
    rig.machine.unbind("gpu", "gpu").unwrap();
    assert_eq!(rig.verdict(), WELL);
    rig.machine.fulfil(FILE);
    let _ = rig.machine.probe("gpu");
    assert_eq!(rig.driver("gpu"), Some("gpu"));
    rig.machine.remove_device("gpu");
    assert_eq!(rig.verdict(), WELL);
}

/// It comes while the probe that finds it missing still runs.
#[test]
fn it_is_fulfilled_while_the_probe_runs() {
    struct Slow(Files);
    impl Driver for Slow {
        const NAME: &'static str = "slow";
        const MATCHES: &'static [Match] = &[Match::compatible("t,slow")];
        type Data<'b> = ();
        fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
            let there = self.0.lock().unwrap().contains(&"slow.bin".to_string());
            self.0.lock().unwrap().push("slow.bin".into());
            machine_of(dev).fulfil("slow.bin");
            if there { Ok(()) } else { Err(ProbeError::Defer { on: dev.condition("slow.bin") }) }
        }
        fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
            Ok(Quiesced::stopped())
        }
    }
    let rig = rig();
    rig.machine.register(Slow(Files::default()));
    rig.machine.add_device(dev("slow", "t,slow")).unwrap();
    rig.machine.settle();
    assert_eq!(rig.driver("slow"), Some("slow"), "the wake-up is lost");
    assert_eq!(rig.verdict(), WELL);
}

/// A driver that waits for what is there already waits for ever, which is an error by name and no loop.
#[test]
fn a_driver_that_does_not_look() {
    let (rig, _) = with_gpu();
    rig.machine.fulfil(FILE);
    assert_eq!(rig.machine.settle().failed, 1);
    assert_eq!(rig.machine.settle().attempts, 0);
    assert_eq!(rig.verdict(), WELL);
}

/// Exactly those that wait for it are woken, whichever comes first.
#[test]
fn two_conditions_and_their_waiters() {
    struct Two(&'static str, Files);
    impl Driver for Two {
        const NAME: &'static str = "two";
        const MATCHES: &'static [Match] = &[Match::compatible("t,two")];
        type Data<'b> = ();
        fn probe(&self, dev: Bound<'_>) -> Result<(), ProbeError> {
            let own = format!("key of {}", dev.name());
            if !machine_of(dev).is_fulfilled(&own) {
                return Err(ProbeError::Defer { on: dev.condition(&own) });
            }
            if !machine_of(dev).is_fulfilled(self.0) {
                return Err(ProbeError::Defer { on: Missing::Condition(self.0) });
            }
            Ok(())
        }
        fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
            Ok(Quiesced::stopped())
        }
    }
    let rig = rig();
    rig.machine.register(Two("network", Files::default()));
    for name in ["a", "b", "c"] {
        rig.machine.add_device(dev(name, "t,two")).unwrap();
    }
    rig.machine.settle();
    assert_eq!(rig.machine.fulfil("network"), 0);
    assert_eq!(rig.machine.settle().attempts, 0);
    assert_eq!(rig.machine.fulfil("key of b"), 1);
    assert_eq!(rig.machine.settle().bound, 1);
    assert_eq!((rig.driver("a"), rig.driver("b"), rig.driver("c")), (None, Some("two"), None));
    rig.machine.unfulfil("network");
    assert_eq!(rig.machine.fulfil("key of a"), 1);
    rig.machine.settle();
    assert_eq!(why(&rig, "a"), ["condition network: not fulfilled"]);
    assert_eq!(why(&rig, "c"), ["condition key of c: not fulfilled"]);
    assert_eq!(rig.verdict(), WELL);
}
