//! Several machines, boots, recordings and files in one audit: what one says is no evidence about another.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::Cursor;

use bindery_audit::{Auditor, Options};
use common::trace::{DEV, Trace};
use common::{Audited, audit, done};

const FAULT: &str = "DMAR: [DMA Write NO_PASID] Request device [0000:05:00.0] fault addr 0xfffc0000 [fault reason 0x05] PTE Write access";

fn audit_all(files: &[&str]) -> Audited {
    let mut auditor = Auditor::new(Options::default());
    for (n, text) in files.iter().enumerate() {
        auditor.read(&format!("file{n}"), Cursor::new(text.as_bytes().to_vec()), &mut |_| ()).unwrap();
    }
    done(auditor)
}

fn clean_life() -> Trace {
    let mut t = Trace::new();
    t.probe().managed(0xffff_0000, 0xb0).map_page(0xfffc_0000, 4096, "FROM_DEVICE");
    t.unmap_page(0xfffc_0000, 4096, "FROM_DEVICE").unbind().cleanup().release(0xffff_0000, 0xb0).end();
    t
}

#[test]
fn a_fault_of_one_machine_is_not_charged_to_the_unbind_of_another() {
    let log = |host: &str| {
        format!(
            "Nov 03 14:22:07 hv07 kernel: igb {DEV}: removed PHC on eth0\n\
             Nov 03 14:22:08 {host} kernel: {FAULT}\n"
        )
    };
    audit(&log("hv07")).violates(&["R9"]);
    audit(&log("hv08")).cannot_tell().says(&["0000:05:00.0 on hv08", "lines of several machines"]);
    // Before it knows its name a machine is called localhost.
    audit(&log("localhost")).violates(&["R9"]);
}

#[test]
fn machines_that_take_turns_in_one_log_keep_their_stacks_apart() {
    let mut log = String::new();
    for (a, b) in [
        (
            "BUG: unable to handle page fault for address: ffffffffc0a1b2c0",
            "BUG: unable to handle page fault for address: 1",
        ),
        (" devm_action_release+0x15/0x20", " foo_irq+0x15/0x20"),
        (" release_nodes+0x40/0xb0", " handle_irq+0x40/0xb0"),
        (" devres_release_all+0x8f/0xd0", " do_idle+0x8f/0xd0"),
    ] {
        log.extend([("hv07", a), ("hv08", b)].map(|(host, text)| format!("Nov 03 14:22:07 {host} kernel: {text}\n")));
    }
    audit(&log).violates(&["R19"]).says(&["a crash that is not in a tear-down"]).hides(&["foo_irq, "]);
}

#[test]
fn a_reboot_ends_what_the_log_said_before() {
    let (left, fault) = (format!("[  812.401877] igb {DEV}: removed PHC on eth0"), format!("[    1.401877] {FAULT}"));
    for between in ["[    0.000000] Linux version 6.1.0-31-amd64 (x@y)", "-- Boot 3f2a --", "[    0.100000] x"] {
        audit(&format!("{left}\n{between}\n{fault}\n")).cannot_tell().says(&["while nothing is torn down"]);
    }
    // A log that begins with the kernel's version, though, is of the boot that the trace is of.
    let trace = clean_life().text;
    let log = format!("[    0.000000] Linux version 6.12.1\n[    0.100000] {left}\n");
    audit_all(&[&trace, &log]).proves(&["R4"]);
}

#[test]
fn what_lies_between_two_recordings_is_not_known() {
    // Bound at the end of the first, probed in the second: the unbind was not recorded.
    let mut first = Trace::new();
    first.probe().managed(0xffff_0000, 0xb0);
    let second = clean_life().text;
    let anew = "the trace begins anew at line 1 of file 2";
    audit_all(&[&first.text, &second]).proves(&["R4"]).says(&[anew, "what it holds is in use"]);
    audit(&(first.text.clone() + &second)).proves(&["R4"]);
    // The same without a beginning of its own: no unbind is recorded, or two devices have the name.
    let on = second.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let on = on.replace("    21.", "    26.").replace("    20.", "    25.");
    audit(&(first.text.clone() + &on)).cannot_tell().says(&["is probed", "without an unbind before"]);
    // What was being torn down may have gone on.
    first.unbind().cleanup().devres("REL", 0xb0, "dmam_release", 32);
    audit_all(&[&first.text, &second]).cannot_tell();
    // Whole lives in each are judged as before, by what each recorded.
    audit_all(&[&second, &second]).proves(&["R4", "R5", "R6"]);
    let bare = second.lines().filter(|line| !line.contains(" dma_")).collect::<Vec<_>>().join("\n");
    assert!(audit_all(&[&second, &bare]).violated().is_empty());
    // A trace that was split goes on.
    let (head, tail) = second.split_at(second.rfind("      sh-201").unwrap());
    audit_all(&[head, tail]).proves(&["R4", "R5", "R6"]);
}

#[test]
fn a_fault_in_another_file_is_charged_only_where_the_clocks_leave_no_doubt() {
    let trace = clean_life().text;
    let at = |seconds: u32| format!("[   {seconds}.000000] {FAULT}\n");
    // The range went at 20.1 s; the clocks differ by up to 2 s.
    audit_all(&[&trace, &at(30)]).violates(&["R10"]).hides(&["before; "]);
    audit_all(&[&trace, &at(21)]).cannot_tell().says(&["the log is not on the trace's clock"]);
    assert!(audit_all(&[&trace, &at(11)]).violated().is_empty());
    // In one file lines order, unless the clocks contradict them.
    audit(&(trace.clone() + &at(21))).violates(&["R10"]);
    audit(&(trace.clone() + &at(19))).cannot_tell();
    // Mapped again at that time, as far as is known.
    let mut again = clean_life();
    again.probe().managed(0xffff_0000, 0xb0).map_page(0xfffc_0000, 4096, "FROM_DEVICE");
    assert!(audit_all(&[&again.text, &at(30)]).violated().is_empty());
}

#[test]
fn a_fault_after_a_loss_is_not_charged_to_what_was_unmapped_before_it() {
    let fault = "io_page_fault: IOMMU:dmar 0000:05:00.0 iova=0x00000000fffc0000 flags=0x0000";
    let mut t = Trace::new();
    t.probe().managed(0xffff_0000, 0xb0).map_page(0xfffc_0000, 4096, "FROM_DEVICE");
    t.unmap_page(0xfffc_0000, 4096, "FROM_DEVICE");
    let mut lossy = Trace::new();
    lossy.text = t.text.clone() + "CPU:0 [LOST 5 EVENTS]\n";
    t.line(fault).audit().violates(&["R10"]);
    lossy.line(fault).audit().cannot_tell().says(&["events were lost since"]);
}

#[test]
fn a_driver_that_speaks_again_may_have_the_device_again() {
    let log = |words: &str| {
        format!("[  100.000000] foo {DEV}: removed PHC\n[  105.000000] foo {DEV}: {words}\n[  110.000000] {FAULT}\n")
    };
    audit(&log("ring of 512 entries")).cannot_tell().says(&["speaks of it again at line 2"]);
    audit(&log("added PHC on eth1")).cannot_tell().says(&["while nothing is torn down"]);
    // What it says while it leaves is no return.
    audit(&log("DCA disabled").replace("105.0", "100.1")).violates(&["R9"]);
    // Words about another device are none about this one.
    let port = format!("[  100.000000] xhci_hcd {DEV}: port 3 device removed\n[  100.100000] {FAULT}\n");
    audit(&port).cannot_tell();
    let gone = format!("[  100.000000] pci {DEV}: Removing from iommu group 3\n[  100.100000] {FAULT}\n");
    audit(&gone).violates(&["R9"]);
}

#[test]
fn a_use_of_what_the_release_freed_is_told_apart_from_a_crash_in_it() {
    let log = "\
[  600.000001] BUG: KASAN: slab-use-after-free in foo_irq+0x30/0x90 [foo]
[  600.000004] Call Trace:
[  600.000007]  foo_irq+0x30/0x90 [foo]
[  600.000008] Allocated by task 300:
[  600.000008]  foo_probe+0x30/0x90 [foo]
[  600.000009] Freed by task 312:
[  600.000011]  kfree+0x100/0x2e0
[  600.000012]  release_nodes+0x40/0xb0
[  600.000013]  devres_release_all+0x8f/0xd0
";
    audit(log).violates(&["R19"]).says(&["a use of memory that the release of managed resources had freed: foo_irq"]);
    let other = log.replace("release_nodes", "foo_work").replace("devres_release_all", "process_one_work");
    audit(&other).nothing();
}
