//! Set-up and tear-down of a binding as data, and the changes by which one kernel's differs from another's.

use std::ops::Deref;

use super::step::{SetUp, TearDown};

/// The moment at which the DMA back-end of a device is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpsSet {
    /// Set at each binding, and reset at its end (until 6.9).
    AtBinding,
    /// Set when the device joins its IOMMU group, and kept (since 6.10).
    AtJoining,
}

/// The condition under which a group may be claimed for a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// No member has a driver (`vfio_group_viable`, until 5.18).
    NoDriver,
    /// No member is counted as a user (`iommu_group_claim_dma_owner`, since 5.19).
    NoUser,
}

/// The architecture whose part of the steps is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arch {
    /// The back-end is a pointer in the device.
    Arm64,
    /// The back-end is an own mapping of the device: a domain and its IOVA bitmaps.
    Arm32,
    /// One mapping for all masters, made by the IOMMU driver (IPMMU on R-Car Gen2).
    Arm32Shared,
}

/// Tear-down steps in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order(pub(super) Vec<TearDown>);

impl Order {
    /// The steps that undo `up`, newest first.
    pub(super) fn undoing(up: &[SetUp]) -> Self {
        Self(up.iter().rev().filter_map(|step| step.undone_by()).collect())
    }

    /// `step` right before `other`, wherever it was.
    pub(super) fn before(self, step: TearDown, other: TearDown) -> Self {
        self.moved(step, other, 0)
    }

    /// `step` right after `other`, wherever it was.
    pub(super) fn after(self, step: TearDown, other: TearDown) -> Self {
        self.moved(step, other, 1)
    }

    fn moved(self, step: TearDown, other: TearDown, distance: usize) -> Self {
        let Self(mut steps) = self.without(step);
        let at =
            steps.iter().position(|&known| known == other).expect("the order has the step that another is moved to");
        steps.insert(at + distance, step);
        Self(steps)
    }

    pub(super) fn without(mut self, step: TearDown) -> Self {
        self.0.retain(|&known| known != step);
        self
    }
}

impl Deref for Order {
    type Target = [TearDown];

    fn deref(&self) -> &[TearDown] {
        &self.0
    }
}

/// One model: set-up, tear-down, and what the rest of the kernel does around them.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of a release, on or off by itself")]
pub struct Procedure {
    /// Set-up.
    pub up: Vec<SetUp>,
    /// Tear-down of a bound device.
    pub unbind: Order,
    /// Tear-down after a set-up step that fails: as with `goto`, each of them enters at a label.
    pub failure: Order,
    /// The labels: the first step that runs when one of these fails. One that is not listed undoes nothing.
    pub labels: Vec<(TearDown, Vec<SetUp>)>,
    /// Tear-down that `CONFIG_DEBUG_TEST_DRIVER_REMOVE` runs after the first probe, before it goes up again from `SetDriver`.
    pub test_remove: Order,
    /// `DRIVER_NOT_BOUND` is only sent after `BIND_DRIVER`.
    pub not_bound_after_bind: bool,
    /// The lack of an IOMMU driver is taken for the lack of an IOMMU (before e8e683ae9a73).
    pub swallows_deferral: bool,
    /// The IOMMU is a supplier like any other, with a link before its driver is there. Linux learns of it when DMA is
    /// configured.
    pub iommu_is_supplier: bool,
    /// A group's `type` file can be written.
    pub type_file: bool,
    /// Managed resources that were left behind stop a probe (later releases). Otherwise they are only warned of.
    pub refuses_leftovers: bool,
    /// `unbind` compares the driver under the device lock.
    pub compares_locked: bool,
    /// The driver's managed resources reach its data when they are released (libata's host).
    pub data_outlives: bool,
    /// The moment at which the DMA back-end is set.
    pub ops_set: OpsSet,
    /// The condition under which a group may be claimed for a guest.
    pub claim: Claim,
    /// The architecture.
    pub arch: Arch,
}

impl Procedure {
    /// Tear-down after `step` failed.
    pub fn exit(&self, step: SetUp) -> impl Iterator<Item = TearDown> + use<'_> {
        let label = self.labels.iter().find(|(_, steps)| steps.contains(&step)).map(|(label, _)| *label);
        let place = |step| self.up.iter().position(|&up| up == step);
        let announced = !self.not_bound_after_bind || place(SetUp::NotifyBind) < place(step);
        let exit = self.failure.iter().copied().skip_while(move |&down| Some(down) != label);
        exit.filter(move |&down| announced || down != TearDown::NotifyNotBound)
    }

    /// This one without `step`, and without its undoing.
    pub(super) fn without(mut self, step: SetUp) -> Self {
        self.up.retain(|&up| up != step);
        if let Some(undone_by) = step.undone_by() {
            for order in [&mut self.unbind, &mut self.failure, &mut self.test_remove] {
                order.0.retain(|&down| down != undone_by);
            }
        }
        self
    }

    /// Steps of `down` that take away what something newer depends on (links, power, group, translation), with the step that
    /// undoes the newer one and comes too late.
    pub fn inversions(&self, down: &[TearDown]) -> Vec<(TearDown, TearDown)> {
        let place = |up: SetUp| down.iter().position(|&step| Some(step) == up.undone_by());
        let undone: Vec<(SetUp, usize)> = self.up.iter().filter_map(|&up| Some((up, place(up)?))).collect();
        let pairs =
            undone.iter().enumerate().flat_map(|(i, older)| undone[i + 1..].iter().map(move |newer| (older, newer)));
        let wrong = pairs
            .filter(|((older, at), (newer, later))| older.is_depended_on() && newer.depends_on_earlier() && at < later);
        wrong.map(|((_, older), (_, newer))| (down[*older], down[*newer])).collect()
    }
}
