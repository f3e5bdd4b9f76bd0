//! The kinds of things that a ledger holds.

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What a ledger entry holds. Each kind has one release function. The list below is the only one.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum ResourceKind { $($(#[$doc])* $name,)* }

        impl ResourceKind {
            /// Every kind, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that events and reports print.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// Links to suppliers.
    Links = "links",
    /// A use of a power domain.
    Power = "power",
    /// A use of a clock.
    Clock = "clock",
    /// A use of a reset line.
    Reset = "reset",
    /// A use of a regulator.
    Regulator = "regulator",
    /// A claim of an IOMMU group.
    Group = "group",
    /// An attachment to a domain, or the lack of one.
    Translation = "translation",
    /// Control-tree entries.
    Control = "control",
    /// Mapped registers.
    Mmio = "mmio",
    /// An interrupt line.
    Irq = "irq",
    /// DMA memory that CPU and device share.
    DmaCoherent = "dma coherent",
    /// The pages of a pool of small pieces of such memory.
    DmaPool = "dma pool",
    /// A mapping of one buffer.
    DmaSingle = "dma single",
    /// A mapping of a list of buffers.
    DmaScatter = "dma sg",
    /// A mapping of another device's registers.
    DmaResource = "dma resource",
    /// A driver's own action.
    Action = "action",
    /// A service offered to consumers.
    Service = "service",
    /// Translation offered to consumers.
    Iommu = "iommu",
    /// A device that the driver has added below its own.
    Child = "child",
    /// Driver data.
    Data = "data",
}
