//! Drivers of any type, as the machine keeps them.

use alloc::sync::Arc;

use super::{Binding, DmaOwner, Driver, Match};
use crate::binding::{AnyBinding, Bound};

/// A registered driver whose type is forgotten.
pub(crate) trait AnyDriver: Send + Sync {
    fn name(&self) -> &'static str;
    fn matches(&self) -> &'static [Match];
    fn dma(&self) -> DmaOwner;
    fn suppresses_bind_attrs(&self) -> bool;
    /// A binding of this driver around `bound`, without data yet.
    fn binding(&self, bound: Bound) -> Arc<dyn AnyBinding>;
}

/// Forgets the type of `D`.
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

    fn binding(&self, bound: Bound) -> Arc<dyn AnyBinding> {
        Arc::new(Binding::<D>::new(Arc::clone(&self.0), bound))
    }
}
