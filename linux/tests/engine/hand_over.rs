//! Hand-overs that nothing disturbs.

use std::time::Duration;

use bindery_linux::engine::{Ended, NotBegun, Order, carry_out};

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

#[test]
fn what_changes_between_the_plan_and_its_start_is_refused_before_anything_is_written() {
    let disk = all().remove(0);
    // The driver leaves, an override is written, another program gives the device away: the plan made anew is another one.
    let changes: [&dyn Fn(&crate::kernel::Kernel); 3] = [
        &|kernel| kernel.unbind("0000:5e:00.0", "nvme").unwrap(),
        &|kernel| kernel.file(&format!("{}/driver_override", kernel.device("0000:5e:00.0").unwrap()), "other"),
        &|kernel| kernel.file(&format!("{}/power/control", kernel.device("0000:5e:00.0").unwrap()), "on"),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let run = disk.start();
        let plan = disk.plan(&run.kernel);
        let order = Order {
            purpose: "give".into(),
            devices: vec!["0000:5e:00.0".into()],
            steps: plan.steps,
            remembered: plan.remembered,
            takes: None,
        };
        change(&run.kernel);
        let before = run.kernel.state();
        let again = || Ok(disk.plan(&run.kernel).steps);
        let ended: Result<Ended, NotBegun> =
            carry_out(&*run.kernel, &run.store, &order, Duration::from_secs(1), again, &mut |_, _, _, _| {});
        assert!(matches!(ended, Err(NotBegun::Changed)), "{number}: {ended:?}");
        assert_eq!((run.kernel.writes.get(), run.kernel.state()), (0, before), "{number}");
        assert!(run.store.unfinished().unwrap().is_empty(), "{number}: no journal is begun");
    }
}
