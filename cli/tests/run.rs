//! `bindery run`: the main job, as a user sees it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Dir, bindery, text};

/// The lines of step `number`, without its heading.
fn step(out: &str, number: usize) -> Vec<&str> {
    let mut lines = out.lines().skip_while(|l| !l.starts_with(&format!("{number}  ")));
    lines.next().unwrap();
    lines
        .take_while(|l| !l.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect()
}

/// All of `parts` are in `lines`, in this order; several may be in one line.
#[track_caller]
fn in_order(lines: &[&str], parts: &[&str]) {
    let whole = lines.join("\n");
    let mut rest = whole.as_str();
    for part in parts {
        let Some(at) = rest.find(part) else { panic!("{part:?} is missing, or not in its place, in:\n{whole}") };
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn the_main_job_runs_in_seven_steps_and_holds() {
    let out = bindery(["run"]).good();
    assert_eq!(out, bindery::<&str>([]).good(), "run is the default");
    assert!(!out.contains("FAILED") && !out.contains("BROKEN") && !out.contains('\u{1b}'), "{out}");
    in_order(&step(&out, 1), &["Renesas Salvator-X", "31 devices", "ipmmu-vmsa", "sata_rcar", "ee300000.sata"]);
    in_order(
        &step(&out, 2),
        &[
            "e6570000.mmu               deferred by ipmmu-vmsa: waits for ipmmu_mm",
            "e67b0000.mmu               bound",
            "e6570000.mmu               woken by e67b0000.mmu: nothing is missing any more",
            "ee300000.sata              deferred by sata_rcar: waits for ipmmu_hc",
            "joins IOMMU group 2 of e6570000.mmu, stream 2",
            "e6570000.mmu               bound",
            "ee300000.sata              woken by e6570000.mmu: nothing is missing any more",
            "DMA coherent: 0xfffff000",
            "ee300000.sata              bound to sata_rcar",
            "7 deferrals",
            "exactly its waiters: 46 wake-ups",
            "group 2 of e6570000.mmu, context 1 (strict)",
            "up, 1.5 Gbps (SStatus 113)",
        ],
    );
    in_order(
        &step(&out, 3),
        &[
            "walk finds 1 DMA mapping",
            "$ fill 65392 72 host",
            "DMA single",
            "72 sectors written and flushed",
            "2 streaming buffers unmapped",
            "ok  the image holds the pattern \"host\" in sectors 65392 to 65463",
            "ok  the host reads the pattern \"host\"",
            "$ image fill 65392 72 other",
            "ok  the host reads the pattern \"other\"",
            "$ ! read 65536",
            "the disk has 65536",
        ],
    );
    in_order(
        &step(&out, 4),
        &[
            "$ echo ee300000.sata > /sys/bus/platform/drivers/sata_rcar/unbind",
            "quiesced: stopped",
            "data",
            "2048 bytes at 0xfffff000",
            "translation",
            "group",
            "links",
            "unbound from sata_rcar",
            "ok  all 13 entries of the ledger went back, newest first, each to its back-end",
            "ok  a client that was opened before gets an error, not memory",
            "page frames in use 21 -> 1",
            "quarantine   empty",
        ],
    );
    in_order(
        &step(&out, 5),
        &[
            "$ echo vfio-platform > /sys/bus/platform/devices/ee300000.sata/driver_override",
            "bound to vfio-platform",
            "guest ee300000.sata        bound to sata_rcar",
            "ok  the guest reads what the image holds in sectors 65392 to 65463",
            "ok  the image holds the pattern \"guest\"",
            "ok  the guest reads the pattern \"guest\"",
            "bind: No such device",
            "type: Operation not permitted (group 2 is owned by pass-through",
            "the device is open already",
            "owner        group 2: pass-through (1)",
            "ok  the guest reads what the image holds",
        ],
    );
    in_order(
        &step(&out, 6),
        &[
            "guest ee300000.sata        unbound from sata_rcar",
            "released by the user",
            "ok  the guest was asked",
            "ok  the guest no longer has the device",
            "ok  the host reads the pattern \"guest\"",
            "not released within 5s: revoked",
            "elapsed      5.0",
            "ok  the guest was asked",
            "ok  the guest no longer has the device",
            "the device's registers are gone",
            "is blocked",
            "refused a read",
            "ok  the host reads the pattern \"guest\"",
        ],
    );
    let verdict = step(&out, 7);
    in_order(
        &verdict,
        &["ok  the machine uses what it used before the first probe", "without exception", "No promise"],
    );
    for n in 1..=14 {
        let row = verdict.iter().find(|l| l.starts_with(&format!("P{n} "))).unwrap();
        let checked = row.split_whitespace().rev().nth(2).unwrap();
        assert!(row.ends_with("holds") && checked.parse::<u64>().unwrap() > 0, "{row}");
    }
}

#[test]
fn two_runs_give_the_same_bytes() {
    assert_eq!(bindery(["run"]).good(), bindery(["run"]).good());
    assert_eq!(bindery(["run", "--json"]).good(), bindery(["run", "--json"]).good());
}

#[test]
fn without_iommu_the_table_comes_from_cma_and_goes_back_to_it() {
    let out = bindery(["--iommu", "off"]).good();
    in_order(
        &step(&out, 2),
        &[
            "ee300000.sata              policy: untranslated DMA",
            "direct, cma",
            "bound to sata_rcar",
            "translation  none, by policy",
        ],
    );
    in_order(&step(&out, 3), &["no IOMMU translates", "the image holds the pattern \"host\""]);
    in_order(&step(&out, 4), &["2048 bytes at 0x7cfff000", "back to direct, cma", "-> 0"]);
    in_order(&step(&out, 5), &["not possible here", "Invalid argument", "no IOMMU group"]);
    in_order(&step(&out, 6), &["bound to sata_rcar", "ok  the host reads the pattern \"other\""]);
    let last = out.lines().last().unwrap();
    assert!(last.ends_with("checks. Not possible here, or not as a whole: hand-over."), "{last}");
    let json = bindery(["--iommu", "off", "--json"]).good();
    assert!(json.ends_with("\"exit\":0,\"skipped\":[\"hand-over\"]}\n"), "{json}");
    assert!(bindery(["--json"]).good().ends_with("\"exit\":0,\"skipped\":[]}\n"));
}

/// A run of which nothing was possible does not end like one that did something.
#[test]
fn a_board_without_the_disk_controller_is_named_in_the_verdict() {
    let dir = Dir::new();
    let mut blob = bindery_sim::salvator::DEVICE_TREE.to_vec();
    let disk = b"renesas,sata-r8a7795\0renesas,rcar-gen3-sata\0";
    let at = blob.windows(disk.len()).position(|w| w == disk).expect("the disk controller is described");
    blob[at..at + disk.len()].copy_from_slice(b"example,sata-r8a7795\0example,rcar-gen3-sata\0");
    let out = bindery(["--dtb", text(&dir.file("a.dtb", blob))]).good();
    assert_eq!(out.matches("not possible here: the device tree has no disk controller").count(), 5, "{out}");
    let last = out.lines().last().unwrap();
    assert!(last.ends_with("Not possible here, or not as a whole: probe, io, unbind, hand-over, return."), "{last}");
}

#[test]
fn the_image_holds_what_host_and_guest_wrote_and_keeps_its_size() {
    let dir = Dir::new();
    let image = dir.image("disk.img", 200);
    bindery(["--disk", text(&image), "-q"]).good();
    let bytes = std::fs::read(&image).unwrap();
    assert_eq!(bytes.len(), 200 * 512);
    assert!(bytes[199 * 512..].starts_with(b"bindery: guest, sector 199\n"));
    assert!(bytes[..56 * 512].iter().all(|b| *b == 0), "only the last sectors are used");
}

#[test]
fn the_smallest_disk_will_do() {
    let dir = Dir::new();
    for sectors in [1, 2, 3] {
        let image = dir.image("disk.img", sectors);
        bindery(["--disk", text(&image)]).good();
    }
}

#[test]
fn quiet_says_nothing_when_nothing_is_wrong() {
    assert_eq!(bindery(["-q"]).good(), "");
    assert_eq!(bindery(["run", "--quiet"]).good(), "");
}
