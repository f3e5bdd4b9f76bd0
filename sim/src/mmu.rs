//! Model of an IOMMU without registers: tables, an IOTLB that is only emptied by flushes, and injected faults.
//!
//! It implements the interface of an IOMMU driver itself, so it needs no driver but one that provides it, and is independent
//! of the core's records: tests ask it what each stream reaches. A stream that was never attached bypasses translation, as
//! in real hardware.

#![forbid(unsafe_code)]

mod driver;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindery::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use bindery::iommu::{Grouping, Iommu};

pub use self::driver::MmuDriver;
use self::driver::MmuIommu;

/// Memory that a stream reaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reachable {
    /// All of memory.
    Everything,
    /// These (device address, page) pairs, from the table and the IOTLB.
    Pages(BTreeSet<(u64, u64)>),
}

impl Reachable {
    /// No memory.
    pub fn nothing() -> Self {
        Self::Pages(BTreeSet::new())
    }
}

#[derive(Debug, Default)]
struct Context {
    table: BTreeMap<u64, u64>,
    iotlb: BTreeMap<u64, BTreeSet<u64>>,
    /// Disabled: nothing is translated any more.
    off: bool,
    /// It is to be disabled, once the hardware answers: no table is walked, and the IOTLB has what it had.
    leaving: bool,
    /// Nothing is ever mapped in it.
    blocks: bool,
}

impl Context {
    /// What the IOTLB has between `first` and `last` although the table has it no more.
    fn stale(&self, (first, last): (DeviceAddr, DeviceAddr)) -> Vec<(u64, u64)> {
        let cached = self.iotlb.range(first.0..=last.0).flat_map(|(at, pages)| pages.iter().map(|page| (*at, *page)));
        cached.filter(|(at, page)| self.table.get(at) != Some(page)).collect()
    }

    fn forget(&mut self, entries: &[(u64, u64)]) {
        for (at, page) in entries {
            if let Some(pages) = self.iotlb.get_mut(at) {
                pages.remove(page);
            }
        }
        self.iotlb.retain(|_, pages| !pages.is_empty());
    }
}

/// What happens while a flush is under way.
#[derive(Clone, Default)]
struct DuringFlush(Option<Arc<dyn Fn() + Send + Sync>>);

impl fmt::Debug for DuringFlush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "DuringFlush" } else { "-" })
    }
}

#[derive(Debug, Default)]
struct State {
    contexts: Vec<Context>,
    /// Context of each stream; a stream without one bypasses translation.
    streams: BTreeMap<u32, usize>,
    /// Streams whose last attachment failed, so that they still use the old context.
    refused: BTreeSet<u32>,
    /// A domain could not be made since the last [query](Mmu::take_domain_failed).
    domain_failed: bool,
    /// A fault was injected since the reset.
    fault_hit: bool,
    /// Calls of each kind that succeed before one fails; counted down.
    attach_fails_in: Option<u32>,
    domain_fails_in: Option<u32>,
    map_fails_in: Option<u32>,
    /// Number of following flushes that fail.
    flushes_to_fail: u32,
    during_flush: DuringFlush,
    /// Pages that a stream uses all the time, at the addresses that they have.
    watched: BTreeMap<u32, BTreeSet<u64>>,
    /// The first of these that a stream did not reach.
    lost: Option<(u32, u64)>,
    /// Number of contexts that translate, if it is limited.
    limit: Option<usize>,
    /// Last address that it translates, if that is not the last one of 32 bits.
    last: Option<u64>,
}

impl State {
    /// Looks whether streams that never pause still reach what they use.
    fn look(&mut self) {
        for (stream, pages) in &self.watched {
            // Without a context it bypasses translation.
            let Some(context) = self.streams.get(stream).map(|c| &self.contexts[*c]) else { continue };
            let is_reached = |page: &&u64| !context.off && context.table.get(page) == Some(page);
            if let Some(page) = pages.iter().find(|page| !is_reached(page)) {
                self.lost.get_or_insert((*stream, *page));
            }
        }
    }

    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.contexts.iter().filter(|c| !c.off && !c.blocks).count() >= limit)
    }
}

/// Model of the hardware.
#[derive(Debug)]
pub struct Mmu {
    name: String,
    grouping: Grouping,
    state: Mutex<State>,
}

/// Kind of injected fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A stream keeps its old context.
    Attach,
    /// No context is free.
    Domain,
    /// No memory for a table.
    Map,
    /// An invalidation is not confirmed, and the IOTLB keeps what it has.
    Flush,
}

/// Result of an access by a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// To this address; the page is the unit of translation.
    To(PhysAddr),
    /// Nothing is mapped there.
    Refused,
}

impl Mmu {
    /// Hardware after power-up: every stream bypasses translation.
    pub fn new(name: &str, grouping: Grouping) -> Arc<Self> {
        Arc::new(Self { name: name.into(), grouping, state: Mutex::default() })
    }

    /// Makes it translate the addresses up to `last` only. Called before its driver is bound.
    pub fn translate_up_to(&self, last: u64) {
        self.lock().last = Some(last);
    }

    /// From now on flushes take time, in which `act` is called: what was unmapped when a flush began, and no more, is forgotten when it
    /// ends.
    pub fn during_flushes(&self, act: impl Fn() + Send + Sync + 'static) {
        self.lock().during_flush = DuringFlush(Some(Arc::new(act)));
    }

    /// From now on `stream` uses `pages` all the time, at the addresses that they have, as a display does that firmware has
    /// set up: whatever takes one from it is [remembered](Self::lost), for however short a time.
    pub fn watch(&self, stream: u32, pages: BTreeSet<u64>) {
        let mut s = self.lock();
        s.watched.insert(stream, pages);
        s.look();
    }

    /// From now on `stream` uses, of what it used all the time, `pages` only.
    pub fn watch_only(&self, stream: u32, pages: &BTreeSet<u64>) {
        if let Some(watched) = self.lock().watched.get_mut(&stream) {
            watched.retain(|page| pages.contains(page));
        }
    }

    /// The first page that a watched stream did not reach, with the stream.
    pub fn lost(&self) -> Option<(u32, u64)> {
        self.lock().lost
    }

    /// Gives it `limit` contexts that translate. A blocked domain needs none.
    pub fn limit_contexts(&self, limit: usize) {
        self.lock().limit = Some(limit);
    }

    /// Returns true when no further context can be had.
    pub fn is_full(&self) -> bool {
        self.lock().is_full()
    }

    /// Makes the call of this kind after the next `after` ones fail; for flushes, the next `after + 1`.
    pub fn fail(&self, fault: Fault, after: u32) {
        let mut s = self.lock();
        match fault {
            Fault::Attach => s.attach_fails_in = Some(after),
            Fault::Domain => s.domain_fails_in = Some(after),
            Fault::Map => s.map_fails_in = Some(after),
            Fault::Flush => s.flushes_to_fail = after + 1,
        }
    }

    /// Returns true when the next flush fails.
    pub fn next_flush_fails(&self) -> bool {
        self.lock().flushes_to_fail > 0
    }

    /// Returns true when the next map fails.
    pub fn next_map_fails(&self) -> bool {
        self.lock().map_fails_in == Some(0)
    }

    /// Returns true when the next attachment fails.
    pub fn next_attach_fails(&self) -> bool {
        self.lock().attach_fails_in == Some(0)
    }

    /// Injects no further faults.
    pub fn clear_faults(&self) {
        let mut s = self.lock();
        (s.attach_fails_in, s.domain_fails_in, s.map_fails_in, s.flushes_to_fail) = (None, None, None, 0);
    }

    /// Reset: every stream bypasses translation, nothing is cached.
    pub fn reset(&self) {
        let mut s = self.lock();
        s.streams.clear();
        s.refused.clear();
        s.fault_hit = false;
        for context in &mut s.contexts {
            context.off = true;
        }
    }

    /// Accesses all mappings by each stream, so that the IOTLB caches them.
    pub fn access_everything(&self) {
        let mut s = self.lock();
        let used: BTreeSet<usize> = s.streams.values().copied().collect();
        for context in used {
            let Context { table, iotlb, off, .. } = &mut s.contexts[context];
            if !*off {
                for (at, page) in &*table {
                    iotlb.entry(*at).or_default().insert(*page);
                }
            }
        }
    }

    /// Memory that `stream` reaches now.
    pub fn reachable(&self, stream: u32) -> Reachable {
        let s = self.lock();
        let Some(context) = s.streams.get(&stream).map(|c| &s.contexts[*c]) else { return Reachable::Everything };
        if context.off {
            return Reachable::Pages(BTreeSet::new());
        }
        let cached = context.iotlb.iter().flat_map(|(at, pages)| pages.iter().map(|p| (*at, *p)));
        Reachable::Pages(context.table.iter().map(|(at, page)| (*at, *page)).chain(cached).collect())
    }

    /// Entries of the table of `stream`, without the IOTLB.
    pub fn table(&self, stream: u32) -> BTreeSet<(u64, u64)> {
        let s = self.lock();
        let context = s.streams.get(&stream).map(|c| &s.contexts[*c]).filter(|c| !c.off);
        context.into_iter().flat_map(|c| c.table.iter().map(|(at, page)| (*at, *page))).collect()
    }

    /// True when the IOTLB has no other translation of `at` by `stream` than that to `page`.
    pub fn leads_to(&self, stream: u32, at: u64, page: u64) -> bool {
        let s = self.lock();
        let context = s.streams.get(&stream).map(|c| &s.contexts[*c]);
        context.is_none_or(|c| c.iotlb.get(&at).is_none_or(|cached| cached.iter().all(|known| *known == page)))
    }

    /// True when the last attachment of `stream` failed.
    pub fn refused(&self, stream: u32) -> bool {
        self.lock().refused.contains(&stream)
    }

    /// True when a domain could not be made since the last call.
    pub fn take_domain_failed(&self) -> bool {
        core::mem::take(&mut self.lock().domain_failed)
    }

    /// True when a fault was injected since the reset.
    pub fn had_fault(&self) -> bool {
        self.lock().fault_hit
    }

    /// Translates an access of `stream`, as the hardware does: an entry that the IOTLB still has wins over the table.
    pub fn translate(&self, stream: u32, addr: u64) -> Access {
        let mut s = self.lock();
        let Some(context) = s.streams.get(&stream).copied() else { return Access::To(PhysAddr(addr)) };
        let Context { table, iotlb, off, .. } = &mut s.contexts[context];
        if *off {
            return Access::Refused;
        }
        let (page, offset) = (addr & !(PAGE_SIZE - 1), addr & (PAGE_SIZE - 1));
        let cached = iotlb.get(&page).and_then(|pages| pages.first()).copied();
        let found = cached.or_else(|| table.get(&page).copied());
        let Some(to) = found else { return Access::Refused };
        iotlb.entry(page).or_default().insert(to);
        Access::To(PhysAddr(to + offset))
    }

    /// Returns true when `stream` uses a context of a [blocked](bindery::iommu::DomainKind::Blocked) domain.
    pub fn is_blocked(&self, stream: u32) -> bool {
        let s = self.lock();
        s.streams.get(&stream).is_some_and(|context| s.contexts[*context].blocks)
    }

    /// Returns true when the accesses of `stream` pass untranslated.
    pub fn bypasses(&self, stream: u32) -> bool {
        !self.lock().streams.contains_key(&stream)
    }

    /// Returns true when the IOTLB has a translation to any of the `len` bytes at `base`.
    pub fn caches(&self, base: PhysAddr, len: u64) -> bool {
        let s = self.lock();
        let to = |page: &u64| *page < base.0.saturating_add(len) && base.0 < page + PAGE_SIZE;
        // One that is leaving is out of reach once no stream uses it.
        let is_used = |number: usize, c: &Context| !c.leaving || s.streams.values().any(|used| *used == number);
        let live = s.contexts.iter().enumerate().filter(|(number, c)| !c.off && is_used(*number, c));
        live.map(|(_, c)| c).any(|c| c.iotlb.values().flatten().any(to))
    }

    /// Hashes what decides the further behaviour: contexts of streams, with pages numbered in the order in which they are
    /// met, so that two states that differ by the choice of pages are equal; and pending faults.
    pub fn hash_state(&self, state: &mut impl Hasher) {
        let s = self.lock();
        let mut pages: Vec<u64> = Vec::new();
        let mut number = |page: u64| {
            pages.iter().position(|p| *p == page).unwrap_or_else(|| {
                pages.push(page);
                pages.len() - 1
            })
        };
        let mut contexts: Vec<usize> = Vec::new();
        for (stream, context) in &s.streams {
            let known = contexts.iter().position(|c| c == context);
            (stream, known).hash(state);
            if known.is_some() {
                continue;
            }
            contexts.push(*context);
            let Context { table, iotlb, off, leaving, blocks } = &s.contexts[*context];
            (off, leaving, blocks).hash(state);
            for (at, page) in table {
                (at, number(*page)).hash(state);
            }
            for (at, cached) in iotlb {
                at.hash(state);
                for page in cached {
                    number(*page).hash(state);
                }
            }
        }
        (s.refused.iter().collect::<Vec<_>>(), s.flushes_to_fail).hash(state);
        (s.attach_fails_in, s.domain_fails_in, s.map_fails_in).hash(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interface for the core. The driver of the IOMMU [resets](Self::reset) the hardware and provides this.
    pub fn iommu(self: &Arc<Self>) -> Arc<dyn Iommu> {
        Arc::new(MmuIommu(Arc::clone(self)))
    }
}

/// Counts down; true once, at the end.
fn fault_due(left: &mut Option<u32>) -> bool {
    match left {
        Some(0) => {
            *left = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}
