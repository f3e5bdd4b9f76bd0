//! What a machine may do that is not the careful default.

/// What to do about a supplier that never comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AbsentSuppliers {
    /// Its consumers wait for ever, and say for whom.
    #[default]
    Wait,
    /// [`Machine::stop_waiting`](crate::machine::Machine::stop_waiting) lets consumers do without suppliers that have no driver
    /// (never without their IOMMU: see [`Policy::untranslated_dma`]).
    DoWithout,
}

/// The written policy of a machine. Each deviation from the default is told as an event when it takes effect (P10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Leave IOMMUs alone: devices run on physical addresses.
    pub untranslated_dma: bool,
    /// What to do about a supplier that never comes.
    pub absent_suppliers: AbsentSuppliers,
    /// Check DMA use and remember mappings, to explain faults.
    pub check_dma: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { untranslated_dma: false, absent_suppliers: AbsentSuppliers::Wait, check_dma: true }
    }
}
