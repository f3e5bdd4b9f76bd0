//! Concurrent operations.

use std::sync::Arc;

use bindery::binding::Phase;
use bindery::bus::Departure;
use bindery::control::Tree;
use bindery::device::{BusKind, Device};
use bindery::iommu::DomainKind;
use bindery::machine::Machine;
use bindery_sim::board::Board;

use super::Names;
use super::peer;
use super::play::unbind;
use crate::engine::Violation;
use crate::scene::Operation;
use crate::scene::fixture::Fixture;

const OWNER: &str = "vfio-platform";

/// Returns true when the operation was `done`. Its effect must hold then, or have been undone by others, who may have run
/// while the operation waited for a lock at its end.
fn done(name: &'static str, done: bool, holds: impl FnOnce() -> bool) -> Result<bool, Violation> {
    if done && !holds() {
        return Err(Violation::seen_by("scenario", format!("no effect: {name}"), format!("{name} had no effect")));
    }
    Ok(done)
}

/// A device at the start of an operation.
struct Before {
    device: Option<Arc<Device>>,
    binding: u64,
}

impl Before {
    fn of(machine: &Machine, name: &str) -> Self {
        let device = machine.device(name);
        let binding = device.as_ref().map_or(0, |d| d.latest_binding());
        Self { device, binding }
    }

    /// True when the device, or another one of its name, was bound since.
    fn was_bound(&self, machine: &Machine, name: &str) -> bool {
        let now = machine.device(name);
        self.device.iter().chain(&now).any(|d| d.latest_binding() > self.binding)
    }

    /// True when the device has left its bus.
    fn was_removed(&self, machine: &Machine, name: &str) -> bool {
        machine.device(name).is_none_or(|now| self.device.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &now)))
    }
}

/// The driver that holds `device`.
fn holder(machine: &Machine, device: &str) -> Option<&'static str> {
    machine.device(device)?.driver()
}

/// All operations that may run concurrently with the lifecycle of `names`. Whether one is possible at that moment is for
/// the core to decide; an error is as good a result as any, but a success has its effect.
#[expect(clippy::too_many_lines, reason = "a few lines for each operation")]
pub(super) fn of(fixture: &Fixture, names: &Names) -> Vec<Operation> {
    type Act = Box<dyn Fn(&Arc<Machine>, &Tree, &Board) -> Result<bool, Violation> + Send + Sync>;
    let (driver, device, bus) = (names.driver, names.device.clone(), names.bus());
    let mut all: Vec<(&'static str, Act)> = Vec::new();
    let mut add = |name, act: Act| all.push((name, act));
    let own = || device.clone();
    let name = own();
    add(
        "concurrent: unbind",
        Box::new(move |machine, tree, _| {
            let before = Before::of(machine, &name);
            let unbound = unbind(tree, machine, bus, driver, &name).is_ok();
            done("unbind", unbound, || holder(machine, &name) != Some(driver) || before.was_bound(machine, &name))
        }),
    );
    let name = own();
    add(
        "concurrent: second binder",
        Box::new(move |machine, _, _| {
            let before = Before::of(machine, &name);
            let bound = machine.bind(&name, driver).is_ok();
            done("second binder", bound, || before.was_bound(machine, &name))
        }),
    );
    let name = own();
    add(
        "concurrent: device removal",
        Box::new(move |machine, _, _| {
            let before = Before::of(machine, &name);
            let removed = machine.remove_device(&name);
            done("device removal", removed, || before.was_removed(machine, &name))
        }),
    );
    let (name, part) = (own(), names.part.clone());
    add(
        "concurrent: device vanishes",
        Box::new(move |machine, _, board| {
            let before = Before::of(machine, &name);
            let _ = board.unplug(&part);
            let vanished = machine.device_vanished(&name);
            done("device vanishes", vanished, || before.was_removed(machine, &name))
        }),
    );
    if names.desc.bus == BusKind::Pci {
        let (name, part) = (own(), names.part.clone());
        add(
            "concurrent: link down",
            Box::new(move |machine, _, board| {
                let before = Before::of(machine, &name);
                let _ = board.unplug(&part);
                let gone = machine.device_departs(&name, Departure::LinkDown);
                done("link down", gone, || before.was_removed(machine, &name))
            }),
        );
    }
    add(
        "concurrent: driver removal",
        Box::new(move |machine, _, _| {
            let removed = machine.unregister(driver);
            done("driver removal", removed, || {
                machine.held_by(driver).is_empty() && !machine.drivers().contains(&driver)
            })
        }),
    );
    for (supplier, of) in names.suppliers.clone() {
        let name = own();
        add(
            "concurrent: supplier unbind",
            Box::new(move |machine, tree, _| {
                let before = Before::of(machine, &supplier);
                let unbound = unbind(tree, machine, BusKind::Platform, of, &supplier).is_ok();
                done("supplier unbind", unbound, || {
                    if before.was_bound(machine, &supplier) {
                        return true;
                    }
                    // A probe that has begun meanwhile fails or defers at its end.
                    let bound = machine.device(&name).is_some_and(|device| device.phase() == Phase::Bound);
                    holder(machine, &supplier) != Some(of) && !bound
                })
            }),
        );
    }
    let name = own();
    add(
        "concurrent: hand-over claim",
        Box::new(move |machine, tree, _| {
            let path = format!("/sys/bus/{}/devices/{name}/driver_override", bus.name());
            let _ = tree.write(&path, OWNER);
            let _ = unbind(tree, machine, bus, driver, &name);
            let before = Before::of(machine, &name);
            let bound = tree.write(&format!("/sys/bus/{}/drivers/{OWNER}/bind", bus.name()), &name).is_ok();
            done("hand-over claim", bound, || before.was_bound(machine, &name))
        }),
    );
    // Without translation its memory would depend on what was allocated before.
    if names.peer_iommu.is_some() {
        add(
            "concurrent: group peer binds",
            Box::new(move |machine, _, _| {
                let Some(device) = machine.device(peer::NAME) else { return Ok(false) };
                device.set_driver_override(Some(peer::NAME));
                let before = Before::of(machine, peer::NAME);
                let bound = machine.bind(peer::NAME, peer::NAME).is_ok();
                done("group peer binds", bound, || before.was_bound(machine, peer::NAME))
            }),
        );
    }
    let name = own();
    add(
        "concurrent: change of the group's type",
        Box::new(move |machine, tree, _| {
            let number = machine.device(&name).and_then(|d| machine.device_info(&d).group);
            let Some(number) = number else { return Ok(false) };
            let written = tree.write(&format!("/sys/kernel/iommu_groups/{number}/type"), "DMA-FQ").is_ok();
            done("change of the group's type", written, || {
                let group = machine.groups().into_iter().find(|group| group.id() == number);
                group.is_none_or(|group| group.info().kind == DomainKind::Lazy)
            })
        }),
    );
    let (machine, board) = (Arc::clone(&fixture.machine), Arc::clone(&fixture.board));
    let tree = Tree::new(&machine);
    let operation = |(name, act): (&'static str, Act)| {
        let (machine, board, tree) = (Arc::clone(&machine), Arc::clone(&board), tree.clone());
        Operation::new(name, move || act(&machine, &tree, &board))
    };
    all.into_iter().map(operation).collect()
}
