//! The steps that lifecycles are made of.

use std::sync::Arc;

use bindery::control::{ControlError, Tree};
use bindery::device::BusKind;
use bindery::driver::Errno;
use bindery::instrument::{CoveragePoint, Instrument};
use bindery::machine::Machine;
use bindery::promise::Promise;
use bindery_drivers::edu::Edu;
use bindery_drivers::sata_rcar::SataRcar;

use super::{Idle, Names, state_of};
use crate::boards::{BoardSpec, Defect};
use crate::engine::{Violation, Visit};
use crate::scene::Scene;

/// One lifecycle that is being executed.
pub(crate) struct Play<'a> {
    pub(crate) names: &'a Names,
    pub(crate) board: &'a BoardSpec,
    pub(crate) scene: &'a Scene,
    /// The name of the variant.
    pub(crate) variant: &'static str,
    pub(super) user: Option<&'a User>,
    pub(super) idle: Idle,
}

/// A user of the device.
pub(super) type User = dyn Fn(&Arc<Machine>) -> Result<(), String> + Send + Sync;

/// Coverage point: the device's user has got what it wanted.
pub(super) const USED: &str = "the device's user is served";

/// Unbinds `device` from `driver` through the control tree. A driver that does not let users do that
/// ([`SUPPRESS_BIND_ATTRS`](bindery::driver::Driver::SUPPRESS_BIND_ATTRS)) is unbound by the machine itself.
pub(super) fn unbind(
    tree: &Tree,
    machine: &Arc<Machine>,
    bus: BusKind,
    driver: &str,
    device: &str,
) -> Result<usize, ControlError> {
    let dir = format!("/sys/bus/{}/drivers/{driver}", bus.name());
    let written = tree.write(&format!("{dir}/unbind"), device);
    let no_file = written.as_ref().is_err_and(|e| e.errno == Errno::ENOENT);
    if no_file && tree.list(&dir).is_ok() {
        let _ = machine.unbind(device, driver);
        return Ok(device.len());
    }
    written
}

impl Play<'_> {
    /// Path of `rest` in the directory of the device's bus.
    pub(crate) fn on_bus(&self, rest: &str) -> String {
        format!("/sys/bus/{}/{rest}", self.names.bus().name())
    }

    /// Writes to the control tree, and counts the error number that comes back.
    pub(crate) fn write(&self, path: &str, value: &str) -> Result<usize, ControlError> {
        let result = self.scene.tree().write(path, value);
        self.note(&result);
        result
    }

    pub(crate) fn note<T>(&self, result: &Result<T, ControlError>) {
        if let Err(error) = result {
            self.scene.fixture.env.cover(CoveragePoint::Refused(error.errno));
            self.scene.chooser().log(|| error.to_string());
        }
    }

    /// The driver that holds the device now.
    pub(crate) fn holder(&self) -> Option<&'static str> {
        self.scene.machine().device(&self.names.device)?.driver()
    }

    /// Ends a step: checks the promises, and looks the state up.
    pub(crate) fn step(&self, what: &'static str) -> Result<Visit, Violation> {
        self.scene.step(what)?;
        let state = state_of(self.variant, what, self.scene.digest());
        Ok(self.scene.chooser().scheduling_point(state))
    }

    /// Binds the device through the control tree.
    pub(crate) fn bind(&self) -> Result<Visit, Violation> {
        let _ = self.write(&self.on_bus("drivers_probe"), &self.names.device);
        self.expect("bind", self.holder() == Some(self.names.driver))?;
        self.step("bind")
    }

    /// Unbinds it through the control tree.
    pub(crate) fn unbind(&self) -> Result<Visit, Violation> {
        self.unbind_from(self.names.driver, &self.names.device);
        self.expect("unbind", self.holder().is_none())?;
        self.step("unbind")
    }

    /// Unbinds `device` from `driver`, and counts the error number that comes back.
    pub(crate) fn unbind_from(&self, driver: &str, device: &str) {
        let own = device == self.names.device;
        // All others are described by firmware.
        let bus = if own { self.names.bus() } else { BusKind::Platform };
        self.note(&unbind(self.scene.tree(), self.scene.machine(), bus, driver, device));
    }

    /// Checks a result that is certain on a path without faults and preemptions.
    pub(crate) fn expect(&self, what: &'static str, holds: bool) -> Result<(), Violation> {
        if holds || self.scene.chooser().is_disturbed() {
            return Ok(());
        }
        Err(Violation::seen_by("scenario", what, format!("{what} did not do what it does when nothing goes wrong")))
    }

    /// The effect of the whole lifecycle, which counts as covered by it: it [must hold](Self::expect) where nothing goes wrong.
    pub(crate) fn effect(&self, what: &'static str, holds: bool) -> Result<(), Violation> {
        self.expect(what, holds)?;
        if holds {
            self.scene.chooser().cover(self.variant);
        }
        Ok(())
    }

    /// Writes what is not accepted.
    pub(crate) fn refused(&self, path: &str, value: &str) -> Result<(), Violation> {
        let is_refused = self.write(path, value).is_err();
        if !is_refused {
            self.scene.chooser().log(|| format!("{value:?} was written to {path}"));
        }
        self.expect("an invalid request", is_refused)
    }

    /// Does I/O, if the device is a disk controller or `edu`, and its driver is bound.
    pub(crate) fn use_it(&self) -> Result<Visit, Violation> {
        if let Some(port) = self.scene.machine().client::<SataRcar>(&self.names.device) {
            let held = self.scene.board().with_disk(|disk| {
                let mut sector = [0; 512];
                disk.read(5 * 512, &mut sector).map(|()| sector)
            });
            let mut sector = [0; 512];
            let read = port.call(|p| p.read(5, &mut sector));
            let read = matches!(read, Ok(Ok(())));
            self.expect("read", read)?;
            let true_data = held.and_then(Result::ok).is_none_or(|held| held == sector);
            self.scene.chooser().check(Promise::CoherentAtTransfer, !read || true_data, "wrong data", || {
                "a read that succeeded did not give what the disk holds".into()
            })?;
            let wrote = matches!(port.call(|p| p.write(6, &[0x5a; 512])), Ok(Ok(())));
            self.expect("write", wrote)?;
        }
        if let Some(edu) = self.scene.machine().client::<Edu>(&self.names.device) {
            let mut back = [0; 16];
            let wrote = matches!(edu.call(|port| port.write(40, &[0x5a; 16])), Ok(Ok(())));
            self.expect("write", wrote)?;
            let read = matches!(edu.call(|port| port.read(40, &mut back)), Ok(Ok(())));
            self.expect("read", read)?;
            let true_data = !(wrote && read) || back == [0x5a; 16];
            self.scene.chooser().check(Promise::CoherentAtTransfer, true_data, "wrong data", || {
                "a read that succeeded did not give what was written".into()
            })?;
        }
        if let Some(user) = self.user.filter(|_| self.holder() == Some(self.names.driver)) {
            let (chooser, result) = (self.scene.chooser(), user(self.scene.machine()));
            match result {
                Ok(()) => {
                    chooser.log(|| "its user is served");
                    chooser.cover(USED);
                }
                Err(why) if chooser.is_disturbed() => chooser.log(|| format!("its user is not served: {why}")),
                Err(why) => return Err(Violation::seen_by("scenario", "use", why)),
            }
        }
        self.step("use")
    }

    /// Chooses hardware faults, and uses the device with them.
    pub(crate) fn hardware(&self) -> Result<Visit, Violation> {
        let mut broken = false;
        for defect in self.board.defects() {
            let Defect { name, is_refused, set } = *defect;
            if self.scene.chooser().fault(name) {
                set(self.scene.board(), true);
                broken = true;
                if is_refused {
                    self.scene.hooks.expect_refusals();
                }
            }
        }
        if broken { self.use_it() } else { Ok(Visit::New) }
    }
}
