//! Instrument of a machine: fault injection, coverage, and checks that only a simulator can answer.
//!
//! Tests and explorers implement [`Instrument`] and give it to
//! [`Machine::with_instrument`](crate::machine::Machine::with_instrument). A machine in production has none; each call
//! then costs the test of an `Option`.

mod coverage_point;
mod fault_point;

pub use coverage_point::CoveragePoint;
pub use fault_point::FaultPoint;

use alloc::sync::Arc;

use crate::addr::PhysAddr;
use crate::description::NodeId;

/// Observer of one machine that also injects faults and chooses the order of probing.
///
/// Every method has a default that changes nothing. All may be called from any thread and with core locks held, and must
/// not call the machine.
pub trait Instrument: Send + Sync {
    /// Decides whether the fallible call at `point` fails now.
    fn should_fail(&self, point: FaultPoint) -> bool {
        let _ = point;
        false
    }

    /// Records that the core has passed `point`. Called on hot paths, so it should be quick.
    fn cover(&self, point: CoveragePoint) {
        let _ = point;
    }

    /// Chooses which of the `queued` devices is probed next, as an index; the longest-queued device comes first. There
    /// are at least two. Any index below their number is valid (P8). Called with the registry locked.
    fn choose_next(&self, queued: &mut dyn ExactSizeIterator<Item = NodeId>) -> usize {
        let _ = queued;
        0
    }

    /// Returns true when some device can access any of the `len` bytes of RAM at `base` at this moment, through a
    /// translation that an IOMMU still caches, or untranslated because a transfer is running. Called when memory is freed
    /// (P2, P11).
    fn dma_reachable(&self, base: PhysAddr, len: u64) -> bool {
        let _ = (base, len);
        false
    }

    /// Returns true when the CPU, through its cache, and a device that does not snoop see the same contents in the `len`
    /// bytes of RAM at `base`. Called when ownership of a buffer passes between them (P13).
    fn cache_matches(&self, base: PhysAddr, len: u64) -> bool {
        let _ = (base, len);
        true
    }
}

/// Optional instrument: without one, every method has its default.
impl<T: Instrument + ?Sized> Instrument for Option<Arc<T>> {
    #[inline]
    fn should_fail(&self, point: FaultPoint) -> bool {
        self.as_ref().is_some_and(|i| i.should_fail(point))
    }

    #[inline]
    fn cover(&self, point: CoveragePoint) {
        if let Some(instrument) = self {
            instrument.cover(point);
        }
    }

    #[inline]
    fn choose_next(&self, queued: &mut dyn ExactSizeIterator<Item = NodeId>) -> usize {
        self.as_ref().map_or(0, |i| i.choose_next(queued))
    }

    #[inline]
    fn dma_reachable(&self, base: PhysAddr, len: u64) -> bool {
        self.as_ref().is_some_and(|i| i.dma_reachable(base, len))
    }

    #[inline]
    fn cache_matches(&self, base: PhysAddr, len: u64) -> bool {
        self.as_ref().is_none_or(|i| i.cache_matches(base, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Errno;

    struct Silent;
    impl Instrument for Silent {}

    fn changes_nothing(instrument: &dyn Instrument) {
        assert!(FaultPoint::ALL.iter().all(|point| !instrument.should_fail(*point)));
        instrument.cover(CoveragePoint::Refused(Errno::ENODEV));
        assert_eq!(instrument.choose_next(&mut [NodeId(7), NodeId(3)].into_iter()), 0);
        assert!(!instrument.dma_reachable(PhysAddr(0), u64::MAX));
        assert!(instrument.cache_matches(PhysAddr(0), u64::MAX));
    }

    #[test]
    fn the_defaults_and_an_absent_instrument_change_nothing() {
        changes_nothing(&Silent);
        changes_nothing(&None::<Arc<dyn Instrument>>);
        changes_nothing(&Some(Arc::new(Silent)));
    }
}
