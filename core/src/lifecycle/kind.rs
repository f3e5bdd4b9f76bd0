//! Kinds of resources on a ledger.

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Kind of a ledger entry. Each kind has one release function. The list below is the only one.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum ResourceKind { $($(#[$doc])* $name,)* }

        impl ResourceKind {
            /// Every kind, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name in events and reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

kinds! {
    /// Links to suppliers.
    Links = "links",
    /// A reference to a power domain.
    Power = "power",
    /// A reference to a clock.
    Clock = "clock",
    /// A reference to a reset line.
    Reset = "reset",
    /// A reference to a regulator.
    Regulator = "regulator",
    /// Claims of the buses that the device is on.
    Bus = "bus",
    /// A claim of an IOMMU group.
    Group = "group",
    /// An attachment to a domain, or untranslated DMA.
    Translation = "translation",
    /// Access to memory that the device's bus grants (PCI: bus mastering).
    BusMaster = "bus master",
    /// Control-tree entries.
    Control = "control",
    /// Mapped registers.
    Mmio = "mmio",
    /// Interrupt vectors.
    Vectors = "vectors",
    /// An interrupt line.
    Irq = "irq",
    /// DMA memory that CPU and device share.
    DmaCoherent = "dma coherent",
    /// The pages of a pool of small coherent allocations.
    DmaPool = "dma pool",
    /// A mapping of one buffer.
    DmaSingle = "dma single",
    /// A mapping of a list of buffers.
    DmaScatter = "dma sg",
    /// The mappings of an arena.
    DmaArena = "dma arena",
    /// A mapping of another device's registers.
    DmaResource = "dma resource",
    /// An action registered by the driver.
    Action = "action",
    /// A work item.
    Work = "work",
    /// A service offered to consumers.
    Service = "service",
    /// Translation offered to consumers.
    Iommu = "iommu",
    /// A child device that the driver has added.
    Child = "child",
    /// Driver data.
    Data = "data",
}
