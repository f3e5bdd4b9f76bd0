//! Names of known bugs.

use crate::engine::Finding;

/// A bug that has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The name: `unbind-crash`, `probe-failure-crash`, `group-type`, ...
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// The commits or the release that fixed it; empty: it is open in 6.12.
    pub fixed_by: &'static str,
    /// A finding shows the bug when it contains all words of one of these patterns.
    patterns: &'static [&'static [&'static str]],
}

/// A finding has the name of the first bug with a pattern that matches.
const BUGS: &[Known] = &[
    Known {
        name: "unbind-crash",
        title: "DMA ops reset before managed resources on unbind",
        fixed_by: "376991db4b64",
        patterns: &[&["P1", "crash", " unbind:", "after arch_teardown_dma_ops"]],
    },
    Known {
        name: "probe-failure-crash",
        title: "the same on a failed probe",
        fixed_by: "0b777eee88d7",
        patterns: &[&["P1", "crash", "probe failure:", "after arch_teardown_dma_ops"]],
    },
    Known {
        name: "arm32-leak",
        title: "unbind-crash on arm32: warning and leak",
        fixed_by: "376991db4b64, 0b777eee88d7",
        patterns: &[
            &["P1", "leak", "after arch_teardown_dma_ops"],
            &["P3", "translation is torn down under a live buffer"],
            &["P4", "pages are left"],
        ],
    },
    Known {
        name: "forgotten",
        title: "a streaming mapping that the driver forgot",
        fixed_by: "",
        patterns: &[&["translation is left"], &["P2", "memory is freed that the device can reach"]],
    },
    Known {
        name: "own-detach",
        title: "a driver that detaches its device itself brings unbind-crash back",
        fixed_by: "",
        patterns: &[&["P1", "after the driver's own detach"]],
    },
    Known {
        name: "group-type",
        title: "the group's type changes after its ownership is dropped and before managed resources are released",
        fixed_by: "",
        patterns: &[&["P1", "after a write to the group's type"]],
    },
    Known {
        name: "group-window",
        title: "the group counts no user while managed memory is held, which group-type and group-claim need",
        fixed_by: "",
        patterns: &[&["P7", "the group is let go while DMA memory is held"]],
    },
    Known {
        name: "group-claim",
        title: "a shared group is claimed in the same window",
        fixed_by: "",
        patterns: &[&["P7", "the group is claimed while DMA memory is held"]],
    },
    Known {
        name: "links-unbind",
        title: "links dropped before managed resources, on unbind",
        fixed_by: "2e84dc379200",
        patterns: &[&["P6", "an IOMMU is used that is gone", " unbind:"]],
    },
    Known {
        name: "links-probe",
        title: "links dropped before managed resources, on a failed probe",
        fixed_by: "",
        patterns: &[&["P6", "an IOMMU is used that is gone"]],
    },
    Known {
        name: "power",
        title: "power domain off before managed resources",
        fixed_by: "v6.18",
        patterns: &[&["P6", "writes registers without power"]],
    },
    Known {
        name: "early-event",
        title: "DRIVER_NOT_BOUND before managed resources are released",
        fixed_by: "",
        patterns: &[&["P3", "the end is announced before it"], &["P3", "an end without a beginning"]],
    },
    Known {
        name: "stuck-link",
        title: "an early exit leaves a link in `consumer probing`",
        fixed_by: "",
        patterns: &[&["P4", "consumer probing"]],
    },
    Known {
        name: "unlocked-unbind",
        title: "unbind compares the driver without the lock",
        fixed_by: "",
        patterns: &[&["P7", "an unbind ends another driver's binding"]],
    },
    Known {
        name: "swallowed",
        title: "a deferral turned into `no IOMMU`",
        fixed_by: "e8e683ae9a73",
        patterns: &[&["bound without its IOMMU"], &["the back-end depends on who came first"]],
    },
    Known {
        name: "BUG_ON",
        title: "a kernel driver binds in a group that VFIO uses",
        fixed_by: "25f3bcfc54bc, 512881eacfa7",
        patterns: &[&["bound inside a group that a guest owns"]],
    },
];

/// The known bug that `finding` shows, if any.
pub fn known(finding: &Finding) -> Option<&'static Known> {
    let text = format!("{} {}", finding.promise, finding.kind);
    let shows = |bug: &&Known| bug.patterns.iter().any(|pattern| pattern.iter().all(|word| text.contains(word)));
    BUGS.iter().find(shows)
}
