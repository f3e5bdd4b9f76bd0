//! Recovery after a lifecycle: faults are removed, and the next lifecycle must be like the first.

use bindery::promise::Promise;

use super::peer;
use super::play::Play;
use crate::engine::{Violation, Visit};

const OWNER: &str = "vfio-platform";

impl Play<'_> {
    /// Ends a lifecycle. When the fixture is in its initial state, nothing more is to be checked. Otherwise faults are disabled
    /// from here on, what was broken or removed is restored, the device is bound, used and unbound once more, and then the
    /// fixture must be in its initial state (P4).
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
        self.restore();
        if let Visit::Seen = visit {
            self.unbind_only_device();
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
        machine.set_autoprobe(true);
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
        let machine = self.scene.machine();
        machine.settle();
        for _ in 0..3 {
            for device in machine.devices().iter().filter(|d| d.driver().is_none()) {
                let _ = machine.probe(device.name());
            }
            machine.settle();
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
