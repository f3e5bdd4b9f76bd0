//! Leases of a domain: maps and unmaps without a lock, for one owner of its device addresses.

use alloc::format;
use alloc::sync::Arc;

use super::unconfirmed::Range;
use super::{Domain, DomainKind, FailedMap, Flushed, Gather, IommuError, Lease, MapError, Prot, Translation};
use crate::addr::PhysAddr;
use crate::promise::{CheckTally, Promise};
use crate::sync::atomic::Ordering;
use crate::system::System;

impl Domain {
    /// Leases the page-table entries of `range`, which the caller has allocated, if one IOMMU translates alone and its driver leases.
    pub(crate) fn lease(&self, range: Range) -> Option<Lease> {
        let ops = self.leases().filter(|_| matches!(self.kind(), DomainKind::Strict | DomainKind::Lazy))?;
        ops.lease(range.iova, range.len)
    }

    /// The translation that leases, while what is mapped by a lease is mapped for all IOMMUs.
    #[inline]
    fn leases(&self) -> Option<&dyn Translation> {
        match &self.multi {
            Some(multi) => multi.single(),
            None => Some(&**self.translation()),
        }
    }

    /// True while a lease maps for all IOMMUs: another one that has joined, or the removal of the only one, ends that.
    #[inline]
    pub(crate) fn can_map_by_lease(&self) -> bool {
        self.leases().is_some()
    }

    /// As [`map_run`](Self::map_run), by a lease.
    #[inline]
    pub(crate) fn map_leased(
        &self,
        machine: &System,
        (device, kind): (&Arc<str>, &'static str),
        range: Range,
        lease: &mut Lease,
        (phys, prot): (PhysAddr, Prot),
    ) -> Result<(), FailedMap> {
        if machine.tracks_mappings() {
            self.check_reuse(machine, range);
        }
        lease.map(phys, range.len, prot).map_err(|error| FailedMap::of(error, range.len))?;
        if machine.tracks_mappings() {
            self.record_mapped(range, device, kind);
        }
        Ok(())
    }

    /// As [`map_runs`](Self::map_runs), by a lease; nothing of the list is mapped on an error.
    pub(crate) fn map_runs_leased(
        &self,
        machine: &System,
        (device, kind): (&Arc<str>, &'static str),
        range: Range,
        lease: &mut Lease,
        runs: impl Iterator<Item = (PhysAddr, u64)> + Clone,
        prot: Prot,
    ) -> Result<(), FailedMap> {
        if machine.tracks_mappings() {
            self.check_reuse(machine, range);
        }
        lease.map_runs(runs, prot).map_err(|error| FailedMap::of(error, range.len))?;
        if machine.tracks_mappings() {
            self.record_mapped(range, device, kind);
        }
        Ok(())
    }

    /// As [`remove_counted`](Self::remove_counted), by a lease.
    #[inline]
    pub(crate) fn remove_leased(
        &self,
        machine: &System,
        len: u64,
        lease: &mut Lease,
        gather: &mut Gather,
        tally: &mut CheckTally,
    ) -> Result<(), MapError> {
        // Looked up again before the IOVA is used again; by the table itself when the lease is not sure.
        let gone = lease.unmap(len, gather)? || self.translation().resolve(lease.iova()).is_none();
        machine.promises.check_in(tally, Promise::UnreachableBeforeFree, gone, || {
            format!("{}: {} still translates after it was unmapped", self.label(), lease.iova())
        });
        Ok(())
    }

    /// As [`invalidate`](Self::invalidate), of an IOMMU that answers and for which nothing else is to be flushed, if that is so: without
    /// moving the gather. On an error `gather` has what is not confirmed. The confirmation of the hardware becomes a proof here, as
    /// in `flush_at`.
    #[expect(clippy::inline_always, reason = "a call costs as much as what it does for one page")]
    #[inline(always)]
    pub(crate) fn invalidate_in_place(
        self: &Arc<Self>,
        machine: &System,
        gather: &mut Gather,
    ) -> Result<Flushed, IommuError> {
        let begun = machine.env().now();
        let answers = self.no_flush_before.load(Ordering::Relaxed) == 0;
        if !answers || !self.unconfirmed.is_clear() || machine.instrument.is_some() {
            return self.invalidate_moved(machine, gather);
        }
        match self.direct().flush(gather) {
            Ok(()) => Ok(gather.confirm_in_place()),
            Err(e) => {
                self.not_confirmed(machine, begun);
                Err(e)
            }
        }
    }

    #[cold]
    fn invalidate_moved(self: &Arc<Self>, machine: &System, gather: &mut Gather) -> Result<Flushed, IommuError> {
        match self.invalidate(machine, core::mem::take(gather)) {
            Ok(proof) => proof.into_flushed().ok_or(IommuError::Dead),
            Err((e, left)) => {
                *gather = left;
                Err(e)
            }
        }
    }

    /// Ends the lease of `range`, whose holder does not use it any more, and unmaps what is left there. The addresses are free once
    /// `gather` is flushed.
    pub(crate) fn end_lease(&self, machine: &System, range: Range, gather: &mut Gather) {
        let ops = self.multi.as_ref().map_or(&**self.translation(), |multi| multi.first());
        let gone = match ops.end_lease(range.iova, range.len, gather) {
            Ok(gone) => gone,
            // A translation that is retired has ended it.
            Err(MapError::Revoked) => true,
            Err(_) => ops.resolve(range.iova).is_none(),
        };
        machine.promises.check(Promise::UnreachableBeforeFree, gone, || {
            format!("{}: {} still translates after its lease has ended", self.label(), range.iova)
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::string::String;

    use super::*;
    use crate::addr::{DeviceAddr, PAGE_SIZE};
    use crate::context::Context;
    use crate::device::NodeId;
    use crate::env::RamUse;
    use crate::env::fake::FakeEnv;
    use crate::iommu::Geometry;
    use crate::iommu::multi_iommu::MultiIommu;
    use crate::iommu::pgtable::{BLOCK_SIZES, Config, Lpae64, PageTable, TableFrames};
    use crate::iommu::regions::Pages;
    use crate::machine::Policy;
    use crate::mem::PhysMemory;
    use crate::mem::fake::FakeMemory;
    use crate::sync::SpinLock;

    struct Share(SpinLock<PageTable<Lpae64>>);

    impl Share {
        fn new() -> Arc<Self> {
            let ram = FakeMemory::new(&[(0x8000_0000, 16 << 12, RamUse::Frames)]);
            let frames = Arc::clone(PhysMemory::new(ram.clone()).frames());
            let context = Context::new(FakeEnv::with_memory(ram.clone()), None);
            let pages = TableFrames::new(&context, frames, PhysAddr(u64::MAX));
            let config = Config { input_bits: 32, output_bits: 40, block_sizes: BLOCK_SIZES, coherent_walk: true };
            Arc::new(Self(SpinLock::new(PageTable::new(Arc::new(pages), ram, config).unwrap())))
        }
    }

    impl Translation for Share {
        fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
            self.0.lock().map(iova, phys, len, prot)
        }
        fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
            self.0.lock().unmap(iova, len, gather)
        }
        fn lease(&self, iova: DeviceAddr, len: u64) -> Option<Lease> {
            self.0.lock().lease(iova, len)
        }
        fn end_lease(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<bool, MapError> {
            self.0.lock().end_lease(iova, len, gather)
        }
        fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
            Ok(())
        }
        fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
            self.0.lock().resolve(iova).map(|(phys, _)| phys)
        }
        fn label(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn a_second_iommu_ends_the_use_of_leases_and_what_they_mapped_is_unmapped_all_the_same() {
        let machine = FakeEnv::new().machine(Policy::default());
        let (one, two) = (Share::new(), Share::new());
        let multi = Arc::new(MultiIommu::new(NodeId(0), Arc::<Share>::clone(&one)));
        let last = DeviceAddr(u32::MAX.into());
        let geometry = Geometry { first: DeviceAddr(0), last, page_sizes: PAGE_SIZE, reserved: alloc::vec::Vec::new() };
        let domain = Domain::with_regions(DomainKind::Strict, &multi, &geometry, &Pages::default());
        let range = Range { iova: DeviceAddr(0x10_0000), len: PAGE_SIZE };
        let mut lease = domain.lease(range).unwrap();
        assert!(domain.can_map_by_lease());
        let device: Arc<str> = "device".into();
        let to = (PhysAddr(0x9000_0000), Prot::READ);
        assert!(domain.map_leased(&machine, (&device, "single"), range, &mut lease, to).is_ok());
        multi.add(NodeId(1), Arc::<Share>::clone(&two));
        assert!(!domain.can_map_by_lease(), "the second one would not have what a lease maps");
        assert!(domain.lease(Range { iova: DeviceAddr(0x20_0000), len: PAGE_SIZE }).is_none());
        let (mut gather, mut tally) = (Gather::new(), CheckTally::default());
        assert_eq!(domain.remove_leased(&machine, range.len, &mut lease, &mut gather, &mut tally), Ok(()));
        assert!(domain.invalidate_in_place(&machine, &mut gather).is_ok());
        assert_eq!((one.resolve(range.iova), two.resolve(range.iova)), (None, None), "P2");
        drop(lease);
        domain.end_lease(&machine, range, &mut gather);
        assert_eq!(domain.translation().map(range.iova, to.0, PAGE_SIZE, to.1), Ok(()), "both have it now");
        assert_eq!((one.resolve(range.iova), two.resolve(range.iova)), (Some(to.0), Some(to.0)));
        assert_eq!(machine.promises().broken(), []);
        gather.free_tables();
    }

    #[test]
    fn only_domains_whose_addresses_the_core_chooses_lease() {
        let geometry = Geometry {
            first: DeviceAddr(0),
            last: DeviceAddr(u32::MAX.into()),
            page_sizes: PAGE_SIZE,
            reserved: alloc::vec::Vec::new(),
        };
        for kind in [DomainKind::Unmanaged, DomainKind::Identity, DomainKind::Blocked] {
            let domain = Domain::new(kind, Share::new(), &geometry);
            assert!(domain.lease(Range { iova: DeviceAddr(0x10_0000), len: PAGE_SIZE }).is_none(), "{kind}");
        }
    }
}
