//! `bindery run`: the whole story, as a user sees it.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Dir, bindery, text};

/// The lines of step `number`, without its heading.
fn step(story: &str, number: usize) -> Vec<&str> {
    let mut lines = story.lines().skip_while(|l| !l.starts_with(&format!("{number}  ")));
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
fn the_story_is_told_in_seven_steps_and_ends_well() {
    let story = bindery(["run"]).good();
    assert_eq!(story, bindery::<&str>([]).good(), "run is the default");
    assert!(!story.contains("FAILED") && !story.contains("BROKEN") && !story.contains('\u{1b}'), "{story}");
    in_order(&step(&story, 1), &["Renesas Salvator-X", "31 devices", "ipmmu-vmsa", "sata_rcar", "ee300000.sata"]);
    in_order(
        &step(&story, 2),
        &[
            "e6570000.mmu               deferred by ipmmu-vmsa: waits for ipmmu_mm",
            "e67b0000.mmu               bound",
            "e6570000.mmu               woken by e67b0000.mmu: nothing is missing any more",
            "ee300000.sata              deferred by sata_rcar: waits for ipmmu_hc",
            "e6570000.mmu               bound",
            "ee300000.sata              woken by e6570000.mmu: nothing is missing any more",
            "DMA coherent: 0xfffff000",
            "ee300000.sata              bound to sata_rcar",
            "group 2 of e6570000.mmu, uTLB 2",
            "context 1",
            "up, 1.5 Gbps (SStatus 113)",
        ],
    );
    in_order(
        &step(&story, 3),
        &["walk finds 1 DMA area", "lent", "taken back", "the file holds what was written", "what the file holds"],
    );
    in_order(
        &step(&story, 4),
        &[
            "$ echo ee300000.sata > /sys/bus/platform/drivers/sata_rcar/unbind",
            "quiesced: stopped",
            "data",
            "2048 bytes at 0xfffff000",
            "translation",
            "group",
            "links",
            "unbound from sata_rcar",
        ],
    );
    in_order(
        &step(&story, 5),
        &[
            "$ echo vfio-platform > /sys/bus/platform/devices/ee300000.sata/driver_override",
            "bound to vfio-platform",
            "guest ee300000.sata        bound to sata_rcar",
            "the guest reads it back: the same",
            "bind: No such device",
            "type: Operation not permitted (group 2 is owned by pass-through",
            "the device is open already",
        ],
    );
    in_order(
        &step(&story, 6),
        &[
            "the user let go",
            "the host reads what the guest wrote",
            "no answer within 5s: cut off",
            "the guest's driver reads the disk:",
            "is blocked",
            "refused a read",
            "the host reads what the guest wrote",
        ],
    );
    let verdict = step(&story, 7);
    for n in 1..=12 {
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
    let story = bindery(["--iommu", "off"]).good();
    in_order(
        &step(&story, 2),
        &["ee300000.sata              policy: untranslated DMA", "direct, cma", "bound to sata_rcar"],
    );
    in_order(&step(&story, 3), &["none, by policy", "the file holds what was written"]);
    in_order(&step(&story, 4), &["2048 bytes at 0x7cfff000", "back to direct, cma", "-> 0"]);
    in_order(&step(&story, 5), &["Invalid argument", "not possible here", "no IOMMU group"]);
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
