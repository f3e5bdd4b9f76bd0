//! Known bugs, each with the patterns by which a finding is recognised.

use crate::engine::Finding;

/// A known bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The name: `unbind-crash`, `probe-failure-crash`, `group-type`, ...
    pub name: &'static str,
    /// A description in one line.
    pub title: &'static str,
    /// The commits or the release that fixed it; empty: it is open in 6.12.
    pub fixed_by: &'static str,
    /// A finding shows the bug when it contains all words of one of these patterns.
    patterns: &'static [&'static [&'static str]],
}

macro_rules! bugs {
    ($($name:literal = $title:literal, $fixed_by:literal: $([$($word:literal),+])+;)*) => {
        /// All known bugs. No finding shows two of them.
        pub(super) const BUGS: &[Known] =
            &[$(Known { name: $name, title: $title, fixed_by: $fixed_by, patterns: &[$(&[$($word),+]),+] },)*];
    };
}

bugs! {
    "unbind-crash" = "DMA ops reset before managed resources on unbind", "376991db4b64":
        ["P1", "crash", " unbind:", "after arch_teardown_dma_ops"];
    "probe-failure-crash" = "the same on a failed probe", "0b777eee88d7":
        ["P1", "crash", "probe failure:", "after arch_teardown_dma_ops"];
    "arm32-leak" = "unbind-crash on arm32: warning and leak", "376991db4b64, 0b777eee88d7":
        ["P1", "leak", "after arch_teardown_dma_ops"]
        ["P3", "translation is torn down under a live buffer"]
        ["P4", "pages are left"];
    "swallowed" = "a deferral turned into `no IOMMU`", "e8e683ae9a73":
        ["bound without its IOMMU"]
        ["the back-end depends on who came first"];
    "BUG_ON" = "a kernel driver binds in a group that VFIO uses", "25f3bcfc54bc, 512881eacfa7":
        ["bound inside a group that a guest owns"];
    "group-window" = "the group counts no user while managed memory is held, which group-type and group-claim need", "":
        ["P7", "the group is let go while DMA memory is held"];
    "group-type" = "the group's type changes after its ownership is dropped and before managed resources are released", "":
        ["P1", "after a write to the group's type"];
    "group-claim" = "a shared group is claimed in the same window", "":
        ["P7", "the group is claimed while DMA memory is held"];
    "links-probe" = "links dropped before managed resources, on a failed probe", "":
        ["P6", "an IOMMU is used that is gone", " probe failure:"]
        ["P6", "an IOMMU is used that is gone", " test_remove:"];
    "links-unbind" = "links dropped before managed resources, on unbind", "2e84dc379200":
        ["P6", "an IOMMU is used that is gone", " unbind:"];
    "power" = "power domain off before managed resources", "v6.18":
        ["P6", "writes registers without power"];
    "early-event" = "DRIVER_NOT_BOUND before managed resources are released", "":
        ["P3", "the end is announced before it"]
        ["P3", "an end without a beginning"];
    "stuck-link" = "an early exit leaves a link in `consumer probing`", "":
        ["P4", "consumer probing"];
    "unlocked-unbind" = "unbind compares the driver without the lock", "":
        ["P7", "an unbind ends another driver's binding"];
    "forgotten" = "a streaming mapping that the driver forgot", "":
        ["translation is left"]
        ["P2", "memory is freed that the device can reach"];
    "own-detach" = "a driver that detaches its device itself brings unbind-crash back", "":
        ["P1", "after the driver's own detach"];
}

impl Known {
    /// Returns true when `finding` shows this bug.
    pub(super) fn is_shown_by(&self, finding: &Finding) -> bool {
        let text = format!("{} {}", finding.promise, finding.kind);
        self.patterns.iter().any(|pattern| pattern.iter().all(|word| text.contains(word)))
    }
}

/// The known bug that `finding` shows, if any.
pub fn known(finding: &Finding) -> Option<&'static Known> {
    BUGS.iter().find(|bug| bug.is_shown_by(finding))
}
