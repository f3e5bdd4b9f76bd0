//! The state of a lifecycle: one disk controller behind an IOMMU, and everything that it can hold.

use std::collections::BTreeSet;

use super::breach::{Breach, Phase};
use super::memory::Memory;
use super::options::DriverVariant;
use super::procedure::Procedure;
use super::set_up::Outcome;
use super::step::SetUp;
use super::translation::{Ops, Translation};
use crate::engine::{Chooser, Violation, Visit, fingerprint};

/// The driver of the disk controller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Driver {
    #[default]
    None,
    SataRcar,
    VfioPlatform,
}

/// The driver of the IOMMU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Iommu {
    /// Not there yet.
    #[default]
    Later,
    There,
    /// Unbound.
    Gone,
}

/// The managed link from the disk controller to its IOMMU, in Linux's states.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Link {
    /// Not made yet.
    #[default]
    None,
    Dormant,
    Available,
    ConsumerProbe,
    Active,
}

/// A managed resource.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Managed {
    /// Left behind by an earlier driver.
    Leftover,
    Pins,
    Private,
    /// libata's host; its release looks the driver's data up.
    Host,
    Registers,
    /// An action that writes registers.
    RegisterWrite,
    /// The descriptor (PRD) table, with the back-end that allocated it and its DMA address.
    Prd {
        by: Ops,
        at: u64,
    },
    Interrupt,
}

/// The last notification on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Notified {
    #[default]
    Nothing,
    Bind,
    Bound,
    Unbind,
}

/// The position in a lifecycle.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Position {
    pub(super) phase: Phase,
    pub(super) attempt: u8,
    pub(super) step: u8,
    /// The set-up step that failed, and how: it decides the exit, and whether another attempt follows.
    pub(super) failed: Option<(SetUp, Outcome)>,
}

/// The state of the modelled kernel: all that decides the rest of a path.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of the modelled kernel, on or off by itself")]
pub(super) struct State {
    pub(super) position: Position,
    pub(super) driver: Driver,
    pub(super) data: bool,
    /// The device does DMA.
    pub(super) running: bool,
    pub(super) devres: Vec<Managed>,
    /// Files and power that are there, by the steps that made them.
    pub(super) done: BTreeSet<SetUp>,
    pub(super) translation: Translation,
    pub(super) memory: Memory,
    pub(super) iommu: Iommu,
    pub(super) link: Link,
    pub(super) notified: Notified,
    pub(super) variant: Option<DriverVariant>,
    /// `CONFIG_DEBUG_TEST_DRIVER_REMOVE` has run.
    pub(super) test_removed: bool,
    /// The IOMMU's unbind waits for the disk controller.
    pub(super) supplier_waits: bool,
    /// A second writer to `unbind` looked at the driver and waits for the lock.
    pub(super) writer_waits: bool,
}

/// The reason for which a lifecycle ends early.
pub(super) enum Stop {
    Violation(Violation),
    /// The state was explored before.
    Seen,
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

/// A lifecycle in progress.
pub(super) struct Kernel<'a> {
    pub(super) model: &'a Procedure,
    pub(super) chooser: &'a Chooser,
    pub(super) now: State,
    pub(super) test_remove: bool,
}

impl<'a> Kernel<'a> {
    pub(super) fn new(model: &'a Procedure, chooser: &'a Chooser, test_remove: bool) -> Self {
        let link = if model.iommu_is_supplier { Link::Dormant } else { Link::None };
        let now = State { translation: Translation::new(model.arch), link, ..State::default() };
        Self { model, chooser, now, test_remove }
    }

    pub(super) fn log<S: Into<String>>(&self, line: impl FnOnce() -> S) {
        self.chooser.log(line);
    }

    /// Checks a promise after whose breach the kernel goes on.
    pub(super) fn check(&self, holds: bool, breach: Breach, detail: impl FnOnce() -> String) {
        if let Err(violation) = self.require(holds, breach, detail) {
            self.chooser.report(violation);
        }
    }

    /// Checks a promise after whose breach the kernel does not go on.
    pub(super) fn require(
        &self,
        holds: bool,
        breach: Breach,
        detail: impl FnOnce() -> String,
    ) -> Result<(), Violation> {
        // The kind is only written down when it is needed.
        let checked = self.chooser.check(breach.promise, holds, "", detail);
        checked.map_err(|violation| breach.violation(self.now.position.phase, violation.detail))
    }

    /// Enters the state between two steps.
    pub(super) fn visit(&self) -> Result<(), Stop> {
        match self.chooser.scheduling_point(fingerprint(&self.now)) {
            Visit::New => Ok(()),
            Visit::Seen => Err(Stop::Seen),
        }
    }
}
