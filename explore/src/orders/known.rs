//! Names that findings are known under.

use crate::engine::Finding;

/// A bug that has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// The name: `seed`, `twin`, `W1` to `W7`, `window`, `swallowed`, ...
    pub name: &'static str,
    /// What it is, in one line.
    pub title: &'static str,
    /// What mended it, if anything did.
    pub mended: &'static str,
}

/// A finding has the name of the first row all of whose words it contains.
const NAMES: &[(&[&str], Known)] = &[
    (
        &["P1", "crash", " unbind:", "after arch_teardown_dma_ops"],
        Known { name: "seed", title: "DMA ops reset before managed resources on unbind", mended: "376991db4b64" },
    ),
    (
        &["P1", "crash", "probe failure:", "after arch_teardown_dma_ops"],
        Known { name: "twin", title: "the same on a failed probe", mended: "0b777eee88d7" },
    ),
    (
        &["P1", "leak", "after arch_teardown_dma_ops"],
        Known {
            name: "arm32",
            title: "arm32's form of the seed's bug: warning and leak",
            mended: "376991db4b64, 0b777eee88d7",
        },
    ),
    (
        &["P3", "translation is torn down under a live buffer"],
        Known {
            name: "arm32",
            title: "arm32's form of the seed's bug: warning and leak",
            mended: "376991db4b64, 0b777eee88d7",
        },
    ),
    (
        &["P4", "pages are left"],
        Known {
            name: "arm32",
            title: "arm32's form of the seed's bug: warning and leak",
            mended: "376991db4b64, 0b777eee88d7",
        },
    ),
    (
        &["translation is left"],
        Known { name: "forgotten", title: "a streaming mapping that the driver forgot", mended: "" },
    ),
    (
        &["P2", "memory is freed that the device can reach"],
        Known { name: "forgotten", title: "a streaming mapping that the driver forgot", mended: "" },
    ),
    (
        &["P1", "after the driver's own detach"],
        Known { name: "own detach", title: "a driver that detaches itself makes the seed's bug again", mended: "" },
    ),
    (
        &["P1", "after a write to the group's type"],
        Known { name: "W1", title: "group ownership dropped before managed resources", mended: "" },
    ),
    (
        &["P7", "the group is let go while DMA memory is held"],
        Known {
            name: "window",
            title: "the group counts no user while managed memory is held: the window of W1 and W2",
            mended: "",
        },
    ),
    (
        &["P7", "the group is claimed while DMA memory is held"],
        Known { name: "W2", title: "a shared group is claimed in the same window", mended: "" },
    ),
    (
        &["P6", "an IOMMU is used that is gone", " unbind:"],
        Known {
            name: "W3, unbind",
            title: "links given back before managed resources, on unbind",
            mended: "2e84dc379200",
        },
    ),
    (
        &["P6", "an IOMMU is used that is gone"],
        Known { name: "W3", title: "links given back before managed resources, on a failed probe", mended: "" },
    ),
    (
        &["P6", "writes registers without power"],
        Known { name: "W4", title: "power domain off before managed resources", mended: "v6.18" },
    ),
    (
        &["P3", "the end is announced before it"],
        Known { name: "W5", title: "DRIVER_NOT_BOUND before managed resources are released", mended: "" },
    ),
    (
        &["P3", "an end without a beginning"],
        Known { name: "W5", title: "DRIVER_NOT_BOUND before managed resources are released", mended: "" },
    ),
    (
        &["P4", "consumer probing"],
        Known { name: "W6", title: "an early exit leaves a link in `consumer probing`", mended: "" },
    ),
    (
        &["P7", "an unbind ends another driver's binding"],
        Known { name: "W7", title: "unbind compares the driver without the lock", mended: "" },
    ),
    (
        &["bound without its IOMMU"],
        Known { name: "swallowed", title: "a deferral turned into `no IOMMU`", mended: "e8e683ae9a73" },
    ),
    (
        &["the back-end depends on who came first"],
        Known { name: "swallowed", title: "a deferral turned into `no IOMMU`", mended: "e8e683ae9a73" },
    ),
    (
        &["bound inside a group that a guest owns"],
        Known {
            name: "BUG_ON",
            title: "a kernel driver binds in a group that VFIO uses",
            mended: "25f3bcfc54bc, 512881eacfa7",
        },
    ),
];

/// The name that `finding` is known under, if it has one.
pub fn known(finding: &Finding) -> Option<&'static Known> {
    let text = format!("{} {}", finding.promise, finding.kind);
    NAMES.iter().find(|(words, _)| words.iter().all(|word| text.contains(word))).map(|(_, known)| known)
}
