//! Fault points of the core.

macro_rules! fault_points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Fallible call of the core at which a failure can be injected. The list below is the only one: a fault injector
        /// iterates over [`FaultPoint::ALL`], and tests check their coverage against it.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        pub enum FaultPoint { $($(#[$doc])* $name,)* }

        impl FaultPoint {
            /// All fault points, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name in reports.
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
    /// Allocating an IOMMU domain.
    DomainAlloc = "domain-alloc",
    /// Attaching a device to a domain.
    DomainAttach = "domain-attach",
    /// Publishing a control-tree entry.
    ControlEntry = "control-entry",
    /// Mapping device registers.
    MapIo = "map-io",
    /// Requesting an interrupt line.
    IrqRequest = "irq-request",
    /// Allocating interrupt vectors.
    VectorAlloc = "vector-alloc",
    /// Allocating page frames.
    FrameAlloc = "frame-alloc",
    /// Allocating contiguous memory from CMA.
    CmaAlloc = "cma-alloc",
    /// Allocating bounce-buffer slots.
    BounceAlloc = "bounce-alloc",
    /// Allocating IOVA space.
    IovaAlloc = "iova-alloc",
    /// Allocating a page for an I/O page table.
    TableAlloc = "table-alloc",
    /// Registering a provider of clocks, resets, power or translation.
    Provide = "provide",
    /// The driver's `quiesce`, at the start of unwinding.
    Quiesce = "quiesce",
    /// Confirmation of an invalidation by the IOMMU.
    Invalidate = "invalidate",
}
