//! Messages of the kernel log, typed.

use super::devres::Devres;
use super::dma_api::DmaApi;
use super::fault::{Fault, Suppressed};

/// A message of the kernel log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message<'a> {
    /// An IOMMU reports a fault.
    Fault(Fault),
    /// The head of an `SMMUv3` event record of five lines.
    RecordHead {
        /// The SMMU.
        iommu: &'a str,
        /// The event's number.
        event: u64,
    },
    /// A word of such a record.
    RecordWord {
        /// The SMMU.
        iommu: &'a str,
        /// The word; none when it is damaged.
        value: Option<u64>,
    },
    /// The stream of the fault before, where an `SMMUv2` driver prints it by itself.
    StreamOf {
        /// The SMMU.
        iommu: &'a str,
        /// The stream.
        stream: u64,
    },
    /// The direction of the access, where an SMMU's driver prints it by itself.
    Access {
        /// The SMMU.
        iommu: &'a str,
        /// True for a write.
        write: bool,
    },
    /// Messages were not printed.
    Suppressed(Suppressed),
    /// DMA API debugging.
    DmaApi(DmaApi),
    /// Another stack of the same report follows.
    StackOf(Stack),
    /// An entry of mappings that are left.
    Leaked {
        /// Device address.
        addr: Option<u64>,
        /// Size.
        size: Option<u64>,
    },
    /// A managed resource, as `CONFIG_DEBUG_DEVRES` logs them.
    Devres(Devres<'a>),
    /// A probe failed.
    ProbeFailed {
        /// Driver.
        driver: &'a str,
        /// Device.
        device: &'a str,
        /// The error, as a positive number.
        error: u64,
    },
    /// A probe waits for a supplier.
    Deferred {
        /// Device.
        device: &'a str,
        /// Why, where the kernel knows.
        reason: &'a str,
    },
    /// Managed resources were there before a probe.
    LeftOver {
        /// Device.
        device: &'a str,
    },
    /// A device joins or leaves an IOMMU group.
    Group {
        /// Device.
        device: &'a str,
        /// Group, where it is printed.
        group: Option<u64>,
        /// True when it joins.
        joins: bool,
    },
    /// The default domain's type.
    Policy {
        /// True when DMA is translated by default.
        translated: bool,
    },
    /// The type of a device's own domain, which may differ from the default.
    DomainType {
        /// Device.
        device: &'a str,
        /// The type.
        domain: DomainType,
    },
    /// Policy of invalidation: true for strict, false for lazy.
    Strict(bool),
    /// VFIO asks the user to give a device back.
    VfioRequest {
        /// Device.
        device: &'a str,
        /// Number of earlier requests, where that is printed.
        count: Option<u64>,
    },
    /// VFIO waits for a user that it cannot ask.
    VfioBlocked {
        /// Device.
        device: &'a str,
    },
    /// A task hangs.
    Hung {
        /// Its name.
        task: &'a str,
        /// Its process.
        pid: u64,
    },
    /// The task that holds what a task that hangs waits for.
    HungOwner {
        /// Its name.
        task: &'a str,
        /// Its process.
        pid: u64,
    },
    /// A crash, or a warning with a stack.
    Crash {
        /// True for a warning, after which the kernel goes on.
        warning: bool,
    },
    /// The task and the kernel's version in such a report.
    CrashTask {
        /// Process.
        pid: u64,
        /// Name.
        task: &'a str,
    },
    /// The end of such a report.
    CrashEnd,
    /// The bounce buffer has no room.
    SwiotlbFull {
        /// Device.
        device: &'a str,
        /// Bytes asked for.
        size: u64,
        /// Slots there are.
        total: Option<u64>,
        /// Slots in use.
        used: Option<u64>,
    },
    /// An IOMMU's invalidation was not confirmed.
    Unconfirmed {
        /// The device, where it is named.
        device: Option<String>,
    },
    /// A page is given back that an IOMMU still maps.
    PageLeak,
    /// A region is released that is not there.
    NoRegion {
        /// First address.
        start: u64,
    },
    /// The page allocator found a page in a state that it must not have.
    BadPage,
    /// A line of a driver, or of the core, about a device.
    About {
        /// Driver, or bus where none is bound.
        driver: &'a str,
        /// Device.
        device: &'a str,
        /// Words.
        words: &'a str,
        /// The turn of its life that the words tell of.
        turn: Turn,
    },
    /// A boot begins.
    Boot,
    /// Any other.
    Other,
}

/// Type of a device's domain, as a line of the log says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DomainType {
    /// Untranslated by design.
    Identity,
    /// Translated.
    Translated,
    /// Meant to be translated, but the set-up failed and the device kept the direct path.
    Failed,
}

/// Subject of a stack in a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stack {
    /// The report's own event.
    Own,
    /// The mapping.
    Mapping,
    /// The free of the memory.
    Free,
    /// The task that holds what is waited for.
    Owner,
    /// The allocation, or something else that led to the event.
    Other,
}

/// Turn of a device's life in a driver's line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The driver takes the device.
    Arrives,
    /// The driver released it.
    Leaves,
    /// Nothing.
    None,
}
