//! Registered drivers with their type erased.

use alloc::sync::Arc;

use super::{Binding, DmaOwner, Driver, Match};
use crate::binding::{AnyBinding, BindingState};

/// Registered driver of any type.
pub(crate) trait AnyDriver: Send + Sync {
    fn name(&self) -> &'static str;
    fn matches(&self) -> &'static [Match];
    fn dma(&self) -> DmaOwner;
    fn suppresses_bind_attrs(&self) -> bool;
    /// Where this driver stands in memory, for as long as it is there: another one may be registered under its name.
    fn place(&self) -> *const ();
    /// Creates a binding of this driver around `bound`, without driver data.
    fn binding(&self, bound: BindingState) -> Arc<dyn AnyBinding>;
}

/// Erases the type of `D`.
pub(crate) struct Adapter<D>(pub(crate) Arc<D>);

impl<D: Driver> AnyDriver for Adapter<D> {
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn matches(&self) -> &'static [Match] {
        D::MATCHES
    }

    fn dma(&self) -> DmaOwner {
        D::DMA
    }

    fn suppresses_bind_attrs(&self) -> bool {
        D::SUPPRESS_BIND_ATTRS
    }

    fn place(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }

    fn binding(&self, bound: BindingState) -> Arc<dyn AnyBinding> {
        Arc::new(Binding::<D>::new(Arc::clone(&self.0), bound))
    }
}
