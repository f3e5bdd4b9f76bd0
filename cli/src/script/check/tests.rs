//! Tests of the checks, with events that no machine makes.

use super::*;
use bindery::env::Instant;
use bindery::event::Event;

fn entry(device: &str, kind: EventKind) -> LogEntry {
    let event = Event { seq: 1, at: Instant(0), device: Some(device.into()), kind };
    LogEntry { step: "unbind".into(), machine: "host", event }
}

fn released(entry: u64, backend: &str, outcome: Outcome) -> EventKind {
    EventKind::Released { entry, resource: "dma", what: String::new(), backend: backend.into(), outcome }
}

#[test]
fn a_ledger_that_did_not_go_back_whole_in_order_and_to_its_back_ends_is_seen() {
    let taken = [(1, String::from("iommu")), (2, "env".into())];
    let (one, two) = (released(1, "iommu", Outcome::Returned), released(2, "env", Outcome::Returned));
    let holds = |events: &[&EventKind]| {
        let events: Vec<_> = events.iter().map(|kind| entry("d", (*kind).clone())).collect();
        returned("d", &taken, &events).is_ok()
    };
    assert!(holds(&[&two, &one]));
    assert!(!holds(&[&one, &two]), "oldest first");
    assert!(!holds(&[&two]), "one is missing");
    assert!(!holds(&[&two, &released(1, "direct", Outcome::Returned)]), "the crash of 376991db4b64");
    assert!(!holds(&[&two, &released(1, "iommu", Outcome::Quarantined)]), "quarantined");
    assert!(returned("d", &[], &[]).is_err(), "nothing was bound");
}

#[test]
fn a_wake_up_too_many_or_too_few_is_seen() {
    let nodes = BTreeMap::from([("s".into(), "node-s".into()), ("t".into(), "node-t".into())]);
    let deferred = || entry("d", EventKind::Deferred { driver: None, on: vec!["node-s".into()] });
    let woken = |by: &str| entry("d", EventKind::Woken { by: by.into(), ready: true });
    let run = |events: &[LogEntry]| exact_wake_ups(events, &nodes, |_, supplier| supplier == "s", |n| n == "node-s");
    assert_eq!(run(&[deferred(), woken("s")]), (1, vec![]));
    assert_eq!(run(&[deferred()]), (0, vec!["d was not woken by node-s".into()]));
    let (right, wrong) = run(&[deferred(), woken("t"), woken("s")]);
    assert_eq!((right, wrong), (1, vec!["d was woken by node-t, which it does not need".into()]));
}

#[test]
fn a_page_walk_that_leads_elsewhere_or_nowhere_is_seen() {
    let mapping = Mapped { addr: DeviceAddr(0xffff_f000), phys: PhysAddr(0x4bff_d000), size: 2048 };
    let run = |walked| wrong_walks::<&str>(&[mapping], |_| walked);
    assert_eq!(run(Some(Ok(mapping.phys))), Vec::<String>::new());
    for walked in [Some(Ok(PhysAddr(0x4bff_e000))), Some(Err("no translation")), None] {
        assert_eq!(run(walked).len(), 1, "{walked:?}");
    }
}
