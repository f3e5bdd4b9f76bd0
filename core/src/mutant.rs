//! Historical bugs, to be put back on purpose: who looks for broken promises must find each of them.
//!
//! With the feature `mutants` a machine takes one from `Env::mutant`; each place that Linux
//! once had wrong then asks [`Machine::is_mutant`] and does it wrong, too. Without the feature nobody can ask for one.
//! A mutant breaks promises, panics or touches the hardware wrongly; it stays memory-safe, like all safe Rust.

use crate::binding::HoldingKind;
use crate::machine::Machine;
use crate::promise::Promise;

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $breaks:ident, $history:literal;)*) => {
        /// A bug that a machine can be given. The list below is the only one.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
        pub enum Mutant { $($(#[$doc])* $name,)* }

        impl Mutant {
            /// Every one, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that commands take and reports print.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Where the bug was: commit or source, and what it did there.
            pub const fn history(self) -> &'static str {
                match self { $(Self::$name => $history,)* }
            }

            /// The promise that it breaks first of all. It may break more.
            pub const fn breaks(self) -> Promise {
                match self { $(Self::$name => Promise::$breaks,)* }
            }
        }
    };
}

mutants! {
    /// DMA is torn down before managed resources go back when a driver is unbound.
    DmaBeforeDevres = "dma-before-devres", SameHand,
        "376991db4b64 (v5.0): arch_teardown_dma_ops() ran before devres_release_all() on unbind";
    /// The same when a probe fails.
    DmaBeforeDevresOnFailure = "dma-before-devres-on-failure", SameHand,
        "0b777eee88d7 (v5.1): the same order on the way out of a failed probe, overlooked by 376991db4b64";
    /// Who takes memory back is looked up when it goes back, and by then the device has no translation any more.
    BackendLookedUpAtFree = "backend-looked-up-at-free", SameHand,
        "dma_free_attrs() up to v5.0: get_dma_ops(dev) at free time gave the direct ops for an IOVA, as in the crash";
    /// The group's ownership is dropped before managed resources go back.
    GroupBeforeDevres = "group-before-devres", OneOwner,
        "512881eacfa7 (v5.19): dma_cleanup() lowers owner_cnt before devres_release_all(), still so in v6.12";
    /// A pass-through owner gets a group that kernel drivers still hold.
    ClaimNotExclusive = "claim-not-exclusive", OneOwner,
        "v5.19 to v6.12: iommu_group_claim_dma_owner() succeeds while a member in the same group is half released";
    /// Links to suppliers are let go before managed resources go back.
    LinksBeforeDevres = "links-before-devres", SuppliersOutlast,
        "2e84dc379200 (v6.7) mended it for unbind; a failed probe still runs device_links_no_driver() first";
    /// Clocks, power and reset go before managed resources do.
    PowerBeforeDevres = "power-before-devres", OneWayBack,
        "platform_remove() up to v6.17: dev_pm_domain_detach() ran before devres_release_all()";
    /// The ledger is emptied in the order in which it was filled.
    OldestFirst = "oldest-first", OneWayBack,
        "the class of fixes \"tear-down order\" in stable kernels: what was set up first is torn down first";
    /// The way back ends at the first entry that cannot be given back.
    StopsAtAnError = "stops-at-an-error", NothingLeft,
        "int (*remove)() up to v6.10: an early return with an error left the rest of the clean-up undone";
    /// Listeners learn of a failed probe's end before anything was given back.
    NotBoundBeforeDevres = "not-bound-before-devres", NothingLeft,
        "really_probe(): BUS_NOTIFY_DRIVER_NOT_BOUND precedes devres_release_all(), UNBOUND follows it";
    /// Listeners learn that a binding begins, and not how it ended when a step of the core fails.
    EndNotTold = "end-not-told", NothingLeft,
        "really_probe() in v6.12: no notifier on the exits of pinctrl_bind_pins() and dma_configure()";
    /// A probe that ends early leaves its links in the state \"consumer probing\".
    LinksLeftOnEarlyExit = "links-left-on-early-exit", NothingLeft,
        "really_probe() in v6.12: the -EBUSY exit \"Resources present before probing\" rolls no link back";
    /// An unbind compares the driver before it has the device lock, and not again.
    UnlockedDriverCheck = "unlocked-driver-check", OneOwner,
        "unbind_store() in drivers/base/bus.c: dev->driver == drv is compared without the device lock";
    /// A supplier goes while its consumers are bound.
    SupplierFirst = "supplier-first", SuppliersOutlast,
        "before 9ed9895370ae (v4.10): no device links, a supplier was unbound under its consumers";
    /// A removed driver keeps its devices.
    DriverRemovalKeepsDevices = "driver-removal-keeps-devices", NothingLeft,
        "the class of module-removal fixes: the driver is gone, its devices still point to it";
    /// Memory goes back before the IOMMU has forgotten where it was.
    FreedBeforeInvalidation = "freed-before-invalidation", UnreachableBeforeFree,
        "the class that IOMMU_DEBUG_PAGEALLOC looks for: a page is freed while the IOTLB still translates to it";
    /// An invalidation that is not confirmed counts as done.
    TimeoutIgnored = "timeout-ignored", UnreachableBeforeFree,
        "ipmmu_tlb_sync(): \"TLB sync timed out\" is printed, and the caller goes on as if it had not";
    /// A lazy domain hands device addresses out again before they are flushed.
    IovaReusedBeforeFlush = "iova-reused-before-flush", UnreachableBeforeFree,
        "what the flush queue of drivers/iommu/dma-iommu.c is for: an IOVA is free before its flush";
    /// The device is told the physical address instead of the one that its IOMMU knows.
    AddressesExchanged = "addresses-exchanged", SameHand,
        "drivers that give virt_to_phys() to a device, which works until an IOMMU stands in between";
    /// The CPU does not look past its cache at what a non-coherent device has written.
    MissedSync = "missed-sync", CoherentAtTransfer,
        "the class of missing dma_sync_*_for_cpu() calls: 105 of the unsafe accesses that SADA found were confirmed";
    /// A device whose IOMMU fails runs on physical addresses, and nobody is told.
    UntranslatedFallback = "untranslated-fallback", NoSilentDowngrade,
        "before e8e683ae9a73 (v5.0): -EPROBE_DEFER of the IOMMU became -ENODEV, and the device ran on direct ops";
    /// Pages go to their next owner with what the last one left in them.
    DirtyMemory = "dirty-memory", CleanHand,
        "before 518a2f1925c3 (v5.0): dma_alloc_coherent() gave zeroed memory on some architectures only";
    /// A device that does not stop counts as stopped.
    StopFailureIgnored = "stop-failure-ignored", QuietFirst,
        "remove() up to v6.10 returned an error that nobody looked at; devres freed the device's memory";
    /// Driver data is dropped after what it borrows from.
    DataAfterDevres = "data-after-devres", NobodyInside,
        "be31fcf5af75 (2026): the Rust core dropped driver private data after devres_release_all()";
    /// Users are let in when the data is gone.
    HandlerAfterData = "handler-after-data", NobodyInside,
        "the class of work, timers and interrupts not stopped before remove: 140 stable fixes, 41 CVEs";
    /// A handle on registers works on when the binding has ended.
    HandleAfterDevres = "handle-after-devres", NobodyInside,
        "CVE-2020-12888 (v5.8): a vfio-pci user reached the registers of a device that was not there for it";
    /// An interrupt line goes back with its handle, so that it stays when that is forgotten.
    ForgottenHandleKeepsLine = "forgotten-handle-keeps-line", ForgetProof,
        "resources that are given back by a destructor alone: mem::forget is safe Rust, and runs none";
    /// The interrupt line stays on when its last user has gone.
    LineLeftOn = "line-left-on", NothingLeft,
        "CVE-2024-27437: vfio-pci left an interrupt enabled in a window in which nobody could serve it";
    /// A use count of a clock is not put back when the next step fails.
    SupplyLeaked = "supply-leaked", NothingLeft,
        "\"spi: imx: fix runtime pm leak on probe deferral\" and 97 more of the class";
    /// The ownership count of a group is not put back when the next step fails.
    OwnershipLeaked = "ownership-leaked", NothingLeft,
        "f429378a9bf8 (v6.6): no dma_cleanup() on one way back; owner_cnt stayed, and VFIO got -EBUSY for ever";
    /// The control tree's entries stay.
    ControlEntryLeft = "control-entry-left", NothingLeft,
        "openbmc issue 1261: a sysfs file was left behind, and the next bind failed on its name";
    /// The ledger grows each time the device is brought up again within one binding.
    LedgerGrows = "ledger-grows", NothingLeft,
        "f747313249b7 (dwc2): one more managed resource for each power cycle, found by eye in a devres log";
    /// An arrival wakes one of those that were waiting for it, and forgets the others.
    WakeUpLost = "wake-up-lost", OrderFree,
        "58b116bce136 (v3.15): a deferred device could be left out of the retry that it was waiting for";
    /// A supplier that arrives while its consumer's probe is being deferred wakes nobody.
    WakeUpLostInProbe = "wake-up-lost-in-probe", OrderFree,
        "58b116bce136 (v3.15): the supplier bound between the consumer's -EPROBE_DEFER and its way onto the list";
}

impl Mutant {
    /// The mutant of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|m| m.name() == name)
    }
}

/// The kinds of ledger entries that a mutant gives back before their turn, right after the driver's data, on the way
/// back from a `failed` probe or from a binding that stood.
pub(crate) fn ahead_of_turn(machine: &Machine, failed: bool) -> &'static [HoldingKind] {
    let has = |mutant| machine.is_mutant(mutant);
    if has(if failed { Mutant::DmaBeforeDevresOnFailure } else { Mutant::DmaBeforeDevres }) {
        &[HoldingKind::Translation]
    } else if has(Mutant::GroupBeforeDevres) {
        &[HoldingKind::Group]
    } else if has(Mutant::LinksBeforeDevres) {
        &[HoldingKind::Links]
    } else if has(Mutant::PowerBeforeDevres) {
        &[HoldingKind::Reset, HoldingKind::Clock, HoldingKind::Power]
    } else {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_kebab_case_and_lead_back() {
        for (n, mutant) in Mutant::ALL.iter().enumerate() {
            let name = mutant.name();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            assert_eq!(Mutant::named(name), Some(*mutant));
            assert!(Mutant::ALL[n + 1..].iter().all(|other| other.name() != name), "{name} twice");
            assert!(!mutant.history().is_empty(), "{name}");
        }
        assert_eq!(Mutant::named("no-such-bug"), None);
    }
}
