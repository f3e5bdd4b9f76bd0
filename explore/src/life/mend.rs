//! After a life: what was broken is mended, and the next life must be like the first.

use bindery::promise::Promise;

use super::bystander;
use super::play::{Play, Then};
use crate::boards::BoardSpec;
use crate::engine::Violation;

const OWNER: &str = "vfio-platform";

impl Play<'_> {
    /// Ends a life. When the world is as it was, nothing more is to be seen. Else nothing fails from here on: what was
    /// broken or taken away comes back, the device is bound, used and unbound once more, and then the world must be as
    /// it was in the beginning (P4).
    pub(crate) fn mend(&self, then: Then) -> Result<(), Violation> {
        let scene = self.scene;
        if scene.world.is_as_before() {
            return Ok(());
        }
        scene.calm(true);
        // Perhaps the hardware was not through yet.
        scene.world.come_to_rest();
        scene.look("rest")?;
        if scene.world.is_as_before() {
            return Ok(());
        }
        self.restore();
        if let Then::Known = then {
            self.clear();
            return Ok(());
        }
        self.probe_all();
        let kept = scene.machine().kept_supplies().iter().any(|kept| kept.device == bystander::NAME);
        if kept || scene.machine().quarantine().iter().any(|held| &*held.device == bystander::NAME) {
            // What is kept of a device goes back when it is next bound and shown to be quiet.
            self.neighbour_binds();
            self.neighbour_unbinds();
        }
        scene.look("mended")?;
        let promise = |holds, promise, kind: &str, detail: &str| {
            scene.chooser().check(promise, holds, kind, || format!("{}: {detail}", self.names.device))
        };
        let bound = self.holder() == Some(self.names.driver);
        promise(bound, Promise::NothingLeft, "not bound again", "cannot be bound again although nothing is broken")?;
        self.use_it()?;
        self.clear();
        scene.look("unbound")?;
        scene.world.come_to_rest();
        let same = scene.world.is_as_before();
        scene.chooser().check(Promise::NothingLeft, same, "the world is another one", || {
            format!("after the way back and another life the world is not what it was: {}", scene.world.difference())
        })
    }

    /// Everything that was broken, removed or overridden.
    fn restore(&self) {
        let (machine, names) = (self.scene.machine(), self.names);
        for defect in BoardSpec::defects() {
            (defect.set)(self.scene.board(), false);
        }
        self.neighbour_unbinds();
        let _ = machine.unbind(&names.device, OWNER);
        if let Some(device) = machine.device(&names.device) {
            device.set_driver_override(None);
        }
        let _ = self.scene.board().plug(&names.device);
        self.board.register(machine);
        machine.set_autoprobe(true);
        if machine.device(&names.device).is_none() {
            match &names.parent {
                // Who has added it once does so again.
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

    pub(crate) fn neighbour_binds(&self) -> bool {
        bystander::binds(self.scene.machine())
    }

    pub(crate) fn neighbour_unbinds(&self) {
        let _ = self.scene.machine().unbind(bystander::NAME, bystander::NAME);
        if let Some(device) = self.scene.machine().device(bystander::NAME) {
            device.set_driver_override(None);
        }
    }
}
