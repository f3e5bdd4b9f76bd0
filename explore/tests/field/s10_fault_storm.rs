//! A guest whose device asks for memory that it has not mapped, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::dma::*;
use bindery::env::Env;
use bindery::machine::{Machine, Policy};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::guest::{GuestEnv, Layout, RAM_LEN};
use bindery_sim::interpose::Interpose;
use bindery_sim::salvator::{self, GUEST_DEVICE_TREE};

#[test]
fn a_guest_does_not_decide_how_many_events_the_host_emits() {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let session = r.open(SATA).unwrap();
    let layout = Layout::of(r.machine.device(SATA).unwrap().desc());
    let env = GuestEnv::new(&r.machine, session, layout, RAM_LEN).unwrap();
    let tap = Tap::new(Arc::clone(&env) as Arc<dyn Env>);
    // A hostile driver: the table lies where nothing is mapped.
    let n = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&n);
    tap.hook(salvator::SATA_BASE.0, move |_, offset, value, written| {
        Ok(match (offset, written) {
            (0x198, true) => 0x1000 + 4096 * (count.fetch_add(1, Ordering::SeqCst) as u64),
            _ => value,
        })
    });
    let guest = Machine::with_instrument(tap.env(), Policy::default(), env);
    guest.add_device_tree(GUEST_DEVICE_TREE).unwrap();
    guest.register(SataRcar);
    guest.settle();
    r.board.take_events();
    let port = guest.client::<SataRcar>(SATA).unwrap();
    let mut errors = std::collections::BTreeMap::new();
    let (board, host) = (r.board.now(), std::time::Instant::now());
    const ROUNDS: usize = 3000;
    for _ in 0..ROUNDS {
        let e = port.call(|p| p.read(1, &mut [0; 512])).unwrap();
        *errors.entry(format!("{e:?}")).or_insert(0) += 1;
    }
    let events = r.board.take_events();
    let faults: Vec<_> = events
        .iter()
        .map(|e| e.to_string_of())
        .filter(|e| e.contains("IOMMU fault") || e.contains("refused"))
        .collect();
    println!("guest: {errors:?}");
    println!(
        "host: {} events, {} of them faults, {:?} of board time, {:?}; first {:?}",
        events.len(),
        faults.len(),
        r.board.now().since(board),
        host.elapsed(),
        faults.first()
    );
    let storm: Vec<_> =
        events.iter().map(|e| e.to_string_of()).filter(|e| e.contains("faults suppressed so far")).collect();
    assert!(!storm.is_empty() && storm.len() < 10 && storm[0].starts_with(SATA), "{storm:?}");
    // Suppressed faults are counted: in the control tree, and in an event when the binding ends.
    let count = r.machine.fault_counts().into_iter().find(|f| &*f.device == SATA).unwrap();
    assert!(count.total as usize >= ROUNDS && count.suppressed as usize + faults.len() >= ROUNDS, "{count:?}");
    let tree = bindery::control::Tree::new(&r.machine);
    let shown = tree.read("/sys/kernel/bindery/faults").unwrap();
    assert!(shown.contains(SATA) && shown.contains(&format!("suppressed {}", count.suppressed)), "{shown}");
    drop(guest);
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    let end: Vec<_> =
        r.board.take_events().iter().map(|e| e.to_string_of()).filter(|e| e.contains("fault storm over")).collect();
    assert_eq!(end, [format!("{SATA}: IOMMU fault storm over: {} faults suppressed", count.suppressed)]);
    println!("bound still: {:?}; {}", r.driver(SATA), r.verdict());
    assert!(
        faults.len() < 50,
        "{} faults are reported one by one, each by an interrupt, and nothing is done to the device",
        faults.len()
    );
}

trait Say {
    fn to_string_of(&self) -> String;
}
impl Say for bindery::event::Event {
    fn to_string_of(&self) -> String {
        format!("{}: {}", self.device.as_deref().unwrap_or("-"), self.kind)
    }
}
