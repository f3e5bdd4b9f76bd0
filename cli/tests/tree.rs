//! `bindery tree`.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use bindery_sim::salvator::DEVICE_TREE;
use common::{Dir, bindery, bindery_to, closed_pipe, full_device, text};
use serde_json::Value;

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&bindery(["tree", "--json"].iter().chain(args)).good()).unwrap()
}

fn number(v: &Value) -> u64 {
    v.as_u64().unwrap()
}

#[test]
fn every_device_and_every_other_node_has_its_line_and_the_sums_add_up() {
    let facts = json(&[]);
    let drawn = bindery(["tree"]).good();
    for device in facts["devices"].as_array().unwrap() {
        let name = device["name"].as_str().unwrap();
        assert_eq!(drawn.lines().filter(|l| l.contains(&format!("─ {name} "))).count(), 1, "{name}");
    }
    for other in facts["others"].as_array().unwrap() {
        let name = other["node"].as_str().unwrap().rsplit('/').next().unwrap();
        assert!(drawn.contains(&format!("─ {name} ")), "{name}");
    }
    let c = &facts["counts"];
    let states = ["bound", "present", "waiting", "failed", "no_driver"];
    assert_eq!(number(&c["devices"]), states.iter().map(|s| number(&c[s])).sum::<u64>());
    assert_eq!(number(&c["devices"]), facts["devices"].as_array().unwrap().len() as u64);
    assert_eq!(number(&c["others"]), facts["others"].as_array().unwrap().len() as u64);
    let last = drawn.lines().last().unwrap();
    assert!(last.starts_with(&format!("{} devices: {} bound", c["devices"], c["bound"])), "{last}");
}

#[test]
fn children_stand_below_their_parents() {
    let drawn = bindery(["tree"]).good();
    let depth = |name: &str| {
        let line = drawn.lines().find(|l| l.contains(&format!("─ {name}"))).unwrap();
        line.find('─').unwrap()
    };
    assert!(depth("soc") < depth("ee300000.sata"));
    assert!(depth("e6510000.i2c") < depth("codec@10"));
}

#[test]
fn suppliers_are_named_with_their_property_stream_and_state() {
    let facts = json(&[]);
    let sata = facts["devices"].as_array().unwrap().iter().find(|d| d["name"] == "ee300000.sata").unwrap();
    let iommu = sata["suppliers"].as_array().unwrap().iter().find(|s| s["properties"][0] == "iommus").unwrap();
    assert_eq!((&iommu["supplier"], &iommu["streams"][0][0]), (&"e6570000.mmu".into(), &2.into()));
    assert!(iommu["state"].is_string());
}

#[test]
fn the_long_tree_has_registers_interrupt_lines_dma_windows_and_coherence() {
    let facts = json(&[]);
    let sata = facts["devices"].as_array().unwrap().iter().find(|d| d["name"] == "ee300000.sata").unwrap();
    assert_eq!(sata["registers"], serde_json::json!([{"base": 0xee30_0000_u64, "len": 0x20_0000}]));
    let line = &sata["interrupts"][0];
    assert_eq!((&line["line"], &line["trigger"]), (&137.into(), &"level-high".into()));
    assert_eq!(sata["dma"]["coherent"], false);
    let long = bindery(["tree", "--long"]).good();
    let of_sata: Vec<&str> = long.lines().skip_while(|l| !l.contains("─ ee300000.sata ")).take(5).collect();
    let has = |label: &str, value: &str| of_sata.iter().any(|l| l.contains(label) && l.ends_with(value));
    assert!(has("registers", "0xee300000 + 0x200000") && has("interrupt", "line 137, level-high"), "{of_sata:?}");
    assert!(has("dma", "not coherent"), "{of_sata:?}");
    assert!(!bindery(["tree"]).good().contains("registers  "));
    bindery(["tree", "--long", "--json"]).refused(&["cannot be used with"]);
}

/// The fields of `object`, and of the objects in it, are in the rows of `section` of docs/tree.md.
fn documented(page: &str, section: &str, object: &Value) {
    let text = page.split("\n## ").find(|s| s.starts_with(section)).unwrap_or_else(|| panic!("no section {section}"));
    for field in object.as_object().unwrap().keys() {
        assert!(text.contains(&format!("| `{field}` |")), "docs/tree.md does not name {field} of {section}");
    }
}

#[test]
fn every_field_of_the_json_is_documented() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tree.md")).unwrap();
    let facts = json(&[]);
    documented(&page, "The object", &facts);
    documented(&page, "Sums", &facts["counts"]);
    for (list, section) in [("devices", "A device"), ("others", "Another node"), ("groups", "An IOMMU group")] {
        facts[list].as_array().unwrap().iter().for_each(|row| documented(&page, section, row));
    }
    for device in facts["devices"].as_array().unwrap() {
        documented(&page, "DMA", &device["dma"]);
        for (list, section) in [("registers", "Registers"), ("interrupts", "An interrupt"), ("suppliers", "A supplier")]
        {
            device[list].as_array().unwrap().iter().for_each(|row| documented(&page, section, row));
        }
        for (list, section) in [("windows", "A DMA window"), ("reserved", "A reserved region")] {
            device["dma"][list].as_array().unwrap().iter().for_each(|row| documented(&page, section, row));
        }
    }
    let fields = |section: &str| page.split("\n## ").find(|s| s.starts_with(section)).unwrap().matches("\n| `").count();
    assert_eq!(fields("The object"), facts.as_object().unwrap().len());
    assert_eq!(fields("Sums"), facts["counts"].as_object().unwrap().len());
}

#[test]
fn a_device_that_its_iommu_does_not_attach_says_why() {
    assert!(!bindery(["tree"]).good().contains("not attached"));
    let dir = Dir::new();
    let mut blob = DEVICE_TREE.to_vec();
    // `iommus = <&ipmmu_ds0 16>` of the Ethernet controller, whose stream becomes one that no IPMMU has.
    let node = b"ethernet@e6800000\0";
    let node = blob.windows(node.len()).position(|w| w == node).unwrap();
    let (count, stream) = (8_u32.to_be_bytes(), 16_u32.to_be_bytes());
    let is_stream = |at: &usize| blob[*at - 12..*at - 8] == count && blob[*at..*at + 4] == stream;
    let at = (node + 12..blob.len() - 4).find(is_stream).unwrap();
    blob[at..at + 4].copy_from_slice(&999_u32.to_be_bytes());
    let path = dir.file("stream.dtb", &blob);
    let facts = json(&["--dtb", text(&path)]);
    let ethernet = facts["devices"].as_array().unwrap().iter().find(|d| d["name"] == "e6800000.ethernet").unwrap();
    assert_eq!((&ethernet["iommu_error"], &ethernet["group"]), (&"no such stream".into(), &Value::Null));
    let drawn = bindery(["tree", "--dtb", text(&path)]).good();
    let after = drawn.lines().skip_while(|l| !l.contains("─ e6800000.ethernet "));
    assert!(after.take(2).any(|l| l.contains("iommu") && l.contains("not attached: no such stream")), "{drawn}");
}

#[test]
fn output_is_plain_in_a_pipe_and_coloured_on_demand() {
    assert!(!bindery(["tree"]).good().contains('\u{1b}'));
    assert!(bindery(["tree", "--color", "always"]).good().contains('\u{1b}'));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let ran = bindery_to(closed_pipe(), ["tree"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[test]
fn a_full_disk_is_named() {
    bindery_to(full_device(), ["tree"]).refused(&["cannot write standard output: No space left on device"]);
    bindery_to(full_device(), ["completions", "bash"]).refused(&["cannot write standard output"]);
}

#[test]
fn a_broken_device_tree_is_refused_with_its_file_and_reason() {
    let dir = Dir::new();
    let refused = |path: &str, words: &[&str]| {
        let out = bindery(["tree", "--dtb", path]).refused(words);
        assert_eq!(out, "", "nothing is drawn of {path}");
    };
    refused("/no/such.dtb", &["cannot read /no/such.dtb: No such file or directory"]);
    refused(text(&dir.path("")), &["is a directory"]);
    let name = dir.file("text.dtb", "hello, this is no device tree");
    refused(text(&name), &["text.dtb", "not a valid device tree blob", "offset"]);
    let empty = dir.file("empty.dtb", "");
    refused(text(&empty), &["empty.dtb", "not a valid device tree blob"]);
    for cut in [8, 40, DEVICE_TREE.len() / 2, DEVICE_TREE.len() - 1] {
        let cut = dir.file(&format!("cut{cut}.dtb"), &DEVICE_TREE[..cut]);
        refused(text(&cut), &["not a valid device tree blob"]);
    }
    let large = dir.image("large.dtb", (64 << 11) + 1);
    refused(text(&large), &["large.dtb: more than 64 MiB, which no device tree has"]);
    refused("/dev/zero", &["/dev/zero: more than 64 MiB"]);
}

#[test]
fn names_in_a_device_tree_cannot_steer_the_terminal() {
    let dir = Dir::new();
    let mut blob = DEVICE_TREE.to_vec();
    let model = b"Renesas Salvator-X";
    let at = blob.windows(model.len()).position(|w| w == model).unwrap();
    blob[at..at + 4].copy_from_slice(b"\x1b[2J");
    let path = dir.file("evil.dtb", &blob);
    assert!(!bindery(["tree", "--dtb", text(&path)]).good().contains('\u{1b}'));
    assert!(!bindery(["tree", "--color", "always", "--dtb", text(&path)]).good().contains("\u{1b}[2J"));
}

#[test]
fn a_file_with_the_embedded_blob_draws_the_same_tree() {
    let dir = Dir::new();
    let path = dir.file("board.dtb", DEVICE_TREE);
    let rest = |s: String| s.lines().skip(1).map(String::from).collect::<Vec<_>>();
    assert_eq!(rest(bindery(["tree", "--dtb", text(&path)]).good()), rest(bindery(["tree"]).good()));
}
