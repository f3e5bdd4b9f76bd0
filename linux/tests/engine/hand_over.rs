//! Hand-overs that nothing disturbs.

use bindery_linux::engine::Ended;

use crate::scenario::all;

#[test]
fn devices_go_and_come_back_as_they_were() {
    for scenario in all() {
        let run = scenario.start();
        let before = run.kernel.state();
        let tree = run.kernel.tree.borrow().clone();
        assert_eq!(scenario.give(&run), Ended::Done, "{}", scenario.name);
        assert_ne!(run.kernel.state(), before, "{}", scenario.name);
        assert_eq!(run.store.given().unwrap().len(), 1);
        assert_eq!(run.store.unfinished().unwrap().len(), 0);
        assert_eq!(scenario.take(&run), Ended::Done, "{}", scenario.name);
        assert_eq!(run.kernel.state(), before, "{}", scenario.name);
        assert_eq!(run.store.given().unwrap().len(), 0, "{}", scenario.name);
        // What a driver makes below its device is back, too.
        let missing: Vec<_> = tree
            .keys()
            .filter(|path| !run.kernel.tree.borrow().contains_key(*path))
            .filter(|path| !path.contains("vfio"))
            .collect();
        assert_eq!(missing, Vec::<&String>::new(), "{}", scenario.name);
    }
}

#[test]
fn an_override_is_empty_again_and_siblings_are_back_after_a_take() {
    let group = all().into_iter().find(|s| s.name == "a group of three").unwrap();
    let run = group.start();
    group.give(&run);
    assert_eq!(run.kernel.driver("0000:02:00.1"), None, "held");
    assert_eq!(run.kernel.over("0000:02:00.0").as_deref(), Some("vfio-pci"));
    group.take(&run);
    assert_eq!(run.kernel.driver("0000:02:00.1").as_deref(), Some("ahci"));
    assert_eq!(run.kernel.over("0000:02:00.0"), None);
    assert_eq!(run.kernel.over("0000:02:00.2").as_deref(), Some("other"), "an override that was there is back");
}

#[test]
fn a_device_that_could_sleep_can_sleep_again() {
    let disk = all().remove(0);
    let run = disk.start();
    assert_eq!(run.kernel.power("0000:5e:00.0").as_deref(), Some("auto"));
    disk.give(&run);
    disk.take(&run);
    assert_eq!(run.kernel.power("0000:5e:00.0").as_deref(), Some("auto"), "vfio-pci has left `on`");
}
