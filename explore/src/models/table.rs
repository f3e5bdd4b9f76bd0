//! The table of models: what each release does, step by step.
//!
//! Sources: `drivers/base/dd.c` (`really_probe`, `__device_release_driver`, since 5.18 `device_unbind_cleanup`),
//! `drivers/base/platform.c`, `drivers/iommu/iommu.c` and `arch/arm/mm/dma-mapping.c` of the release named.

use super::step::{SetUp, TearDown};

/// When the DMA back-end of a device is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Chosen {
    /// At each binding, and reset at its end (until 6.9).
    AtBinding,
    /// When the device joins its IOMMU group, and kept (since 6.10).
    AtJoining,
}

/// When a group may be claimed for a guest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Claim {
    /// When no member has a driver (`vfio_group_viable`, until 5.18).
    NoDriver,
    /// When no member is counted as a user (`iommu_group_claim_dma_owner`, since 5.19).
    NoUser,
}

/// Which architecture's part of the steps is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    /// The back-end is a pointer in the device.
    Arm64,
    /// The back-end is an own mapping of the device: a domain and its IOVA bitmaps.
    Arm32,
    /// One mapping for all masters, made by the IOMMU driver (IPMMU on R-Car Gen2).
    Arm32Shared,
}

impl Arch {
    /// Whether mappings are arm32's.
    pub const fn is_arm32(self) -> bool {
        !matches!(self, Self::Arm64)
    }
}

/// One model: set-up, its failure exits, tear-down, and what the rest of the kernel does around it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of a release, on or off by itself")]
pub struct Procedure {
    /// Set-up.
    pub up: &'static [SetUp],
    /// What runs when a set-up step fails: the steps that share an exit, and the exit.
    pub exits: &'static [(&'static [SetUp], &'static [TearDown])],
    /// Tear-down of a bound device.
    pub unbind: &'static [TearDown],
    /// What `CONFIG_DEBUG_TEST_DRIVER_REMOVE` runs after the first probe, before it goes up again from `SetDriver`.
    pub test_remove: &'static [TearDown],
    /// Whether the lack of an IOMMU driver is taken for the lack of an IOMMU (before e8e683ae9a73).
    pub swallows_deferral: bool,
    /// Whether the IOMMU is a supplier like any other, with a link before its driver is there. Linux learns of it when DMA
    /// is configured.
    pub iommu_is_supplier: bool,
    /// Whether the group of a bound device cannot change: groups count their users (since 5.19).
    pub counts_users: bool,
    /// Whether a group's `type` file can be written.
    pub type_file: bool,
    /// Whether managed resources that were left behind stop a probe (later releases), or are only warned of.
    pub refuses_leftovers: bool,
    /// Whether `unbind` compares the driver under the device lock.
    pub compares_locked: bool,
    /// Whether the driver's managed resources reach its data when they are released (libata's host).
    pub data_outlives: bool,
    /// When the DMA back-end is chosen.
    pub chosen: Chosen,
    /// When a group may be claimed for a guest.
    pub claim: Claim,
    /// Which architecture's part of the steps is meant.
    pub arch: Arch,
}

impl Procedure {
    /// What runs when `step` fails.
    pub fn exit(&self, step: SetUp) -> &'static [TearDown] {
        self.exits.iter().find(|(steps, _)| steps.contains(&step)).map_or(&[], |(_, exit)| exit)
    }

    /// Steps of `back` that take away what something newer stands on (links, power, group, translation), with the step that
    /// undoes the newer one and comes too late.
    pub fn inversions(&self, back: &[TearDown]) -> Vec<(TearDown, TearDown)> {
        let place = |up: SetUp| back.iter().position(|&down| Some(down) == up.undone_by());
        let undone: Vec<(SetUp, usize)> = self.up.iter().filter_map(|&up| Some((up, place(up)?))).collect();
        let pairs =
            undone.iter().enumerate().flat_map(|(i, older)| undone[i + 1..].iter().map(move |newer| (older, newer)));
        let wrong = pairs.filter(|((up, older), (on, newer))| up.carries() && on.stands() && older < newer);
        wrong.map(|((_, older), (_, newer))| (back[*older], back[*newer])).collect()
    }
}

use SetUp as U;
use TearDown as D;

/// 5.0-rc5: translation is torn down first, both on unbind and on a failed probe.
pub const LINUX_5_0_RC5: Procedure = Procedure {
    up: &[
        U::CheckSuppliers,
        U::DevresEmpty,
        U::SetDriver,
        U::Pinctrl,
        U::DmaConfigure,
        U::NotifyBind,
        U::SysfsAdd,
        U::Activate,
        U::PmAttach,
        U::Probe,
        U::Bound,
    ],
    exits: &[
        (&[U::CheckSuppliers], &[]),
        (&[U::Pinctrl], &[D::ReleaseLinks, D::Devres, D::SysfsRemove, D::ClearDriver, D::ClearData, D::Dismiss]),
        (
            &[U::DmaConfigure],
            &[D::NotifyNotBound, D::ReleaseLinks, D::Devres, D::SysfsRemove, D::ClearDriver, D::ClearData, D::Dismiss],
        ),
        (
            &[U::SysfsAdd, U::Activate, U::PmAttach, U::Probe],
            &[
                D::PmDetach,
                D::Teardown,
                D::NotifyNotBound,
                D::ReleaseLinks,
                D::Devres,
                D::SysfsRemove,
                D::ClearDriver,
                D::ClearData,
                D::Dismiss,
            ],
        ),
    ],
    unbind: &[
        D::SysfsRemove,
        D::NotifyUnbind,
        D::Remove,
        D::PmDetach,
        D::ReleaseLinks,
        D::Teardown,
        D::Devres,
        D::ClearDriver,
        D::ClearData,
        D::Dismiss,
        D::NotifyUnbound,
    ],
    test_remove: &[D::Remove, D::PmDetach, D::Devres, D::SysfsRemove, D::ClearDriver, D::ClearData, D::Dismiss],
    swallows_deferral: false,
    iommu_is_supplier: false,
    counts_users: false,
    type_file: false,
    refuses_leftovers: false,
    compares_locked: false,
    data_outlives: true,
    chosen: Chosen::AtBinding,
    claim: Claim::NoDriver,
    arch: Arch::Arm64,
};

/// 5.0: with commit 376991db4b64, the tear-down of a bound device is reversed. The failure exit is not.
pub const LINUX_5_0: Procedure = Procedure {
    unbind: &[
        D::SysfsRemove,
        D::NotifyUnbind,
        D::Remove,
        D::PmDetach,
        D::ReleaseLinks,
        D::Devres,
        D::Teardown,
        D::ClearDriver,
        D::ClearData,
        D::Dismiss,
        D::NotifyUnbound,
    ],
    ..LINUX_5_0_RC5
};

/// 5.1: with 0b777eee88d7, the failure exit is reversed, too.
pub const LINUX_5_1: Procedure = Procedure {
    exits: &[
        (&[U::CheckSuppliers], &[]),
        (
            &[U::Pinctrl],
            &[D::ReleaseLinks, D::Devres, D::Teardown, D::SysfsRemove, D::ClearDriver, D::ClearData, D::Dismiss],
        ),
        (
            &[U::DmaConfigure],
            &[
                D::NotifyNotBound,
                D::ReleaseLinks,
                D::Devres,
                D::Teardown,
                D::SysfsRemove,
                D::ClearDriver,
                D::ClearData,
                D::Dismiss,
            ],
        ),
        (
            &[U::SysfsAdd, U::Activate, U::PmAttach, U::Probe],
            &[
                D::PmDetach,
                D::NotifyNotBound,
                D::ReleaseLinks,
                D::Devres,
                D::Teardown,
                D::SysfsRemove,
                D::ClearDriver,
                D::ClearData,
                D::Dismiss,
            ],
        ),
    ],
    ..LINUX_5_0
};

/// 6.12: one clean-up for all exits, groups with owners, back-ends chosen when a device joins its group.
pub const LINUX_6_12: Procedure = Procedure {
    up: &[
        U::CheckSuppliers,
        U::DevresEmpty,
        U::SetDriver,
        U::Pinctrl,
        U::DmaConfigure,
        U::ClaimGroup,
        U::NotifyBind,
        U::SysfsAdd,
        U::Activate,
        U::PmAttach,
        U::Probe,
        U::DevGroups,
        U::Bound,
    ],
    exits: &[
        (&[U::CheckSuppliers, U::DevresEmpty], &[]),
        (
            &[U::Pinctrl, U::DmaConfigure, U::ClaimGroup],
            &[D::ReleaseLinks, D::Devres, D::Teardown, D::ClearDriver, D::ClearData, D::Dismiss],
        ),
        (
            &[U::SysfsAdd],
            &[
                D::NotifyNotBound,
                D::DevresGroup,
                D::ReleaseLinks,
                D::Devres,
                D::Teardown,
                D::ClearDriver,
                D::ClearData,
                D::Dismiss,
            ],
        ),
        (
            &[U::Activate, U::PmAttach, U::Probe],
            &[
                D::PmDetach,
                D::SysfsRemove,
                D::NotifyNotBound,
                D::DevresGroup,
                D::ReleaseLinks,
                D::Devres,
                D::Teardown,
                D::ClearDriver,
                D::ClearData,
                D::Dismiss,
            ],
        ),
        (
            &[U::DevGroups],
            &[
                D::RemoveGroups,
                D::Remove,
                D::PmDetach,
                D::SysfsRemove,
                D::NotifyNotBound,
                D::DevresGroup,
                D::ReleaseLinks,
                D::Devres,
                D::Teardown,
                D::ClearDriver,
                D::ClearData,
                D::Dismiss,
            ],
        ),
    ],
    unbind: &[
        D::SysfsRemove,
        D::NotifyUnbind,
        D::RemoveGroups,
        D::Remove,
        D::PmDetach,
        D::DevresGroup,
        D::Devres,
        D::Teardown,
        D::ClearDriver,
        D::ClearData,
        D::Dismiss,
        D::ReleaseLinks,
        D::NotifyUnbound,
    ],
    test_remove: &[
        D::RemoveGroups,
        D::Remove,
        D::PmDetach,
        D::SysfsRemove,
        D::DevresGroup,
        D::Devres,
        D::Teardown,
        D::ClearDriver,
        D::ClearData,
        D::Dismiss,
    ],
    counts_users: true,
    type_file: true,
    refuses_leftovers: true,
    chosen: Chosen::AtJoining,
    claim: Claim::NoUser,
    ..LINUX_5_1
};

/// Bindery's own order: one ledger, popped newest first, whichever step failed.
pub const BINDERY: Procedure = Procedure {
    up: &[
        U::CheckSuppliers,
        U::SetDriver,
        U::PmAttach,
        U::Activate,
        U::ClaimGroup,
        U::DmaConfigure,
        U::SysfsAdd,
        U::NotifyBind,
        U::Pinctrl,
        U::Probe,
        U::Bound,
    ],
    exits: &[
        (&[U::CheckSuppliers], &[D::ReleaseLinks]),
        (&[U::PmAttach], &[D::ClearDriver, D::ReleaseLinks]),
        (&[U::Activate], &[D::PmDetach, D::ClearDriver, D::ReleaseLinks]),
        (&[U::ClaimGroup], &[D::Dismiss, D::PmDetach, D::ClearDriver, D::ReleaseLinks]),
        (&[U::DmaConfigure], &[D::DevresGroup, D::Dismiss, D::PmDetach, D::ClearDriver, D::ReleaseLinks]),
        (&[U::SysfsAdd], &[D::Teardown, D::DevresGroup, D::Dismiss, D::PmDetach, D::ClearDriver, D::ReleaseLinks]),
        (
            &[U::Pinctrl, U::Probe],
            &[
                D::Devres,
                D::SysfsRemove,
                D::Teardown,
                D::DevresGroup,
                D::Dismiss,
                D::PmDetach,
                D::ClearDriver,
                D::ReleaseLinks,
                D::NotifyNotBound,
            ],
        ),
    ],
    unbind: &[
        D::NotifyUnbind,
        D::Remove,
        D::Devres,
        D::SysfsRemove,
        D::Teardown,
        D::DevresGroup,
        D::Dismiss,
        D::PmDetach,
        D::ClearDriver,
        D::ReleaseLinks,
        D::NotifyUnbound,
    ],
    test_remove: &[],
    compares_locked: true,
    iommu_is_supplier: true,
    data_outlives: false,
    chosen: Chosen::AtBinding,
    ..LINUX_6_12
};
