//! Paths of the explorer as traces, judged by the auditor: it shares no code with the core, and must find them clean, too.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::Cursor;
use std::sync::{Arc, Mutex};

use bindery::event::EventKind;
use bindery::machine::Policy;
use bindery_audit::model::{Life, Verdict};
use bindery_audit::report::Report;
use bindery_audit::rules::Rule;
use bindery_audit::{Auditor, Options};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_explore::{Bounded, LifecycleError, boards, device};
use bindery_sim::disk::Disk;
use bindery_sim::ftrace::{Ftrace, HEADER};
use bindery_sim::salvator::{self, Salvator};

/// Every n-th choice point of each lifecycle gets a non-default choice.
const EVERY: usize = 5;

fn audit(text: &str) -> Report {
    let mut auditor = Auditor::new(Options::default());
    auditor.read("path", Cursor::new(text.as_bytes().to_vec()), &mut |_| ()).unwrap();
    auditor.finish()
}

/// Returns true where a trace without events of DMA, or without events of an IOMMU, cannot tell what is open.
fn is_unrecorded(life: &Life, text: &str) -> bool {
    let mut open = Rule::all().filter(|rule| life.outcome(*rule).verdict() == Verdict::CannotTell);
    open.all(|rule| {
        let (whys, iommu) = (&life.outcome(rule).unknown, text.contains(" unmap: IOMMU: "));
        rule == Rule::LEAK && whys.iter().all(|why| why.contains("other mappings are not recorded"))
            || rule == Rule::BACKEND && !iommu && whys.iter().all(|why| why.contains("no line names the back-end"))
    })
}

/// Audits sampled paths. The explorer finds them clean, so no rule may be violated, and complete lifecycles must be proved.
/// Returns the number of paths, and of lifecycles that were proved.
fn sampled(name: &str, preemptions: u32) -> (usize, u32) {
    let lifecycle = device(name).on(boards::salvator_xs()).faults(1).preemptions(preemptions);
    let engine = lifecycle.engine();
    let (mut proved, mut lives, mut broken) = (0, 0, Vec::new());
    let paths = lifecycle.samples(&engine, EVERY).unwrap();
    for path in &paths {
        let replay = lifecycle.replay(&engine, path).unwrap();
        broken.extend(replay.violations.iter().map(|violation| format!("{path}: {violation:?}")));
        let text = replay.ftrace();
        let report = audit(&text);
        let context = || format!("{name}, {path}: {}\n{text}", report.text(&|_, words| words.to_owned()));
        assert_ne!(report.exit_code(), 1, "{}", context());
        for life in report.devices.iter().flat_map(|device| &device.lives) {
            assert!(is_unrecorded(life, &text), "{}", context());
            lives += 1;
            proved += u32::from(life.verdict() == Verdict::Proved);
        }
    }
    // Last, so that the auditor judges without the promises.
    assert!(broken.is_empty(), "{name}: {broken:#?}");
    println!("{name}: {} paths, {proved} of {lives} lifecycles proved", paths.len());
    (paths.len(), proved)
}

#[test]
fn sampled_paths_audit_as_clean_as_the_promises_say() {
    let (paths, proved) = sampled("ee300000.sata", 1);
    assert!(paths > 100 && proved > 100, "{paths} paths, {proved} lifecycles proved");
}

/// Most of them have no memory of their own; what the paths hold of other devices is judged, too.
#[test]
fn sampled_paths_of_every_other_device_audit_as_clean() {
    let nobody = device("nobody").on(boards::salvator_xs());
    let Err(LifecycleError::NoDevice { known, .. }) = nobody.run(&nobody.engine()) else {
        panic!("a device called nobody")
    };
    for name in known.iter().filter(|name| *name != "ee300000.sata") {
        let (paths, _) = sampled(name, 0);
        assert!(paths > 0, "{name}");
    }
}

/// Writes what `echo again > trace_marker` makes, at the time of the last line.
fn mark(trace: &mut String) {
    let head = trace.lines().last().and_then(|line| line.split_once(": ")).unwrap().0.to_owned();
    trace.push_str(&head);
    trace.push_str(": tracing_mark_write: again\n");
}

/// Within one binding a disk stops answering four times: a path has one recovery at most, and what grows with each shows in several
/// only.
#[test]
fn a_disk_that_is_brought_up_again_and_again_leaves_nothing_more_each_time() {
    const SATA: &str = "ee300000.sata";
    let board = Salvator::new().disk(Disk::memory(vec![0; 16 * 512])).build();
    let machine = board.machine(Policy::default());
    let trace = Arc::new(Mutex::new((Ftrace::default(), HEADER.to_owned())));
    let writer = Arc::clone(&trace);
    let answering = Arc::downgrade(&board);
    board.on_event(Box::new(move |event| {
        let mut trace = writer.lock().unwrap();
        let lines = trace.0.lines(event);
        trace.1.push_str(&lines);
        drop(trace);
        if matches!(&event.kind, EventKind::Log { text } if text.contains("no answer"))
            && let Some(board) = answering.upgrade()
        {
            board.sata_faults(|faults| faults.no_completion = false);
        }
    }));
    machine.add_device_tree(salvator::DEVICE_TREE).unwrap();
    bindery_drivers::register_all(&machine);
    machine.settle();
    for _ in 0..4 {
        // What grows with each recovery is a violation where the recording shows that there was one more.
        mark(&mut trace.lock().unwrap().1);
        board.sata_faults(|faults| faults.no_completion = true);
        let port = machine.client::<SataRcar>(SATA).unwrap();
        port.call(|port| port.read(1, &mut [0; 512])).unwrap().unwrap_err();
    }
    machine.unbind(SATA, "sata_rcar").unwrap();
    let (mut writer, mut text) = std::mem::take(&mut *trace.lock().unwrap());
    text.push_str(&writer.finish());
    let report = audit(&text);
    let context = || format!("{}\n{text}", report.text(&|_, words| words.to_owned()));
    assert_ne!(report.exit_code(), 1, "{}", context());
    let life = &report.devices.iter().find(|device| &*device.name == SATA).unwrap().lives[0];
    assert_eq!(life.verdict(), Verdict::Proved, "{}", context());
    assert_eq!(life.given, life.taken, "{}", context());
}
