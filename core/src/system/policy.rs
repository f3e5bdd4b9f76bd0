//! Configured exceptions to the defaults of a machine.

/// Treatment of suppliers that never arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AbsentSuppliers {
    /// Their consumers stay deferred, and report the missing supplier.
    #[default]
    Wait,
    /// [`Machine::stop_waiting`](crate::machine::Machine::stop_waiting) lets consumers probe without suppliers that have no
    /// driver (never without their IOMMU: see [`Policy::untranslated_dma`]).
    DoWithout,
}

/// Policy of a machine. Each exception to the defaults emits an event when it takes effect (P10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Do not use IOMMUs: devices use physical addresses.
    pub untranslated_dma: bool,
    /// Treatment of suppliers that never arrive.
    pub absent_suppliers: AbsentSuppliers,
    /// Check the use of DMA mappings and keep a history of them, to explain faults.
    pub check_dma: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { untranslated_dma: false, absent_suppliers: AbsentSuppliers::Wait, check_dma: true }
    }
}
