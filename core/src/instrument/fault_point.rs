//! The places where a call can fail.

macro_rules! fault_points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A place in the core where a call can fail. The list below is the only one: a fault injector walks
        /// [`FaultPoint::ALL`], and a test that must hit every place counts against it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        pub enum FaultPoint { $($(#[$doc])* $name,)* }

        impl FaultPoint {
            /// Every place, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that reports print.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

fault_points! {
    /// Room for one more ledger entry.
    LedgerEntry = "ledger-entry",
    /// Acquiring the link to a supplier.
    LinkAcquire = "link-acquire",
    /// Switching a power domain on.
    PowerOn = "power-on",
    /// Enabling a clock.
    ClockEnable = "clock-enable",
    /// Taking a device out of reset.
    ResetDeassert = "reset-deassert",
    /// Claiming an IOMMU group.
    GroupClaim = "group-claim",
    /// Making an IOMMU domain.
    DomainAlloc = "domain-alloc",
    /// Attaching a device to a domain.
    DomainAttach = "domain-attach",
    /// Publishing a control-tree entry.
    ControlEntry = "control-entry",
    /// Mapping device registers.
    MapIo = "map-io",
    /// Requesting an interrupt line.
    IrqRequest = "irq-request",
    /// Taking page frames.
    FrameAlloc = "frame-alloc",
    /// Taking contiguous memory from CMA.
    CmaAlloc = "cma-alloc",
    /// Taking bounce-buffer slots.
    BounceAlloc = "bounce-alloc",
    /// Taking IOVA space.
    IovaAlloc = "iova-alloc",
    /// Taking a page for an I/O page table.
    TableAlloc = "table-alloc",
    /// Registering a provider of clocks, resets, power or translation.
    Provide = "provide",
    /// The device's stop request, at the start of the way back.
    Quiesce = "quiesce",
    /// Waiting for the IOMMU to confirm an invalidation.
    Invalidate = "invalidate",
}
