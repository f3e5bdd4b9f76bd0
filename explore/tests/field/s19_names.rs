//! Names in the control tree.

use super::dma::*;
use bindery::control::Tree;

/// Names that the tree itself uses, and odd ones.
const NAMES: [&str; 14] = [
    "bind",
    "unbind",
    "uevent",
    "driver",
    "subsystem",
    "a b",
    " lead",
    "trail ",
    "a--b",
    "x:y",
    "ü\u{202e}gpj",
    "(null)",
    "a\\nb",
    "#1",
];

#[test]
fn each_name_is_there_once_and_can_be_bound_and_unbound_by_it() {
    let r = rig();
    r.machine.settle();
    let tree = Tree::new(&r.machine);
    let mut odd = Vec::new();
    for name in NAMES {
        // A name that the directory above has is refused, and one that the driver's directory has is not bound, as on Linux.
        if let Err(e) = r.machine.add_device(dev(name, "acme,master")) {
            assert!(name == "uevent" && e.to_string().contains(name), "{name}: {e}");
            continue;
        }
        r.machine.settle();
        if ["bind", "unbind"].contains(&name) {
            let bound = tree.write("/sys/bus/platform/drivers/acme_master/bind", name);
            assert!(bound.is_err_and(|e| e.errno == bindery::driver::Errno::EEXIST), "{name}");
            assert!(r.driver(name).is_none() && r.machine.remove_device(name), "{name}");
            continue;
        }
        if r.driver(name) != Some("acme_master") {
            odd.push(format!("{name:?} not bound"));
            continue;
        }
        let dir = "/sys/bus/platform/drivers/acme_master";
        let list = tree.list(dir).unwrap();
        let same = list.iter().filter(|e| e.name == name).count();
        if same != 1 {
            odd.push(format!("{name:?} is listed {same} times in {dir}"));
        }
        if let Err(e) = tree.read_link(&format!("{dir}/{name}")) {
            odd.push(format!("{name:?}: its link: {e}"));
        }
        if let Err(e) = tree.write(&format!("{dir}/unbind"), &format!("{name}\n")) {
            odd.push(format!("{name:?}: unbind: {e}"));
        }
        if let Err(e) = tree.write(&format!("{dir}/bind"), &format!("{name}\n")) {
            odd.push(format!("{name:?}: bind: {e}"));
        }
        let walked: Vec<_> = tree.walk().collect();
        if walked.is_empty() {
            odd.push("nothing to walk".into());
        }
        r.machine.remove_device(name);
    }
    for bad in ["", ".", "..", "a/b", "a\nb", "a\0b"] {
        assert!(r.machine.add_device(dev(bad, "x")).is_err(), "{bad:?}");
    }
    let long = "x".repeat(100_000);
    assert!(r.machine.add_device(dev(&long, "x")).is_err_and(|e| e.to_string().len() < 200), "a name of 100,000 bytes");
    assert!(r.machine.add_device(dev(&"y".repeat(255), "x")).is_ok(), "255 bytes are a file name");
    assert!(r.machine.add_device(dev(&"z".repeat(256), "x")).is_err());
    println!("{odd:#?}\n{}", r.verdict());
    assert!(odd.is_empty());
}

#[test]
fn readers_and_writers_race_with_removal() {
    let r = rig();
    r.machine.settle();
    let tree = Tree::new(&r.machine);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (mut reads, mut writes) = (0u64, 0u64);
    std::thread::scope(|s| {
        let reader = s.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in tree.walk() {
                    let _ = tree.read(&entry.0);
                    n += 1;
                }
            }
            n
        });
        let writer = s.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = tree.write("/sys/bus/platform/drivers/acme_master/unbind", "hot");
                let _ = tree.write("/sys/bus/platform/drivers_probe", "hot");
                let _ = tree.write("/sys/bus/platform/devices/hot/driver_override", "acme_master");
                n += 3;
            }
            n
        });
        let t = std::time::Instant::now();
        let mut rounds = 0;
        while t.elapsed().as_millis() < 1500 {
            let _ = r.machine.add_device(dev("hot", "acme,master"));
            r.machine.settle();
            r.machine.remove_device("hot");
            rounds += 1;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        reads = reader.join().unwrap();
        writes = writer.join().unwrap();
        println!("{rounds} rounds");
    });
    println!("{reads} reads, {writes} writes; {}", r.verdict());
    assert_eq!(r.machine.promises().broken(), []);
}

#[test]
fn a_child_is_not_called_like_a_file_or_link_of_its_parents_directory() {
    let r = rig();
    r.machine.settle();
    let tree = Tree::new(&r.machine);
    let parent = r.machine.add_device(dev("parent", "acme,master")).unwrap().node();
    r.machine.settle();
    let child = |name: &str| bindery::device::DeviceDesc { parent: Some(parent), ..dev(name, "acme,master") };
    let own: Vec<String> = tree.list("/sys/devices/platform/parent").unwrap().into_iter().map(|e| e.name).collect();
    assert!(own.len() >= 5, "{own:?}");
    for name in &own {
        let refused = r.machine.add_device(child(name)).unwrap_err().to_string();
        assert!(refused.contains(name.as_str()), "{refused}");
    }
    for link in ["supplier:platform:x", "consumer:platform:x"] {
        assert!(r.machine.add_device(child(link)).is_err(), "{link}");
    }
    r.machine.add_device(child("children")).unwrap();
    assert_eq!(r.machine.promises().broken(), []);
}
