//! Model of an IOMMU without registers: tables, an IOTLB that is only emptied by flushes, and injected faults.
//!
//! It implements the interface of an IOMMU driver itself, so it needs no driver but one that provides it, and is independent
//! of the core's records: tests ask it what each stream reaches. A stream that was never attached bypasses translation, as
//! in real hardware.
//!
//! Its table is a map that calls change, or, of one that [walks](Mmu::walking), a page table in memory in one of the core's formats, whose
//! entries the driver leases: then it is told of nothing, and finds what is mapped as hardware does.

#![forbid(unsafe_code)]

mod context;
mod driver;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bindery::addr::{PAGE_SIZE, PhysAddr};
use bindery::iommu::{Grouping, Iommu};

use self::context::Context;
pub use self::driver::MmuDriver;
use self::driver::MmuIommu;
use self::tables::Tables;

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
    /// The first page of a table that was freed while the hardware could walk to it.
    freed_early: Option<u64>,
}

impl State {
    /// Looks whether streams that never pause still reach what they use.
    fn look(&mut self) {
        for (stream, pages) in &self.watched {
            // Without a context it bypasses translation.
            let Some(context) = self.streams.get(stream).map(|c| &self.contexts[*c]) else { continue };
            let is_reached = |page: &&u64| !context.off && context.lookup(**page) == Some(**page);
            if let Some(page) = pages.iter().find(|page| !is_reached(page)) {
                self.lost.get_or_insert((*stream, *page));
            }
        }
    }

    /// Contexts that streams use.
    fn used(&self) -> BTreeSet<usize> {
        self.streams.values().copied().collect()
    }

    /// Devices access all that is mapped for them: hardware that walks caches it. Other contexts cache when they are told of a map.
    fn access_walked(&mut self) {
        for number in self.used() {
            self.contexts[number].access_walked();
        }
    }

    /// Contexts of which something may be accessed: one that is leaving is out of reach once no stream uses it.
    fn live(&self) -> impl Iterator<Item = &Context> {
        let used = self.used();
        let contexts = self.contexts.iter().enumerate();
        contexts.filter(move |(number, c)| !c.off && (!c.leaving || used.contains(number))).map(|(_, c)| c)
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
    /// Memory of its page tables, if it walks.
    tables: Option<Tables>,
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
        Arc::new(Self { name: name.into(), grouping, tables: None, state: Mutex::default() })
    }

    /// The same hardware with page tables in a memory of their own, which it walks, not snooping the CPU's cache. It caches translations and
    /// the way to tables. Its driver leases entries.
    pub fn walking(name: &str, grouping: Grouping) -> Arc<Self> {
        Arc::new_cyclic(|me| {
            let tables = Some(Tables::new(me));
            Self { name: name.into(), grouping, tables, state: Mutex::default() }
        })
    }

    /// The first page of a table that was freed while the hardware could walk to it: reset and removal from the hardware apart, that takes
    /// an invalidation.
    pub fn freed_early(&self) -> Option<PhysAddr> {
        self.lock().freed_early.map(PhysAddr)
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
        drop(s);
        if let Some(tables) = &self.tables {
            tables.free_kept();
        }
    }

    /// Accesses all mappings by each stream, so that the IOTLB caches them.
    pub fn access_everything(&self) {
        let mut s = self.lock();
        for number in s.used() {
            s.contexts[number].access();
        }
    }

    /// Memory that `stream` reaches now.
    pub fn reachable(&self, stream: u32) -> Reachable {
        let mut s = self.lock();
        s.access_walked();
        let Some(context) = s.streams.get(&stream).map(|c| &s.contexts[*c]) else { return Reachable::Everything };
        if context.off {
            return Reachable::Pages(BTreeSet::new());
        }
        let cached = context.iotlb.iter().flat_map(|(at, pages)| pages.iter().map(|p| (*at, *p)));
        Reachable::Pages(context.entries().into_iter().chain(cached).collect())
    }

    /// Entries of the table of `stream`, without the IOTLB.
    pub fn table(&self, stream: u32) -> BTreeSet<(u64, u64)> {
        let s = self.lock();
        let context = s.streams.get(&stream).map(|c| &s.contexts[*c]).filter(|c| !c.off);
        context.map(Context::entries).unwrap_or_default()
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
        let (page, offset) = (addr & !(PAGE_SIZE - 1), addr & (PAGE_SIZE - 1));
        let Some(to) = s.contexts[context].translate(page) else { return Access::Refused };
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
        let mut s = self.lock();
        s.access_walked();
        let to = |page: &u64| *page < base.0.saturating_add(len) && base.0 < page + PAGE_SIZE;
        s.live().any(|c| c.iotlb.values().flatten().any(to))
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
            s.contexts[*context].hash_state(state, &mut number);
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
