//! Recovery after a lifecycle: faults are removed, and the next lifecycle must be like the first.

use std::sync::Arc;

use bindery::machine::Machine;
use bindery::promise::Promise;

use super::peer;
use super::play::Play;
use crate::engine::{Violation, Visit};

const OWNER: &str = "vfio-platform";
/// Rounds in which unbound devices are probed, for suppliers of suppliers.
const ROUNDS: usize = 3;
/// No driver's name.
const NOBODY: &str = "nobody";

/// Probes every unbound device once.
fn probe_round(machine: &Arc<Machine>) {
    for device in machine.devices().iter().filter(|d| d.driver().is_none()) {
        let _ = machine.probe(device.name());
    }
    machine.settle();
}

/// Restores by `restore`, and probes every unbound device but the one called `device`, which nobody binds: not when it or its
/// driver is added again, and not when its suppliers are back.
pub(super) fn probe_others(machine: &Arc<Machine>, device: &str, restore: impl FnOnce()) {
    let admits = |driver| machine.device(device).map(|device| device.set_driver_override(driver));
    machine.set_autoprobe(false);
    restore();
    for _ in 0..ROUNDS {
        // Its parent's driver may have added it again.
        admits(Some(NOBODY));
        // If it waited for another try, that ends here.
        probe_round(machine);
    }
    admits(None);
    machine.set_autoprobe(true);
}

impl Play<'_> {
    /// Ends a lifecycle. Faults are disabled from here on, and what was broken or removed is put back, while the device stays
    /// unbound: then nothing may be left of the lifecycle but what the machine lists as kept (P4). Where something is, or nothing
    /// went wrong, the device is bound, used and unbound once more, and then nothing may be left at all.
    pub(crate) fn recover(&self, visit: Visit) -> Result<(), Violation> {
        let scene = self.scene;
        if scene.fixture.is_at_baseline() {
            return Ok(());
        }
        scene.disable_faults(true);
        // The hardware may have something under way.
        scene.fixture.drain_hardware();
        scene.check("drained")?;
        if scene.fixture.is_at_baseline() {
            return Ok(());
        }
        if let Visit::Seen = visit {
            self.restore();
            scene.machine().set_autoprobe(true);
            self.unbind_only_device();
            return Ok(());
        }
        self.put_back()?;
        // The next lifecycle is like the first. Where nothing went wrong, that is tried all the same.
        if scene.chooser().is_disturbed() && scene.fixture.is_at_baseline() {
            return Ok(());
        }
        self.probe_all();
        let kept = scene.machine().pinned_supplies().iter().any(|kept| kept.device == peer::NAME);
        if kept || scene.machine().quarantine().iter().any(|held| &*held.device == peer::NAME) {
            // What is kept of a device goes back when it is next bound and shown to be quiesced.
            self.peer_binds();
            self.peer_unbinds();
        }
        scene.check("recovered")?;
        let promise = |holds, promise, kind: &str, detail: &str| {
            scene.chooser().check(promise, holds, kind, || format!("{}: {detail}", self.names.device))
        };
        let bound = self.holder() == Some(self.names.driver);
        promise(bound, Promise::NothingLeft, "not bound again", "cannot be bound again although nothing is broken")?;
        self.use_it()?;
        self.unbind_only_device();
        scene.check("unbound")?;
        scene.fixture.drain_hardware();
        let same = scene.fixture.is_at_baseline();
        scene.chooser().check(Promise::NothingLeft, same, "state differs after recovery", || {
            format!(
                "after tear-down and another lifecycle the state is not the initial one: {}",
                scene.fixture.difference()
            )
        })
    }

    /// Puts everything back but the device's binding, and compares with the initial state before the next one cleans up.
    fn put_back(&self) -> Result<(), Violation> {
        let (scene, machine) = (self.scene, self.scene.machine());
        // Hardware that was pulled out, or whose bus is enumerated again, comes back as after power-up.
        let pulled = scene.board().is_plugged(&self.names.part) == Some(false) || self.names.parent.is_some();
        probe_others(machine, &self.names.device, || {
            self.restore();
            // Another user may have bound it.
            let _ = machine.unbind(&self.names.device, self.names.driver);
        });
        scene.check("put back")?;
        scene.fixture.drain_hardware();
        let kept = !machine.quarantine().is_empty() || !machine.pinned_supplies().is_empty();
        let same = kept
            || scene.fixture.is_at_baseline()
            || scene.fixture.held() == self.idle.all
            || pulled && scene.fixture.held_by_machine() == self.idle.machine;
        scene.chooser().check(Promise::NothingLeft, same, "state differs after tear-down", || {
            format!("after tear-down something is left: {}", scene.fixture.difference())
        })
    }

    /// Restores everything that was broken, removed or overridden.
    fn restore(&self) {
        let (machine, names) = (self.scene.machine(), self.names);
        for defect in self.board.defects() {
            (defect.set)(self.scene.board(), false);
        }
        self.peer_unbinds();
        let _ = machine.unbind(&names.device, OWNER);
        if let Some(device) = machine.device(&names.device) {
            device.set_driver_override(None);
        }
        let _ = self.scene.board().plug(&names.part);
        self.board.register(machine);
        // What was pulled out has no addresses until its bus is enumerated again.
        if machine.device(&names.device).is_none() || !self.board.answers(self.scene.board(), &names.desc) {
            match &names.parent {
                // The parent's driver adds it again when it binds.
                Some((parent, driver)) => self.unbind_from(driver, parent),
                None => drop(machine.add_device(names.desc.clone())),
            }
        }
        for group in machine.groups() {
            let _ = group.set_kind(bindery::iommu::DomainKind::Strict);
        }
    }

    /// Probes every unbound device, suppliers first.
    pub(crate) fn probe_all(&self) {
        self.scene.machine().settle();
        for _ in 0..ROUNDS {
            probe_round(self.scene.machine());
        }
    }

    /// Unbinds the device, and binds everything else.
    fn unbind_only_device(&self) {
        self.probe_all();
        let _ = self.scene.machine().unbind(&self.names.device, self.names.driver);
    }

    pub(crate) fn peer_binds(&self) -> bool {
        peer::binds(self.scene.machine())
    }

    pub(crate) fn peer_unbinds(&self) {
        let _ = self.scene.machine().unbind(peer::NAME, peer::NAME);
        if let Some(device) = self.scene.machine().device(peer::NAME) {
            device.set_driver_override(None);
        }
    }
}
