//! A user inside a call does not come out. Unbind waits: for whom, and does anybody say so?

use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::kernel::*;
use bindery::binding::Bound;
use bindery::driver::*;

struct Gpu;
impl Driver for Gpu {
    const NAME: &'static str = "gpu";
    const MATCHES: &'static [Match] = &[Match::compatible("t,gpu")];
    type Data<'b> = ();
    fn probe(&self, _: &Bound) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiet, Busy> {
        Ok(Quiet::stopped())
    }
}

#[test]
fn stuck() {
    let rig = rig();
    rig.machine.register(Gpu);
    rig.machine.add_device(dev("gpu", "t,gpu")).unwrap();
    rig.machine.settle();
    rig.story();
    let mut outs = Vec::new();
    for _ in 0..2 {
        let c = rig.machine.client::<Gpu>("gpu").unwrap();
        let (inside_tx, inside) = mpsc::channel();
        let (out, out_rx) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let _ = c.call(|()| {
                inside_tx.send(()).unwrap();
                let _ = out_rx.recv();
            });
        });
        inside.recv().unwrap();
        outs.push(out);
    }
    let (done_tx, done) = mpsc::channel();
    let m = Arc::clone(&*rig.machine);
    std::thread::spawn(move || {
        let _ = m.unbind("gpu", "gpu");
        let _ = done_tx.send(());
    });
    let begun = std::time::Instant::now();
    let mut story = Vec::new();
    while story.iter().filter(|l: &&String| l.contains("has waited")).count() < 3
        && begun.elapsed() < Duration::from_secs(30)
    {
        story.extend(rig.story());
        std::thread::sleep(Duration::from_millis(10));
    }
    let told: Vec<_> = story.iter().filter(|l| l.contains("has waited")).collect();
    assert!(told.len() >= 2 && told.len() < 20, "at 1 s, then each time when it is twice as long: {told:?}");
    // The device, each call, where it comes from, and since when.
    assert!(told[0].starts_with("gpu: ") && told[0].matches("r23_stuck_user.rs").count() == 2, "{}", told[0]);
    assert!(told[0].contains("inside for"), "{}", told[0]);
    assert!(done.try_recv().is_err(), "the unbind does not come back while somebody is inside");
    let tree = bindery::control::Tree::new(&rig.machine);
    let users = tree.read("/sys/kernel/bindery/users").unwrap();
    assert!(users.starts_with("gpu\ta call from ") && users.contains("r23_stuck_user.rs"), "{users}");
    drop(outs);
    done.recv_timeout(Duration::from_secs(10)).expect("the user has left");
    assert_eq!(tree.read("/sys/kernel/bindery/users").unwrap(), "");
    assert_eq!(rig.verdict(), "promises broken: []; model errors: []; dma misuses: []");
}

/// Nobody says anything of a wait that is short.
#[test]
fn a_short_wait_is_not_told() {
    let rig = rig();
    rig.machine.register(Gpu);
    rig.machine.add_device(dev("gpu", "t,gpu")).unwrap();
    for _ in 0..20 {
        let _ = rig.machine.probe("gpu");
        let c = rig.machine.client::<Gpu>("gpu").unwrap();
        let (inside_tx, inside) = mpsc::channel();
        let t = std::thread::spawn(move || {
            let _ = c.call(|()| {
                inside_tx.send(()).unwrap();
                std::thread::yield_now();
            });
        });
        inside.recv().unwrap();
        rig.machine.unbind("gpu", "gpu").unwrap();
        t.join().unwrap();
    }
    assert!(!rig.story().iter().any(|l| l.contains("has waited")));
}
