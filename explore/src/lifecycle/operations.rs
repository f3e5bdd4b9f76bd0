//! Concurrent operations.

use std::sync::Arc;

use bindery::control::Tree;

use super::Names;
use super::peer;
use super::play::unbind;
use crate::scene::Operation;
use crate::scene::fixture::Fixture;

const OWNER: &str = "vfio-platform";

/// All operations that may run concurrently with the lifecycle of `names`. Whether one is possible at that moment is for
/// the core to decide; an error is as good a result as any.
pub(super) fn of(fixture: &Fixture, names: &Names) -> Vec<Operation> {
    let machine = Arc::clone(&fixture.machine);
    let tree = Tree::new(&machine);
    let device = names.device.clone();
    let driver = names.driver;
    let mut all = Vec::new();
    {
        let (tree, machine, device) = (tree.clone(), Arc::clone(&machine), device.clone());
        all.push(Operation::new("concurrent: unbind", move || {
            let _ = unbind(&tree, &machine, driver, &device);
        }));
    }
    {
        let (machine, device) = (Arc::clone(&machine), device.clone());
        all.push(Operation::new("concurrent: second binder", move || {
            let _ = machine.bind(&device, driver);
        }));
    }
    {
        let (machine, device) = (Arc::clone(&machine), device.clone());
        all.push(Operation::new("concurrent: device removal", move || {
            machine.remove_device(&device);
        }));
    }
    {
        let (machine, device, board) = (Arc::clone(&machine), device.clone(), Arc::clone(&fixture.board));
        all.push(Operation::new("concurrent: device vanishes", move || {
            let _ = board.unplug(&device);
            machine.device_vanished(&device);
        }));
    }
    {
        let machine = Arc::clone(&machine);
        all.push(Operation::new("concurrent: driver removal", move || {
            machine.unregister(driver);
        }));
    }
    for (supplier, of) in names.suppliers.clone() {
        let (tree, machine) = (tree.clone(), Arc::clone(&machine));
        all.push(Operation::new("concurrent: supplier unbind", move || {
            let _ = unbind(&tree, &machine, of, &supplier);
        }));
    }
    {
        let (tree, machine, device) = (tree.clone(), Arc::clone(&machine), device.clone());
        all.push(Operation::new("concurrent: hand-over claim", move || {
            let path = format!("/sys/bus/platform/devices/{device}/driver_override");
            let _ = tree.write(&path, OWNER);
            let _ = unbind(&tree, &machine, driver, &device);
            let _ = tree.write(&format!("/sys/bus/platform/drivers/{OWNER}/bind"), &device);
        }));
    }
    // Without translation its memory would depend on what was allocated before.
    if names.peer_iommu.is_some() {
        let machine = Arc::clone(&machine);
        all.push(Operation::new("concurrent: group peer binds", move || {
            if let Some(device) = machine.device(peer::NAME) {
                device.set_driver_override(Some(peer::NAME));
                let _ = machine.bind(peer::NAME, peer::NAME);
            }
        }));
    }
    {
        let (tree, machine) = (tree.clone(), Arc::clone(&machine));
        all.push(Operation::new("concurrent: change of the group's type", move || {
            let group = machine.device(&device).and_then(|d| machine.device_info(&d).group);
            if let Some(group) = group {
                let _ = tree.write(&format!("/sys/kernel/iommu_groups/{group}/type"), "DMA-FQ");
            }
        }));
    }
    all
}
