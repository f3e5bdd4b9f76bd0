//! Recovery after a lifecycle: faults are removed, and the next lifecycle must be like the first.

use bindery::promise::Promise;

use super::peer;
use super::play::{Play, Then};
use crate::boards::BoardSpec;
use crate::engine::Violation;

const OWNER: &str = "vfio-platform";

impl Play<'_> {
    /// Ends a lifecycle. When the fixture is in its initial state, nothing more is to be checked. Else faults are disabled
    /// from here on: what was broken or removed comes back, the device is bound, used and unbound once more, and then the
    /// fixture must be in its initial state (P4).
    pub(crate) fn recover(&self, then: Then) -> Result<(), Violation> {
        let scene = self.scene;
        if scene.fixture.is_at_baseline() {
            return Ok(());
        }
        scene.disable_faults(true);
        // Perhaps the hardware was not through yet.
        scene.fixture.drain_hardware();
        scene.check("rest")?;
        if scene.fixture.is_at_baseline() {
            return Ok(());
        }
        self.restore();
        if let Then::Known = then {
            self.clear();
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
        self.clear();
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

    /// Everything that was broken, removed or overridden.
    fn restore(&self) {
        let (machine, names) = (self.scene.machine(), self.names);
        for defect in BoardSpec::defects() {
            (defect.set)(self.scene.board(), false);
        }
        self.peer_unbinds();
        let _ = machine.unbind(&names.device, OWNER);
        if let Some(device) = machine.device(&names.device) {
            device.set_driver_override(None);
        }
        let _ = self.scene.board().plug(&names.device);
        self.board.register(machine);
        machine.set_autoprobe(true);
        if machine.device(&names.device).is_none() {
            match &names.parent {
                // The driver that added it once does so again.
                Some((parent, driver)) => self.unbind_from(driver, parent),
                None => drop(machine.add_device(names.desc.clone())),
            }
        }
        for group in machine.groups() {
            let _ = group.set_kind(bindery::iommu::DomainKind::Strict);
        }
    }

    /// Probes whatever is not bound, suppliers first.
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

    /// The device is unbound, everything else bound.
    fn clear(&self) {
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
