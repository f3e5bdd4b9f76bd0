//! Linux 6.12's set-up and tear-down, and the others as deltas from it.
//!
//! Sources: `drivers/base/dd.c` (`really_probe`, `__device_release_driver`, since 5.18 `device_unbind_cleanup`),
//! `drivers/base/platform.c`, `drivers/iommu/iommu.c` and `arch/arm/mm/dma-mapping.c` of the release named.

use super::procedure::{Arch, Claim, OpsSet, Order, Procedure};
use super::step::SetUp as Up;
use super::step::TearDown as Down;

macro_rules! up { ($($step:ident)*) => { vec![$(Up::$step),*] }; }
macro_rules! down { ($($step:ident)*) => { Order(vec![$(Down::$step),*]) }; }
macro_rules! labels { ($($label:ident: $($step:ident)+;)*) => { vec![$((Down::$label, up!($($step)+))),*] }; }

/// 6.12: one clean-up for all exits, groups with owners, back-ends set when a device joins its group.
pub(super) fn linux_6_12() -> Procedure {
    Procedure {
        up: up!(CheckSuppliers DevresEmpty SetDriver Pinctrl DmaConfigure ClaimGroup NotifyBind SysfsAdd
                Activate PmAttach Probe DevGroups Bound),
        unbind: down!(SysfsRemove NotifyUnbind RemoveGroups Remove PmDetach DevresGroup Devres Teardown
                      ClearDriver ClearData Dismiss ReleaseLinks NotifyUnbound),
        failure: down!(RemoveGroups Remove PmDetach SysfsRemove NotifyNotBound DevresGroup ReleaseLinks Devres Teardown
                       ClearDriver ClearData Dismiss),
        labels: labels! {
            RemoveGroups: DevGroups;
            PmDetach: Activate PmAttach Probe;
            NotifyNotBound: SysfsAdd;
            ReleaseLinks: Pinctrl DmaConfigure ClaimGroup;
        },
        test_remove: down!(RemoveGroups Remove PmDetach SysfsRemove DevresGroup Devres Teardown ClearDriver ClearData Dismiss),
        not_bound_after_bind: true,
        swallows_deferral: false,
        iommu_is_supplier: false,
        type_file: true,
        refuses_leftovers: true,
        compares_locked: false,
        data_outlives: true,
        ops_set: OpsSet::AtJoining,
        claim: Claim::NoUser,
        arch: Arch::Arm64,
    }
}

/// 5.1, as 6.12 but for groups and back-ends: groups count no users, links go before managed resources, one more exit.
pub(super) fn linux_5_1() -> Procedure {
    let base = linux_6_12().without(Up::ClaimGroup).without(Up::DevGroups);
    Procedure {
        unbind: base.unbind.before(Down::ReleaseLinks, Down::Devres),
        failure: base.failure.after(Down::SysfsRemove, Down::Teardown),
        labels: labels! {
            PmDetach: SysfsAdd Activate PmAttach Probe;
            NotifyNotBound: DmaConfigure;
            ReleaseLinks: Pinctrl;
        },
        test_remove: base.test_remove.without(Down::Teardown).after(Down::SysfsRemove, Down::Devres),
        not_bound_after_bind: false,
        type_file: false,
        refuses_leftovers: false,
        ops_set: OpsSet::AtBinding,
        claim: Claim::NoDriver,
        ..base
    }
}

/// 5.0, without 0b777eee88d7: a failed probe tears translation down first.
pub(super) fn linux_5_0() -> Procedure {
    let base = linux_5_1();
    Procedure { failure: base.failure.before(Down::Teardown, Down::NotifyNotBound), ..base }
}

/// 5.0-rc5, without 376991db4b64: an unbind does so, too.
pub(super) fn linux_5_0_rc5() -> Procedure {
    let base = linux_5_0();
    Procedure { unbind: base.unbind.before(Down::Teardown, Down::Devres), ..base }
}

/// Bindery: one ledger. Tear-down undoes set-up, newest step first; a step that fails enters at the newest that was done.
pub(super) fn bindery() -> Procedure {
    let up =
        up!(CheckSuppliers SetDriver PmAttach Activate ClaimGroup DmaConfigure SysfsAdd NotifyBind Pinctrl Probe Bound);
    let Order(ledger) = Order::undoing(&up);
    Procedure {
        unbind: Order([&[Down::NotifyUnbind, Down::Remove], &ledger[..], &[Down::NotifyUnbound]].concat()),
        failure: Order([&ledger[..], &[Down::NotifyNotBound]].concat()),
        labels: labels! {
            Devres: Pinctrl Probe;
            Teardown: SysfsAdd;
            DevresGroup: DmaConfigure;
            Dismiss: ClaimGroup;
            PmDetach: Activate;
            ClearDriver: PmAttach;
            ReleaseLinks: CheckSuppliers;
        },
        test_remove: Order(Vec::new()),
        up,
        iommu_is_supplier: true,
        compares_locked: true,
        data_outlives: false,
        ops_set: OpsSet::AtBinding,
        ..linux_6_12()
    }
}
