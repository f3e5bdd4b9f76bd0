//! What a domain remembers of mappings and of addresses that are not its own to give, beside plain lists.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::iommu::IommuError;
use crate::iommu::places::REMEMBERED;

/// A translation of nothing.
struct Nothing;

impl Translation for Nothing {
    fn map(&self, _: DeviceAddr, _: PhysAddr, _: u64, _: Prot) -> Result<(), MapError> {
        Ok(())
    }
    fn unmap(&self, _: DeviceAddr, _: u64, _: &mut Gather) -> Result<(), MapError> {
        Ok(())
    }
    fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
        Ok(())
    }
    fn resolve(&self, _: DeviceAddr) -> Option<PhysAddr> {
        None
    }
    fn label(&self) -> String {
        "nothing".into()
    }
}

/// Pages of the domains here, from page 1 on.
const PAGES: u64 = 32;

fn domain(kind: DomainKind) -> Arc<Domain> {
    let last = DeviceAddr(PAGES * PAGE_SIZE - 1);
    let geometry = Geometry { first: DeviceAddr(0), last, page_sizes: PAGE_SIZE, reserved: Vec::new() };
    Domain::new(kind, Arc::new(Nothing), &geometry)
}

/// A small deterministic generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn range(first: u64, pages: u64) -> Range {
    Range { iova: DeviceAddr(first * PAGE_SIZE), len: pages * PAGE_SIZE }
}

fn region(first: u64, last: u64) -> ReservedRegion {
    let last = DeviceAddr(last * PAGE_SIZE + (PAGE_SIZE - 1));
    ReservedRegion { first: DeviceAddr(first * PAGE_SIZE), last, kind: RegionKind::Reserved }
}

#[test]
fn an_address_is_explained_by_the_mapping_that_covers_it_or_the_last_one_that_did() {
    let (domain, mut random) = (domain(DomainKind::Strict), Random(3));
    let devices: [Arc<str>; 2] = ["disk".into(), "net".into()];
    // First page, pages and device.
    let mut live: Vec<(u64, u64, usize)> = Vec::new();
    let mut ended: Vec<(u64, u64, usize)> = Vec::new();
    let text = |at: DeviceAddr, device: &str| format!("single of {device} at {at}, still mapped");
    let former = |at: DeviceAddr, len: u64, device: &str| {
        format!("single at {at}, {:#x} bytes, mapped and freed by {device}", len * PAGE_SIZE)
    };
    for _ in 0..if cfg!(miri) { 50 } else { 600 } {
        let (first, len, device) = (1 + random.below(28), 1 + random.below(3), random.below(2) as usize);
        if let Some(there) = live.iter().position(|(at, pages, _)| *at < first + len && first < at + pages) {
            let gone = live.swap_remove(there);
            domain.record_end(range(gone.0, gone.1).iova);
            ended.push(gone);
        } else {
            domain.record_mapped(range(first, len), &devices[device], "single");
            live.push((first, len, device));
        }
        for byte in (0..PAGES).flat_map(|page| [page * PAGE_SIZE, page * PAGE_SIZE + (PAGE_SIZE - 1)]) {
            for of in [None, Some(&devices[..1]), Some(&devices[1..])] {
                let fits = |(at, pages, device): &&(u64, u64, usize)| {
                    (at * PAGE_SIZE..(at + pages) * PAGE_SIZE).contains(&byte)
                        && of.is_none_or(|of| of.contains(&devices[*device]))
                };
                let current = live.iter().find(fits).map(|m| text(range(m.0, 1).iova, &devices[m.2]));
                let last = ended.iter().rev().position(|m| fits(&m));
                let last = last.filter(|_| current.is_none());
                let expected = current.or_else(|| {
                    let m = ended.iter().rev().nth(last?)?;
                    Some(former(range(m.0, 1).iova, m.1, &devices[m.2]))
                });
                let explained = domain.explain(DeviceAddr(byte), of);
                // Older ones may be forgotten, but are not mistaken.
                let forgotten = last.is_some_and(|n| n >= REMEMBERED) && explained.is_none();
                assert!(explained == expected || forgotten, "{byte:#x} of {of:?}: {explained:?}, not {expected:?}");
            }
        }
    }
    // With the domain its mappings end.
    let history = domain.take_history();
    for (at, pages, device) in &live {
        let at = range(*at, 1).iova;
        assert_eq!(history.explain(at, None), Some(former(at, *pages, &devices[*device])));
        assert_eq!(domain.explain(at, None), None);
    }
}

/// Claims, reservations and their ends in an unmanaged domain, page by page.
#[test]
fn addresses_that_an_owner_chooses_are_claimed_and_reserved_as_plain_sets_of_pages_say() {
    let (domain, mut random) = (domain(DomainKind::Unmanaged), Random(4));
    let mut reserved: BTreeSet<u64> = BTreeSet::new();
    let mut claims: Vec<(u64, u64)> = Vec::new();
    let mut most = 0;
    for step in 0..if cfg!(miri) { 100 } else { 3000 } {
        let (first, pages) = (random.below(PAGES), 1 + random.below(4));
        let own = first..first + pages;
        let claimed = |claims: &[(u64, u64)], page: u64| claims.iter().any(|(at, n)| (*at..at + n).contains(&page));
        match random.below(8) {
            0 if reserved.len() < 8 => {
                // Without those that are reserved already, each run that is left is reserved as a whole or not at all.
                let mut runs: Vec<Vec<u64>> = Vec::new();
                for page in own.filter(|page| !reserved.contains(page)) {
                    match runs.last_mut() {
                        Some(run) if run.last() == Some(&(page - 1)) => run.push(page),
                        _ => runs.push(Vec::from([page])),
                    }
                }
                let (in_use, free): (Vec<_>, Vec<_>) =
                    runs.into_iter().partition(|run| run.iter().any(|page| claimed(&claims, *page)));
                reserved.extend(free.into_iter().flatten());
                let left = domain.reserve(&Pages::run(first, first + pages));
                let left: Vec<u64> = left.runs().flat_map(|(a, b)| a..b).collect();
                assert_eq!(left, in_use.into_iter().flatten().collect::<Vec<_>>(), "step {step}");
            }
            1..4 => {
                let free = own.clone().all(|page| !reserved.contains(&page));
                assert_eq!(domain.claim_fixed(range(first, pages)), free, "step {step}: {own:?}");
                claims.extend(free.then_some((first, pages)));
            }
            4 => {
                let (other, others) = (random.below(PAGES), 1 + random.below(3));
                let expected =
                    own.clone().find(|page| !(other..other + others).contains(page) && !claimed(&claims, *page));
                let page = domain.claim_page(&region(first, first + pages - 1), &[region(other, other + others - 1)]);
                assert_eq!(page, expected.map(|page| range(page, 1)), "step {step}: {own:?} {claims:?}");
                claims.extend(expected.map(|page| (page, 1)));
            }
            _ if !claims.is_empty() => {
                let (at, pages) = claims.swap_remove(random.below(claims.len() as u64) as usize);
                domain.free_iova(range(at, pages));
            }
            _ => {}
        }
        most = most.max(claims.len());
        let held: BTreeMap<u64, usize> = claims.iter().fold(BTreeMap::new(), |mut held, (at, _)| {
            *held.entry(at * PAGE_SIZE).or_default() += 1;
            held
        });
        let known: BTreeMap<u64, usize> =
            domain.fixed.lock().mapped.iter().map(|(at, lens)| (at.0, lens.len())).collect();
        assert_eq!(known, held, "step {step}");
    }
    assert!(reserved.len() >= 8 && most > 3);
}

#[test]
fn a_region_that_comes_later_takes_what_is_free_of_a_managed_domain() {
    let domain = domain(DomainKind::Strict);
    let limits = AddressingLimits { limit: DeviceAddr(u64::MAX), windows: &[] };
    // The highest page.
    let taken = domain.iova.alloc_limited(1, limits).unwrap();
    assert_eq!(taken, range(PAGES - 1, 1).iova);
    let in_use = domain.reserve(&Pages::run(PAGES - 2, PAGES));
    assert_eq!(in_use, Pages::run(PAGES - 2, PAGES), "a part is in use");
    assert_eq!(domain.reserve(&Pages::run(PAGES - 3, PAGES - 1)), Pages::default());
    assert_eq!(domain.reserve(&Pages::run(PAGES - 4, PAGES - 1)), Pages::default(), "a part is reserved already");
    let given: BTreeSet<u64> =
        core::iter::from_fn(|| domain.iova.alloc_limited(1, limits).ok()).map(|at| at.0 / PAGE_SIZE).collect();
    assert_eq!(given, (1..PAGES - 4).collect(), "all but what is reserved and what was taken before");
}
