//! Reserved regions of a group's members, and the domain that maps them for idle streams.
//!
//! Idle streams of a device with direct regions are not attached to the blocked domain but to one that maps only these
//! regions, so that DMA that firmware has started (such as a display with a boot logo) continues.

#[cfg(all(test, not(loom)))]
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::group::Stream;
use super::{DomainKind, Geometry, IommuError, MapError, Prot, Translation};
use crate::addr::{DeviceAddr, PAGE_SHIFT, PhysAddr};
use crate::device::{NodeId, RegionKind, ReservedRegion};

/// Set of pages, by number: disjoint runs (first, end), sorted.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Pages(Vec<(u64, u64)>);

impl Pages {
    /// Pages that hold the regions of `list` for which `which` is true.
    pub(super) fn of<'r>(
        list: impl IntoIterator<Item = &'r ReservedRegion>,
        which: impl Fn(RegionKind) -> bool,
    ) -> Self {
        let page = |addr: DeviceAddr| addr.0 >> PAGE_SHIFT;
        let runs = list.into_iter().filter(|r| which(r.kind)).map(|r| (page(r.first), page(r.last) + 1));
        Self::from_runs(runs.collect())
    }

    fn from_runs(mut runs: Vec<(u64, u64)>) -> Self {
        runs.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, end) in runs {
            match joined.last_mut() {
                Some(last) if first <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((first, end)),
            }
        }
        Self(joined)
    }

    /// Set of one run.
    pub(super) fn run(first: u64, end: u64) -> Self {
        Self(Vec::from([(first, end)]))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Pages that are not in `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for &(mut first, end) in &self.0 {
            for &(hole, hole_end) in &other.0 {
                if first < hole.min(end) {
                    left.push((first, hole.min(end)));
                }
                first = first.max(hole_end);
            }
            if first < end {
                left.push((first, end));
            }
        }
        Self(left)
    }

    /// Union of both.
    pub(super) fn with(&self, other: &Self) -> Self {
        Self::from_runs(self.0.iter().chain(&other.0).copied().collect())
    }

    /// True when one of them overlaps the `len` bytes at `addr`.
    pub(super) fn touch(&self, addr: DeviceAddr, len: u64) -> bool {
        let last = addr.0.saturating_add(len.saturating_sub(1)) >> PAGE_SHIFT;
        self.0.iter().any(|(first, end)| *first <= last && addr.0 >> PAGE_SHIFT < *end)
    }

    /// The runs: first page, and one past the last one.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// First and last address of each run.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (DeviceAddr, DeviceAddr)> + '_ {
        self.0
            .iter()
            .map(|(first, end)| (DeviceAddr(first << PAGE_SHIFT), DeviceAddr((end << PAGE_SHIFT).wrapping_sub(1))))
    }

    /// Identity maps each run, with `map`. Runs before one that fails stay mapped.
    pub(super) fn map(
        &self,
        prot: Prot,
        mut map: impl FnMut(DeviceAddr, PhysAddr, u64, Prot) -> Result<(), MapError>,
    ) -> Result<(), IommuError> {
        for (first, last) in self.ranges() {
            let len = (last.0 - first.0).saturating_add(1);
            let mapped = map(first, PhysAddr(first.0), len, prot);
            mapped.map_err(|why| IommuError::RegionNotMapped { first, last, why })?;
        }
        Ok(())
    }
}

/// Reserved regions of one member.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) device: Arc<str>,
    /// Its streams in the group.
    pub(super) streams: Vec<Stream>,
    pub(super) list: Arc<[ReservedRegion]>,
    pub(super) coherent: bool,
}

impl Member {
    pub(super) fn has_direct(&self) -> bool {
        self.list.iter().any(|r| r.kind.is_direct())
    }
}

/// Members of a group that have reserved regions.
#[derive(Default)]
pub(super) struct Regions {
    pub(super) members: Vec<Member>,
}

impl Regions {
    /// Adds a stream of a device, if the device has regions.
    pub(super) fn add(&mut self, device: &Arc<str>, stream: Stream, list: &[ReservedRegion], coherent: bool) {
        if list.is_empty() {
            return;
        }
        match self.members.iter_mut().find(|m| m.device == *device) {
            Some(member) if member.streams.contains(&stream) => {}
            Some(member) => member.streams.push(stream),
            None => {
                let streams = Vec::from([stream]);
                self.members.push(Member { device: Arc::clone(device), streams, list: list.into(), coherent });
            }
        }
    }

    fn all(&self) -> impl Iterator<Item = &ReservedRegion> {
        self.members.iter().flat_map(|m| m.list.iter())
    }

    /// True when `stream` belongs to a device with direct regions.
    pub(super) fn has_direct(&self, stream: Stream) -> bool {
        self.members.iter().any(|m| m.has_direct() && m.streams.contains(&stream))
    }

    /// False when `error` is about regions of other devices than `device`.
    pub(super) fn concerns(&self, error: &IommuError, device: &str) -> bool {
        let (IommuError::RegionInUse { first, last } | IommuError::RegionNotMapped { first, last, .. }) = error else {
            return true;
        };
        let own = self.members.iter().filter(|m| &*m.device == device).flat_map(|m| m.list.iter());
        Pages::of(own, |_| true).touch(*first, (last.0 - first.0).saturating_add(1))
    }

    /// Streams at `node` of devices with direct regions.
    pub(super) fn streams_at(&self, node: NodeId) -> Vec<Stream> {
        let direct = self.members.iter().filter(|m| m.has_direct());
        let mut streams: Vec<_> = direct.flat_map(|m| m.streams.iter()).filter(|s| s.iommu == node).copied().collect();
        streams.sort_unstable();
        streams.dedup();
        streams
    }

    /// Pages of the direct regions of those devices.
    pub(super) fn pages_at(&self, node: NodeId) -> Pages {
        let here = self.members.iter().filter(|m| m.streams.iter().any(|s| s.iommu == node));
        Pages::of(here.flat_map(|m| m.list.iter()), RegionKind::is_direct)
    }

    /// Pages that are identity mapped in each domain of this kind.
    pub(super) fn direct(&self, kind: DomainKind) -> Pages {
        Pages::of(self.all(), |k| match kind {
            DomainKind::Strict | DomainKind::Lazy => k.is_direct(),
            // No device of such a group can be opened, and its owner has nothing mapped.
            DomainKind::Unmanaged => k == RegionKind::Direct,
            DomainKind::Blocked | DomainKind::Identity => false,
        })
    }

    /// Pages that are reserved in a domain of this kind.
    pub(super) fn holes(&self, kind: DomainKind) -> Pages {
        let unmanaged = kind == DomainKind::Unmanaged;
        Pages::of(self.all(), |k| match k {
            // A pass-through owner has taken the device over and may use relaxable regions.
            RegionKind::DirectRelaxable => !unmanaged,
            // Elsewhere doorbells get addresses as all else does.
            RegionKind::SoftwareMsi => unmanaged,
            RegionKind::Direct | RegionKind::Reserved | RegionKind::Msi => true,
        })
    }

    /// Access rights of the mapped regions.
    pub(super) fn prot(&self) -> Prot {
        let snoops = self.members.iter().filter(|m| m.has_direct()).all(|m| m.coherent);
        Prot::READ | Prot::WRITE | if snoops { Prot::COHERENT } else { Prot::empty() }
    }

    /// The first region that forbids pass-through, and its device.
    pub(super) fn strict(&self) -> Option<(&Arc<str>, ReservedRegion)> {
        let of = |m: &'_ Member| m.list.iter().find(|r| r.kind == RegionKind::Direct).copied();
        self.members.iter().find_map(|m| Some((&m.device, of(m)?)))
    }

    /// All regions, and the reserved ranges of the IOMMUs, as `reserved_regions` lists them: sorted, adjacent ones of
    /// one kind joined (linux-6.12 `drivers/iommu/iommu.c`, `iommu_insert_resv_region`).
    pub(super) fn listed(&self, geometries: impl Iterator<Item = Geometry>) -> Vec<ReservedRegion> {
        let of_iommu = |(first, last)| ReservedRegion { first, last, kind: RegionKind::Reserved };
        let mut all: Vec<_> = geometries.flat_map(|g| g.reserved).filter(|(a, b)| a <= b).map(of_iommu).collect();
        all.extend(self.all().copied());
        all.sort_unstable();
        let mut listed: Vec<ReservedRegion> = Vec::new();
        for region in all {
            match listed.iter_mut().rev().find(|r| r.kind == region.kind) {
                Some(r) if region.first.0 <= r.last.0.saturating_add(1) => r.last = r.last.max(region.last),
                _ => listed.push(region),
            }
        }
        listed
    }
}

/// Domain of idle streams of devices with direct regions: it maps these regions only.
#[derive(Clone)]
pub(super) struct RegionDomain {
    pub(super) ops: Arc<dyn Translation>,
    mapped: Pages,
}

impl RegionDomain {
    /// A domain without mappings.
    pub(super) fn new(ops: Arc<dyn Translation>) -> Self {
        Self { ops, mapped: Pages::default() }
    }

    /// True when it maps pages that are not in `pages`.
    pub(super) fn exceeds(&self, pages: &Pages) -> bool {
        !self.mapped.without(pages).is_empty()
    }

    /// Maps the missing runs of `pages`; failures go to `errors`.
    pub(super) fn grow(&mut self, pages: &Pages, prot: Prot, errors: &mut Vec<IommuError>) {
        for (first, end) in pages.without(&self.mapped).runs() {
            let run = Pages::run(first, end);
            match run.map(prot, |iova, phys, len, prot| self.ops.map(iova, phys, len, prot)) {
                Ok(()) => self.mapped = self.mapped.with(&run),
                Err(e) => errors.push(e),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::iommu::StreamId;

    /// One translation serves all members, so it is as the least of them needs it; one without a region has no say.
    #[test]
    fn a_region_is_mapped_as_coherent_only_if_every_device_that_reaches_it_snoops() {
        let kinds = [RegionKind::Direct, RegionKind::DirectRelaxable, RegionKind::Reserved];
        for members in 0..1_u32 << 6 {
            let mut regions = Regions::default();
            let mut expected = true;
            for n in 0..3 {
                let (coherent, kind) = (members >> n & 1 != 0, kinds[(n + (members >> 3) as usize) % 3]);
                let (name, stream) = (format!("{n}").into(), Stream { iommu: NodeId(0), id: StreamId(n as u32) });
                let region = ReservedRegion { first: DeviceAddr(0), last: DeviceAddr(0xfff), kind };
                regions.add(&name, stream, &[region], coherent);
                expected &= coherent || !kind.is_direct();
            }
            assert_eq!(regions.prot().contains(Prot::COHERENT), expected, "{members:#b}");
        }
    }
    /// The set of the pages whose bits are set.
    fn set(bits: u64) -> Pages {
        let page = |n: u64| ReservedRegion {
            first: DeviceAddr(n << PAGE_SHIFT),
            last: DeviceAddr((n << PAGE_SHIFT) + 0xfff),
            kind: RegionKind::Reserved,
        };
        Pages::of(&(0..7).rev().filter(|n| bits >> n & 1 != 0).map(page).collect::<Vec<_>>(), |_| true)
    }

    #[test]
    fn sets_of_pages_agree_with_sets_of_bits() {
        for a in 0..1_u64 << 7 {
            let pages = set(a);
            let bits = pages.runs().flat_map(|(first, end)| first..end).fold(0, |bits, page| bits | 1 << page);
            assert_eq!((bits, pages.is_empty()), (a, a == 0));
            for b in 0..1_u64 << 7 {
                assert_eq!(pages.with(&set(b)), set(a | b), "{a:#b} with {b:#b}");
                assert_eq!(pages.without(&set(b)), set(a & !b), "{a:#b} without {b:#b}");
            }
            let whole = pages.ranges().all(|(first, last)| first.page_offset() == 0 && last.page_offset() == 0xfff);
            assert!(whole, "{a:#b}: {pages:?}");
        }
    }

    #[test]
    fn a_range_touches_the_pages_of_its_first_and_last_byte_and_no_others() {
        for bits in 0..1_u64 << 6 {
            for (first, last) in (0..6).flat_map(|first| (first..6).map(move |last| (first, last))) {
                let expected = (first..=last).any(|page| bits >> page & 1 != 0);
                for (from, to) in [(0, 0xfff), (0xfff, 0xfff), (0, 0), (0xfff, 0)] {
                    let (from, to) = ((first << PAGE_SHIFT) + from, (last << PAGE_SHIFT) + to);
                    if from <= to {
                        let touched = set(bits).touch(DeviceAddr(from), to - from + 1);
                        assert_eq!(touched, expected, "{bits:#b}, {from:#x} to {to:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_each_kind_of_domain_maps_and_reserves() {
        use RegionKind::{Direct, DirectRelaxable, Msi, Reserved, SoftwareMsi};
        let mut regions = Regions::default();
        let kinds = [Direct, DirectRelaxable, Reserved, Msi, SoftwareMsi];
        let list: Vec<_> = (0..)
            .zip(kinds)
            // Every other page, so that each stays a run of its own.
            .map(|(n, kind)| ReservedRegion {
                first: DeviceAddr((2 * n) << PAGE_SHIFT),
                last: DeviceAddr(((2 * n) << PAGE_SHIFT) + 0xfff),
                kind,
            })
            .collect();
        let (at, other) = (Stream { iommu: NodeId(3), id: StreamId(1) }, Stream { iommu: NodeId(4), id: StreamId(1) });
        regions.add(&"a".into(), at, &list, true);
        regions.add(&"without".into(), other, &[], true);
        let held = |pages: &Pages| {
            let kind = |(first, end): (u64, u64)| (end == first + 1).then(|| kinds[(first / 2) as usize]);
            pages.runs().filter_map(kind).collect::<Vec<_>>()
        };
        for (kind, mapped, reserved) in [
            (DomainKind::Strict, &[Direct, DirectRelaxable][..], &[Direct, DirectRelaxable, Reserved, Msi][..]),
            (DomainKind::Lazy, &[Direct, DirectRelaxable], &[Direct, DirectRelaxable, Reserved, Msi]),
            (DomainKind::Unmanaged, &[Direct], &[Direct, Reserved, Msi, SoftwareMsi]),
            (DomainKind::Identity, &[], &[Direct, DirectRelaxable, Reserved, Msi]),
            (DomainKind::Blocked, &[], &[Direct, DirectRelaxable, Reserved, Msi]),
        ] {
            assert_eq!(held(&regions.direct(kind)), mapped, "mapped in {kind:?}");
            assert_eq!(held(&regions.holes(kind)), reserved, "reserved in {kind:?}");
        }
        assert_eq!(
            (held(&regions.pages_at(NodeId(3))), held(&regions.pages_at(NodeId(4)))),
            ([Direct, DirectRelaxable].into(), Vec::new())
        );
        assert_eq!((regions.streams_at(NodeId(3)), regions.streams_at(NodeId(4))), (Vec::from([at]), Vec::new()));
        assert!(regions.has_direct(at) && !regions.has_direct(other));
        // A second stream of the same device, once.
        for _ in 0..2 {
            regions.add(&"a".into(), other, &list, true);
        }
        assert_eq!(regions.streams_at(NodeId(4)), [other]);
        assert_eq!(regions.members.len(), 1);
    }

    #[test]
    fn an_error_about_a_region_concerns_the_devices_that_have_it() {
        let mut regions = Regions::default();
        let region = |page: u64| ReservedRegion {
            first: DeviceAddr(page << PAGE_SHIFT),
            last: DeviceAddr((page << PAGE_SHIFT) + 0xfff),
            kind: RegionKind::Direct,
        };
        let stream = |id| Stream { iommu: NodeId(0), id: StreamId(id) };
        regions.add(&"a".into(), stream(0), &[region(4)], true);
        regions.add(&"b".into(), stream(1), &[region(5)], true);
        let (first, last) = (region(5).first, region(5).last);
        let in_use = IommuError::RegionInUse { first, last };
        let unmapped = IommuError::RegionNotMapped { first, last, why: MapError::OutOfMemory };
        for error in [in_use, unmapped] {
            assert!(!regions.concerns(&error, "a") && regions.concerns(&error, "b"), "{error:?}");
        }
        assert!(regions.concerns(&IommuError::Dead, "a"), "what is not about a region is about everybody");
    }

    #[test]
    fn the_list_of_regions_is_sorted_and_joins_neighbours_of_one_kind() {
        let region =
            |first: u64, last: u64, kind| ReservedRegion { first: DeviceAddr(first), last: DeviceAddr(last), kind };
        let mut regions = Regions::default();
        let stream = Stream { iommu: NodeId(0), id: StreamId(0) };
        let own = [
            region(0x9000, 0x9fff, RegionKind::Msi),
            region(0x3000, 0x3fff, RegionKind::Direct),
            region(0x4000, 0x4fff, RegionKind::Direct),
            region(0x6000, 0x6fff, RegionKind::Direct),
        ];
        regions.add(&"a".into(), stream, &own, true);
        // The second one is none: it ends before it begins.
        let reserved = Vec::from([(DeviceAddr(0x2000), DeviceAddr(0x2fff)), (DeviceAddr(1), DeviceAddr(0))]);
        let geometry = Geometry { first: DeviceAddr(0), last: DeviceAddr(u64::MAX), page_sizes: 1 << 12, reserved };
        let expected = [
            region(0x2000, 0x2fff, RegionKind::Reserved),
            region(0x3000, 0x4fff, RegionKind::Direct),
            region(0x6000, 0x6fff, RegionKind::Direct),
            region(0x9000, 0x9fff, RegionKind::Msi),
        ];
        assert_eq!(regions.listed([geometry].into_iter()), expected);
        assert_eq!(regions.strict().map(|(device, region)| (&**device, region)), Some(("a", own[1])));
    }
}
