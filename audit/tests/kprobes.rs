//! Kprobe events of the recorder on a kernel without `dma:*`, from a recording of 6.1 (x86, VT-d), and damaged.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::audit;

const RECORDED: &str = include_str!("fixtures/trace/linux-6.1-x86_64-vtd-kprobes.ftrace");

fn without(words: &str) -> String {
    let lines: Vec<&str> = RECORDED.lines().filter(|line| !line.contains(words)).collect();
    lines.join("\n")
}

#[test]
fn a_clean_life_is_proved_without_dma_events() {
    audit(RECORDED).proves(&["R1", "R2", "R3", "R4", "R5", "R6", "R8"]).hides(&["cannot tell"]);
}

#[test]
fn without_the_probes_what_is_not_managed_cannot_be_told() {
    let audited = audit(&without("bindery_"));
    audited.cannot_tell().says(&["R1  cannot tell", "R4  cannot tell", "R5  proved", "R6  proved"]);
}

#[test]
fn coherent_memory_that_is_not_freed_leaks() {
    audit(&without("size=16384 virt")).violates(&["R4"]).says(&["coherent memory of 16384 bytes at 0xffff8000"]);
}

#[test]
fn a_wrong_size_and_a_second_unmap_are_seen() {
    let size = RECORDED.replace("size=16384 virt=", "size=8192 virt=");
    audit(&size).violates(&["R3"]).says(&["8192 bytes instead of 16384"]);
    let mut twice = String::new();
    let mut held = String::new();
    for line in RECORDED.lines() {
        twice += line;
        twice += "\n";
        if line.contains("bindery_unmap_page:") {
            held = format!("{line}\n");
        } else if line.contains("bindery_unmap_page_ret:") {
            twice += &held;
            twice += line;
            twice += "\n";
        }
    }
    audit(&twice).violates(&["R2"]);
}

#[test]
fn memory_whose_dma_address_is_not_known_goes_by_its_cpu_address() {
    // The direct path: the IOMMU has no part in it.
    let text = without("IOMMU: iova=").replace("iommu_dma_", "dma_direct_");
    // No line names the back-end of a mapping there, so R5 stays open.
    audit(&text).cannot_tell().says(&["R4  proved", "R6  proved", "R5  cannot tell"]);
    let leak: Vec<&str> = text.lines().filter(|line| !line.contains("size=16384 virt")).collect();
    audit(&leak.join("\n")).violates(&["R4"]).says(&["0xffffd08b00735000"]);
}

#[test]
fn names_that_cannot_be_read_and_returns_without_a_call_are_passed_over() {
    let text = RECORDED.replace("dev=\"0000:00:06.0\" size=16384", "dev=(fault) size=16384");
    audit(&text).hides(&["(fault)"]);
    audit(&without("bindery_map_page:")).hides(&["panicked"]);
}

#[test]
fn losses_that_the_recorder_counted_leave_everything_open() {
    let stats = "# stats cpu 0: entries: 44, overrun: 0, dropped events: 0, read events: 0\n";
    audit(&(stats.to_owned() + RECORDED)).proves(&["R4"]);
    for lost in [stats.replace("dropped events: 0", "dropped events: 7"), "# missed: 7 events of the kprobe x\n".into()]
    {
        audit(&(lost.clone() + RECORDED)).cannot_tell().says(&["7 events were lost"]);
        audit(&(lost + &without("size=16384 virt"))).cannot_tell();
    }
}

#[test]
fn a_return_that_was_missed_does_not_lend_its_call_to_another() {
    let stray = "          insmod-153     [001] .....    15.036798: bindery_alloc: (dma_alloc_attrs+0x0/0x60) dev=\"0000:00:06.0\" size=64 attrs=0x0";
    let mut text = String::new();
    for line in RECORDED.lines() {
        text += line;
        text += "\n";
        if line.contains("bindery_map_page:") {
            text += stray;
            text += "\n";
        }
    }
    audit(&text).proves(&["R1", "R3", "R4"]);
}

#[test]
fn a_pool_that_is_only_asked_is_no_back_end() {
    // arm64 asks at each free whether the memory is of the device's own pool.
    let mut text = String::new();
    for line in RECORDED.lines() {
        text += line;
        text += "\n";
        if line.contains("bindery_free:") {
            let (head, _) = line.split_once(": bindery_free").unwrap();
            text += head;
            text += ": dma_release_from_dev_coherent <-dma_free_attrs\n";
        }
    }
    audit(&text).proves(&["R1", "R5", "R6"]);
}
