//! F06, F07, F14, F17, F36: overrides, attributes of what goes, and what a second try finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bindery::control::Tree;
use bindery::driver::{Errno, ProbeError};

use super::dma::*;
use super::toy::{Other, Script, Toy};

const BUS: &str = "/sys/bus/platform";

#[test]
fn f06_an_override_that_is_never_cleared_keeps_the_old_driver_off_until_it_is() {
    let r = rig();
    r.machine.settle();
    let tree = Tree::new(&r.machine);
    let over = format!("{BUS}/devices/{SATA}/driver_override");
    tree.write(&over, "vfio-platform\n").unwrap();
    tree.write(&format!("{BUS}/drivers/sata_rcar/unbind"), SATA).unwrap();
    tree.write(&format!("{BUS}/drivers/vfio-platform/bind"), SATA).unwrap();
    tree.write(&format!("{BUS}/drivers/vfio-platform/unbind"), SATA).unwrap();
    let refused = tree.write(&format!("{BUS}/drivers/sata_rcar/bind"), SATA).unwrap_err();
    assert_eq!((refused.errno, tree.read(&over).unwrap().as_str()), (Errno::ENODEV, "vfio-platform\n"));
    tree.write(&over, "\n").unwrap();
    assert_eq!(tree.read(&over).unwrap(), "(null)\n");
    tree.write(&format!("{BUS}/drivers/sata_rcar/bind"), SATA).unwrap();
    assert_eq!(r.driver(SATA), Some("sata_rcar"));
}

#[test]
fn f07_a_driver_that_does_not_match_is_refused_and_the_device_comes_back() {
    let r = rig();
    r.machine.settle();
    let tree = Tree::new(&r.machine);
    tree.write(&format!("{BUS}/drivers/sata_rcar/unbind"), SATA).unwrap();
    let refused = tree.write(&format!("{BUS}/drivers/vfio-platform/bind"), SATA).unwrap_err();
    assert_eq!((refused.errno, r.driver(SATA)), (Errno::ENODEV, None));
    tree.write(&format!("{BUS}/drivers_probe"), SATA).unwrap();
    assert_eq!(r.driver(SATA), Some("sata_rcar"));
}

/// Every path of the tree below `at`.
fn paths(tree: &Tree, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![at.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in tree.list(&dir).unwrap_or_default() {
            let path = format!("{dir}/{}", entry.name);
            if matches!(entry.kind, bindery::control::EntryKind::Dir) {
                left.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn f17_a_second_probe_finds_nothing_of_the_first() {
    let r = rig();
    r.machine.settle();
    let works = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&works);
    let script = Arc::new(Script {
        probe: Box::new(move |dev| {
            dev.provide::<AtomicBool>(Arc::new(AtomicBool::new(true)))?;
            if now.load(Ordering::SeqCst) { Ok(()) } else { Err(ProbeError::Device("not yet")) }
        }),
        ..Script::default()
    });
    r.machine.register(Toy(Arc::clone(&script)));
    r.machine.settle();
    r.machine.add_device(dev("twice", "t,toy")).unwrap();
    let tree = Tree::new(&r.machine);
    let before = paths(&tree, "/sys");
    r.machine.settle();
    assert!(r.machine.bind("twice", "toy").is_err());
    assert_eq!((script.probes(), paths(&tree, "/sys")), (2, before.clone()));
    works.store(true, Ordering::SeqCst);
    r.machine.bind("twice", "toy").unwrap();
    let bound = paths(&tree, "/sys");
    r.machine.unbind("twice", "toy").unwrap();
    assert_eq!(paths(&tree, "/sys"), before);
    r.machine.bind("twice", "toy").unwrap();
    assert_eq!(paths(&tree, "/sys"), bound, "the next one is like the first (P4)");
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn f14_attributes_that_are_read_while_their_device_is_removed_answer_or_are_gone() {
    let r = rig();
    r.machine.settle();
    let script = Arc::new(Script::default());
    r.machine.register(Toy(script));
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            let tree = Tree::new(&r.machine);
            while !stop.load(Ordering::Relaxed) {
                for path in paths(&tree, &format!("{BUS}/devices")) {
                    if let Err(e) = tree.read(&path) {
                        let known =
                            [Errno::ENOENT, Errno::ENODEV, Errno::EISDIR, Errno::EACCES, Errno::EIO, Errno::EINVAL];
                        assert!(known.contains(&e.errno), "{path}: {e}");
                    }
                }
            }
        });
        for _ in 0..300 {
            r.machine.add_device(dev("fleeting", "t,toy")).unwrap();
            r.machine.settle();
            assert!(r.machine.remove_device("fleeting"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(r.machine.promises().broken(), []);
    assert_eq!(r.board.model_errors(), []);
}

#[test]
fn f36_a_driver_that_is_registered_twice_is_refused_and_devices_stay_as_they_are() {
    let r = rig();
    r.machine.settle();
    let (first, second) = (Arc::new(Script::default()), Arc::new(Script::default()));
    assert!(r.machine.register(Toy(Arc::clone(&first))));
    r.machine.add_device(dev("one", "t,toy")).unwrap();
    r.machine.settle();
    assert!(!r.machine.register(Toy(Arc::clone(&second))), "the name is taken");
    r.machine.settle();
    assert_eq!((r.driver("one"), first.probes(), second.probes()), (Some("toy"), 1, 0));
    assert!(r.machine.register(Other(second)));
    assert_eq!(r.machine.promises().broken(), []);
}
