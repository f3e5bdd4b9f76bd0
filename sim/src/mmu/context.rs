//! A context: what it translates, and what its caches have of it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use bindery::addr::{DeviceAddr, PAGE_SIZE};

use super::tables::{Place, Walk};

#[derive(Debug, Default)]
pub(super) struct Context {
    /// What calls have mapped, of one that does not walk.
    pub(super) table: BTreeMap<u64, u64>,
    /// The page table in memory, of one that walks.
    pub(super) walk: Option<Walk>,
    pub(super) iotlb: BTreeMap<u64, BTreeSet<u64>>,
    /// Tables that the walk cache has the way to.
    pub(super) ways: BTreeSet<Place>,
    /// Disabled: nothing is translated any more.
    pub(super) off: bool,
    /// It is to be disabled, once the hardware answers: no table is walked, and the caches have what they had.
    pub(super) leaving: bool,
    /// Nothing is ever mapped in it.
    pub(super) blocks: bool,
}

impl Context {
    /// What the table has, as (device address, page), and tables that are not linked any more have to which the walk cache has the way.
    pub(super) fn entries(&self) -> BTreeSet<(u64, u64)> {
        let Some(walk) = &self.walk else { return self.table.iter().map(|(at, page)| (*at, *page)).collect() };
        let found = walk.all();
        let unlinked = self.ways.iter().filter(|way| !found.ways.contains(way));
        let unlinked = unlinked.flat_map(|way| walk.below(*way).pages).collect::<Vec<_>>();
        found.pages.into_iter().chain(unlinked).collect()
    }

    /// What the table has at the page `at`.
    pub(super) fn lookup(&self, at: u64) -> Option<u64> {
        match &self.walk {
            Some(walk) => walk.page(at).map(|(page, _)| page),
            None => self.table.get(&at).copied(),
        }
    }

    /// Translates the page `at` as hardware does, which caches it.
    pub(super) fn translate(&mut self, at: u64) -> Option<u64> {
        if self.off {
            return None;
        }
        let cached = self.iotlb.get(&at).and_then(|pages| pages.first()).copied();
        let found = cached.or_else(|| match &self.walk {
            Some(walk) => walk.page(at).map(|(page, ways)| {
                self.ways.extend(ways);
                page
            }),
            None => self.table.get(&at).copied(),
        })?;
        self.iotlb.entry(at).or_default().insert(found);
        Some(found)
    }

    /// Its devices access all that is mapped: the caches have it.
    pub(super) fn access(&mut self) {
        if self.walk.is_some() {
            return self.access_walked();
        }
        if !self.off {
            for (at, page) in &self.table {
                self.iotlb.entry(*at).or_default().insert(*page);
            }
        }
    }

    /// The same, of one that walks.
    pub(super) fn access_walked(&mut self) {
        let Some(walk) = self.walk.as_ref().filter(|_| !self.off) else { return };
        let found = walk.all();
        for (at, page) in found.pages {
            self.iotlb.entry(at).or_default().insert(page);
        }
        self.ways.extend(found.ways);
    }

    /// What the IOTLB has between `first` and `last` although the table has it no more.
    pub(super) fn stale(&self, (first, last): (DeviceAddr, DeviceAddr)) -> Vec<(u64, u64)> {
        let cached = self.iotlb.range(first.0..=last.0).flat_map(|(at, pages)| pages.iter().map(|page| (*at, *page)));
        cached.filter(|(at, page)| self.lookup(*at) != Some(*page)).collect()
    }

    pub(super) fn forget(&mut self, entries: &[(u64, u64)]) {
        for (at, page) in entries {
            if let Some(pages) = self.iotlb.get_mut(at) {
                pages.remove(page);
            }
        }
        self.iotlb.retain(|_, pages| !pages.is_empty());
    }

    /// An invalidation of what the IOTLB has of this range.
    pub(super) fn invalidate(&mut self, (first, last): (DeviceAddr, DeviceAddr)) {
        self.iotlb.retain(|at, _| *at < first.0 || *at > last.0);
    }

    /// An invalidation of the ways to tables for this range.
    pub(super) fn forget_ways(&mut self, (first, last): (DeviceAddr, DeviceAddr)) {
        self.ways.retain(|way| way.first > last.0 || way.last() < first.0);
    }

    /// Hashes what decides the further behaviour; `number` numbers pages.
    pub(super) fn hash_state(&self, state: &mut impl Hasher, number: &mut impl FnMut(u64) -> usize) {
        (self.off, self.leaving, self.blocks).hash(state);
        for (at, page) in self.entries() {
            (at, number(page)).hash(state);
        }
        for (at, cached) in &self.iotlb {
            at.hash(state);
            for page in cached {
                number(*page).hash(state);
            }
        }
        let linked = self.walk.as_ref().map(|walk| walk.all().ways).unwrap_or_default();
        for way in &self.ways {
            (way.level, way.first, linked.contains(way)).hash(state);
        }
    }

    /// Maps a range in a table that calls change. False when a part of it is mapped already.
    pub(super) fn map(&mut self, iova: u64, phys: u64, len: u64) -> bool {
        let pages = || (0..len).step_by(PAGE_SIZE as usize);
        if pages().any(|at| self.table.contains_key(&(iova + at))) {
            return false;
        }
        for at in pages() {
            self.table.insert(iova + at, phys + at);
            // As if the device accessed it at once: the IOTLB caches it.
            self.iotlb.entry(iova + at).or_default().insert(phys + at);
        }
        true
    }

    /// Unmaps a range there. The error is the first address at which nothing is mapped.
    pub(super) fn unmap(&mut self, iova: u64, len: u64) -> Result<(), u64> {
        let pages = || (0..len).step_by(PAGE_SIZE as usize).map(|at| iova + at);
        if let Some(missing) = pages().find(|at| !self.table.contains_key(at)) {
            return Err(missing);
        }
        for at in pages() {
            self.table.remove(&at);
        }
        Ok(())
    }
}
