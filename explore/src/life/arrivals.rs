//! Who may come in between.

use std::sync::Arc;

use bindery::control::Tree;

use super::Names;
use super::bystander;
use super::play::unbind;
use crate::scene::Arrival;
use crate::scene::world::World;

const OWNER: &str = "vfio-platform";

/// Everybody who may come in while the device of `names` lives. Whether what they want is possible at that moment is for
/// the core to say; an error is as good an answer as any.
pub(super) fn of(world: &World, names: &Names) -> Vec<Arrival> {
    let machine = Arc::clone(&world.machine);
    let tree = Tree::new(&machine);
    let device = names.device.clone();
    let driver = names.driver;
    let mut all = Vec::new();
    {
        let (tree, machine, device) = (tree.clone(), Arc::clone(&machine), device.clone());
        all.push(Arrival::new("arrival: unbind", move || {
            let _ = unbind(&tree, &machine, driver, &device);
        }));
    }
    {
        let (machine, device) = (Arc::clone(&machine), device.clone());
        all.push(Arrival::new("arrival: second binder", move || {
            let _ = machine.bind(&device, driver);
        }));
    }
    {
        let (machine, device) = (Arc::clone(&machine), device.clone());
        all.push(Arrival::new("arrival: device removal", move || {
            machine.remove_device(&device);
        }));
    }
    {
        let (machine, device, board) = (Arc::clone(&machine), device.clone(), Arc::clone(&world.board));
        all.push(Arrival::new("arrival: device vanishes", move || {
            let _ = board.unplug(&device);
            machine.device_vanished(&device);
        }));
    }
    {
        let machine = Arc::clone(&machine);
        all.push(Arrival::new("arrival: driver removal", move || {
            machine.unregister(driver);
        }));
    }
    for (supplier, of) in names.suppliers.clone() {
        let (tree, machine) = (tree.clone(), Arc::clone(&machine));
        all.push(Arrival::new("arrival: supplier unbind", move || {
            let _ = unbind(&tree, &machine, of, &supplier);
        }));
    }
    {
        let (tree, machine, device) = (tree.clone(), Arc::clone(&machine), device.clone());
        all.push(Arrival::new("arrival: hand-over claim", move || {
            let path = format!("/sys/bus/platform/devices/{device}/driver_override");
            let _ = tree.write(&path, OWNER);
            let _ = unbind(&tree, &machine, driver, &device);
            let _ = tree.write(&format!("/sys/bus/platform/drivers/{OWNER}/bind"), &device);
        }));
    }
    // Without translation its memory would depend on who was there before.
    if names.beside.is_some() {
        let machine = Arc::clone(&machine);
        all.push(Arrival::new("arrival: a neighbour", move || {
            if let Some(device) = machine.device(bystander::NAME) {
                device.set_driver_override(Some(bystander::NAME));
                let _ = machine.bind(bystander::NAME, bystander::NAME);
            }
        }));
    }
    {
        let (tree, machine) = (tree.clone(), Arc::clone(&machine));
        all.push(Arrival::new("arrival: change of the group's type", move || {
            let group = machine.device(&device).and_then(|d| machine.device_info(&d).group);
            if let Some(group) = group {
                let _ = tree.write(&format!("/sys/kernel/iommu_groups/{group}/type"), "DMA-FQ");
            }
        }));
    }
    all
}
