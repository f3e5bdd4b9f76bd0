//! What the steps act on: one disk controller behind an IOMMU, and everything that it can hold.

use bindery::promise::Promise;

use super::breach::{Breach, Harm, Phase};
use super::memory::Memory;
use super::options::Habit;
use super::set_up::Went;
use super::step::SetUp;
use super::table::Procedure;
use super::translation::{Ops, Translation};
use crate::engine::{Chooser, Violation, Visit, fingerprint};

/// The driver of the disk controller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum DriverOf {
    Nobody,
    SataRcar,
    VfioPlatform,
}

/// The driver of the IOMMU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Iommu {
    /// Not there yet.
    Later,
    There,
    /// Unbound.
    Gone,
}

/// The managed link from the disk controller to its IOMMU, in Linux's states.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Link {
    /// Not made yet.
    None,
    Dormant,
    Available,
    ConsumerProbe,
    Active,
}

/// One managed resource.
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
    /// The descriptor table: which back-end gave it, and at which DMA address.
    Prd {
        by: Ops,
        at: u64,
    },
    Interrupt,
}

/// The last notification on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Notified {
    Nothing,
    Bind,
    Bound,
    Unbind,
}

/// The position in a lifecycle, part of a state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub(super) phase: Phase,
    pub(super) attempt: u8,
    pub(super) step: u8,
    /// Which set-up step failed, and how: it decides the exit, and whether another attempt follows.
    pub(super) failed: Option<(SetUp, Went)>,
}

/// All that decides what can still happen.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of the modelled kernel, on or off by itself")]
pub(super) struct State {
    pub(super) place: Place,
    pub(super) driver: DriverOf,
    pub(super) data: bool,
    /// The device does no DMA.
    pub(super) quiesced: bool,
    pub(super) devres: Vec<Managed>,
    pub(super) translation: Translation,
    pub(super) memory: Memory,
    pub(super) iommu: Iommu,
    pub(super) link: Link,
    pub(super) files: bool,
    pub(super) groups: bool,
    pub(super) power: bool,
    pub(super) activated: bool,
    pub(super) notified: Notified,
    pub(super) habit: Option<Habit>,
    /// `CONFIG_DEBUG_TEST_DRIVER_REMOVE` had its turn.
    pub(super) test_removed: bool,
    /// The IOMMU's unbind waits for the disk controller.
    pub(super) supplier_waits: bool,
    /// A second writer to `unbind` looked at the driver and waits for the lock.
    pub(super) writer_waits: bool,
}

/// Why a lifecycle ends early.
pub(super) enum Stop {
    Violation(Violation),
    /// The rest is known.
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
        let now = State {
            place: Place { phase: Phase::Idle, attempt: 0, step: 0, failed: None },
            driver: DriverOf::Nobody,
            data: false,
            quiesced: true,
            devres: Vec::new(),
            translation: Translation::new(model.arch),
            memory: Memory::default(),
            iommu: Iommu::Later,
            link: if model.iommu_is_supplier { Link::Dormant } else { Link::None },
            files: false,
            groups: false,
            power: false,
            activated: false,
            notified: Notified::Nothing,
            habit: None,
            test_removed: false,
            supplier_waits: false,
            writer_waits: false,
        };
        Self { model, chooser, now, test_remove }
    }

    /// The IOMMU's driver binds.
    pub(super) fn iommu_arrives(&mut self) {
        self.now.iommu = Iommu::There;
        self.now.link = Link::Available;
        self.tell(|| "the IOMMU's driver binds");
    }

    pub(super) fn tell<S: Into<String>>(&self, line: impl FnOnce() -> S) {
        self.chooser.log(line);
    }

    pub(super) fn phase(&self) -> Phase {
        self.now.place.phase
    }

    pub(super) fn breach(&self, promise: Promise, harm: Harm, what: &'static str, after: &'static str) -> Breach {
        Breach { promise, harm, phase: self.phase(), what, after }
    }

    /// Checks a promise after whose breach the kernel goes on.
    pub(super) fn check(&self, holds: bool, breach: Breach, detail: impl FnOnce() -> String) {
        if let Err(violation) = self.must(holds, breach, detail) {
            self.chooser.report(violation);
        }
    }

    /// Checks a promise after whose breach the kernel does not go on.
    pub(super) fn must(&self, holds: bool, breach: Breach, detail: impl FnOnce() -> String) -> Result<(), Violation> {
        // The kind is only written down when it is needed.
        self.chooser.check(breach.promise, holds, "", detail).map_err(|violation| breach.because(violation.detail))
    }

    /// A point between two steps: the state is looked up.
    pub(super) fn point(&self) -> Result<(), Stop> {
        match self.chooser.scheduling_point(fingerprint(&self.now)) {
            Visit::New => Ok(()),
            Visit::Seen => Err(Stop::Seen),
        }
    }
}
