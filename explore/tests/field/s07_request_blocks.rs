//! A user whose answer to "please leave" does not end; and one that panics in a callback.

use std::sync::mpsc;
use std::time::Duration;

use super::dma::*;
use bindery_drivers::vfio::Vfio;

#[test]
fn the_deadline_holds_for_a_user_that_is_stuck_in_its_own_answer() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let (hold, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    s.on_request(move || {
        let _ = held.lock().unwrap().recv_timeout(Duration::from_mins(1));
    })
    .unwrap();
    let (sender, receiver) = mpsc::channel();
    let machine = std::sync::Arc::clone(&r.machine);
    let begun = std::time::Instant::now();
    std::thread::spawn(move || sender.send(machine.unbind(SATA, "vfio-platform")));
    let answer = receiver.recv_timeout(Duration::from_secs(30));
    println!(
        "unbind after {:?}: {answer:?}; phase {:?}; board time {:?}",
        begun.elapsed(),
        r.machine.device(SATA).unwrap().phase(),
        bindery::env::Env::now(&*r.board)
    );
    println!("{:?}", r.events().into_iter().rev().take(2).collect::<Vec<_>>());
    drop(hold);
    let _ = receiver.recv_timeout(Duration::from_mins(1));
    assert!(answer.is_ok(), "the unbind waits for the user's callback, not for its deadline");
}

#[test]
fn a_user_that_drops_its_session_from_its_own_answer_and_opens_again() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let client = r.machine.client::<Vfio>(SATA).unwrap();
    let slot = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (mine, answer) = (std::sync::Arc::clone(&slot), std::sync::Arc::new(std::sync::Mutex::new(None)));
    let result = std::sync::Arc::clone(&answer);
    s.on_request(move || {
        drop(mine.lock().unwrap().take());
        *result.lock().unwrap() = Some(format!("{:?}", Vfio::open(&client)));
    })
    .unwrap();
    *slot.lock().unwrap() = Some(s);
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    println!("opened again: {:?}; {}", answer.lock().unwrap(), r.verdict());
    assert!(answer.lock().unwrap().as_ref().unwrap().contains("Leaving"));
}

#[test]
fn a_user_that_panics_in_its_answer() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    s.on_request(|| panic!("the user's own")).unwrap();
    let m = std::sync::Arc::clone(&r.machine);
    let done = std::thread::spawn(move || m.unbind(SATA, "vfio-platform")).join();
    println!(
        "unbind: {:?}; driver {:?}, revoked {}; {:?}",
        done.is_ok(),
        r.driver(SATA),
        s.is_revoked(),
        r.events()
            .into_iter()
            .rev()
            .take(14)
            .filter(|l| l.contains("panic") || l.contains("pass-through") || l.contains("quiesced"))
            .collect::<Vec<_>>()
    );
    println!("{}", r.verdict());
    assert!(s.is_revoked() && r.driver(SATA).is_none());
    r.machine.device(SATA).unwrap().set_driver_override(None);
    r.machine.bind(SATA, "sata_rcar").unwrap();
}

#[test]
fn a_user_that_panics_in_its_interrupt_does_not_take_a_host_driver_with_it() {
    use bindery::device::Resource;
    use bindery::env::{IrqLine, Trigger};
    use bindery_drivers::sata_rcar::SataRcar;
    let r = rig();
    r.machine.settle();
    let mut d = dev("acme-guest", "x");
    d.suppliers.push(need(r.node("e6740000.mmu"), bindery::device::SupplierKind::Iommu, "iommus", &[7]));
    d.suppliers.push(need(r.node(CPG), bindery::device::SupplierKind::Reset, "resets", &[929]));
    // It shares the disk's line, as devices do: then it is not given away, for its user could hold up the host.
    d.resources.push(Resource::Irq { line: IrqLine(137), trigger: Trigger::LevelHigh });
    r.machine.add_device(d).unwrap();
    r.machine.device("acme-guest").unwrap().set_driver_override(Some("vfio-platform"));
    let refused = r.machine.bind("acme-guest", "vfio-platform").unwrap_err().to_string();
    assert!(refused.contains("interrupt line 137 is held by ee300000.sata (sata_rcar)"), "{refused}");
    r.machine.remove_device("acme-guest");
    // With a line of its own, whose request comes in the middle of what the host's driver does.
    let mut d = dev("acme-guest", "x");
    d.suppliers.push(need(r.node("e6740000.mmu"), bindery::device::SupplierKind::Iommu, "iommus", &[7]));
    d.suppliers.push(need(r.node(CPG), bindery::device::SupplierKind::Reset, "resets", &[929]));
    d.resources.push(Resource::Irq { line: IrqLine(200), trigger: Trigger::LevelHigh });
    r.machine.add_device(d).unwrap();
    r.give("acme-guest");
    let s = r.open("acme-guest").unwrap();
    s.on_interrupt(0, || panic!("the user's own")).unwrap();
    let c = r.machine.client::<SataRcar>(SATA).unwrap();
    let sink = r.tap.sink.lock().unwrap().clone().unwrap().upgrade().unwrap();
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        c.call(|p| {
            sink.interrupt(IrqLine(200));
            p.read(1, &mut [0; 512])
        })
    }));
    println!("host read: {:?}; {}", read.as_ref().map_err(|_| "panicked"), r.verdict());
    assert!(read.is_ok(), "the host's disk driver panics because of a guest's callback");
}
