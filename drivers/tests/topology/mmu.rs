//! An IOMMU as hardware: tables, an IOTLB that keeps what it was not told to forget, and calls that fail when asked to.
//!
//! It knows nothing of the core's books. A stream that was never attached passes everything through, as real ones do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bindery::addr::{DeviceAddr, PAGE_SIZE, PhysAddr};
use bindery::iommu::{
    DomainKind, Gather, Geometry, Grouping, Iommu, IommuError, MapError, Prot, StreamId, Translation,
};

/// What an access of a stream meets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// All of memory.
    Everything,
    /// These pages, by device address: what the table and the IOTLB have.
    Pages(BTreeSet<(u64, u64)>),
}

impl Reach {
    pub fn nothing() -> Self {
        Self::Pages(BTreeSet::new())
    }
}

#[derive(Default)]
struct Context {
    table: BTreeMap<u64, u64>,
    iotlb: BTreeMap<u64, BTreeSet<u64>>,
    /// Switched off: nothing is translated any more.
    off: bool,
}

#[derive(Default)]
struct State {
    contexts: Vec<Context>,
    /// Which context each stream goes through; one that is not here bypasses translation.
    streams: BTreeMap<u32, usize>,
    /// Streams whose last attachment failed: they are where they were.
    refused: BTreeSet<u32>,
    /// A domain could not be made since somebody [asked](Mmu::take_domain_failed).
    domain_failed: bool,
    /// Something failed on purpose since the reset.
    struck: bool,
    /// Calls of each kind that succeed before one fails; counted down.
    attach_fails_in: Option<u32>,
    domain_fails_in: Option<u32>,
    map_fails_in: Option<u32>,
    /// Flushes that are not confirmed from now on.
    flushes_to_fail: u32,
}

/// The hardware.
pub struct Mmu {
    name: String,
    grouping: Grouping,
    state: Mutex<State>,
}

/// What is made to fail.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Attach,
    Domain,
    Map,
    Flush,
}

impl Mmu {
    pub fn new(name: &str, grouping: Grouping) -> Arc<Self> {
        Arc::new(Self { name: name.into(), grouping, state: Mutex::default() })
    }

    /// The call of that kind after `after` more fails; of flushes, this many.
    pub fn fail(&self, fault: Fault, after: u32) {
        let mut s = self.state.lock().unwrap();
        match fault {
            Fault::Attach => s.attach_fails_in = Some(after),
            Fault::Domain => s.domain_fails_in = Some(after),
            Fault::Map => s.map_fails_in = Some(after),
            Fault::Flush => s.flushes_to_fail = after + 1,
        }
    }

    pub fn heal(&self) {
        let mut s = self.state.lock().unwrap();
        (s.attach_fails_in, s.domain_fails_in, s.map_fails_in, s.flushes_to_fail) = (None, None, None, 0);
    }

    /// Reset: every stream bypasses translation, nothing is cached.
    pub fn reset(&self) {
        let mut s = self.state.lock().unwrap();
        s.streams.clear();
        s.refused.clear();
        s.struck = false;
        for context in &mut s.contexts {
            context.off = true;
        }
    }

    /// Each stream reads all that it can, so that the IOTLB has it.
    pub fn access_everything(&self) {
        let mut s = self.state.lock().unwrap();
        let used: BTreeSet<usize> = s.streams.values().copied().collect();
        for context in used {
            let Context { table, iotlb, off } = &mut s.contexts[context];
            if !*off {
                for (at, page) in &*table {
                    iotlb.entry(*at).or_default().insert(*page);
                }
            }
        }
    }

    /// What `stream` reaches now.
    pub fn reach(&self, stream: u32) -> Reach {
        let s = self.state.lock().unwrap();
        let Some(context) = s.streams.get(&stream).map(|c| &s.contexts[*c]) else { return Reach::Everything };
        if context.off {
            return Reach::Pages(BTreeSet::new());
        }
        let cached = context.iotlb.iter().flat_map(|(at, pages)| pages.iter().map(|p| (*at, *p)));
        Reach::Pages(context.table.iter().map(|(at, page)| (*at, *page)).chain(cached).collect())
    }

    /// What the table alone has for `stream`.
    pub fn table(&self, stream: u32) -> BTreeSet<(u64, u64)> {
        let s = self.state.lock().unwrap();
        let context = s.streams.get(&stream).map(|c| &s.contexts[*c]).filter(|c| !c.off);
        context.into_iter().flat_map(|c| c.table.iter().map(|(at, page)| (*at, *page))).collect()
    }

    /// Whether the last attachment of `stream` failed, so that it is where it was.
    pub fn refused(&self, stream: u32) -> bool {
        self.state.lock().unwrap().refused.contains(&stream)
    }

    /// Whether a domain could not be made since the last call.
    pub fn take_domain_failed(&self) -> bool {
        core::mem::take(&mut self.state.lock().unwrap().domain_failed)
    }

    /// Whether something failed on purpose since the reset.
    pub fn was_struck(&self) -> bool {
        self.state.lock().unwrap().struck
    }

    pub fn iommu(self: &Arc<Self>) -> Arc<dyn Iommu> {
        Arc::new(Face(Arc::clone(self)))
    }
}

/// True once, when the countdown is at its end.
fn strikes(left: &mut Option<u32>) -> bool {
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

struct Face(Arc<Mmu>);

impl Iommu for Face {
    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn stream(&self, cells: &[u32]) -> Result<StreamId, IommuError> {
        cells.first().map(|c| StreamId(*c)).ok_or(IommuError::NoSuchStream)
    }

    fn grouping(&self) -> Grouping {
        self.0.grouping
    }

    fn geometry(&self) -> Geometry {
        let last = DeviceAddr(u32::MAX.into());
        Geometry { first: DeviceAddr(0), last, page_sizes: PAGE_SIZE, reserved: Vec::new() }
    }

    fn cache_coherent(&self) -> bool {
        true
    }

    fn domain(&self, kind: DomainKind) -> Result<Arc<dyn Translation>, IommuError> {
        let mut s = self.0.state.lock().unwrap();
        if strikes(&mut s.domain_fails_in) {
            (s.domain_failed, s.struck) = (true, true);
            return Err(IommuError::NoContext);
        }
        s.contexts.push(Context::default());
        Ok(Arc::new(Domain { mmu: Arc::clone(&self.0), number: s.contexts.len() - 1, kind }))
    }

    fn attach(&self, stream: StreamId, domain: &Arc<dyn Translation>) -> Result<(), IommuError> {
        let any: &dyn std::any::Any = &**domain;
        let domain = any.downcast_ref::<Domain>().ok_or(IommuError::ForeignDomain)?;
        if !Arc::ptr_eq(&domain.mmu, &self.0) {
            return Err(IommuError::ForeignDomain);
        }
        let mut s = self.0.state.lock().unwrap();
        if strikes(&mut s.attach_fails_in) {
            s.struck = true;
            s.refused.insert(stream.0);
            return Err(IommuError::Dead);
        }
        s.streams.insert(stream.0, domain.number);
        s.refused.remove(&stream.0);
        Ok(())
    }
}

struct Domain {
    mmu: Arc<Mmu>,
    number: usize,
    kind: DomainKind,
}

impl Domain {
    fn with<R>(&self, act: impl FnOnce(&mut State, usize) -> R) -> R {
        act(&mut self.mmu.state.lock().unwrap(), self.number)
    }
}

impl Translation for Domain {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, _: Prot) -> Result<(), MapError> {
        self.with(|s, number| {
            if strikes(&mut s.map_fails_in) {
                s.struck = true;
                return Err(MapError::OutOfMemory);
            }
            let context = &mut s.contexts[number];
            let pages = || (0..len).step_by(PAGE_SIZE as usize);
            if context.off {
                return Err(MapError::Revoked);
            }
            if pages().any(|at| context.table.contains_key(&(iova.0 + at))) {
                return Err(MapError::Exists(iova));
            }
            for at in pages() {
                context.table.insert(iova.0 + at, phys.0 + at);
                // A device that looks at once: from now on the IOTLB has it.
                context.iotlb.entry(iova.0 + at).or_default().insert(phys.0 + at);
            }
            Ok(())
        })
    }

    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        self.with(|s, number| {
            let table = &mut s.contexts[number].table;
            let pages = || (0..len).step_by(PAGE_SIZE as usize).map(|at| iova.0 + at);
            if let Some(missing) = pages().find(|at| !table.contains_key(at)) {
                return Err(MapError::Missing(DeviceAddr(missing)));
            }
            pages().for_each(|at| {
                table.remove(&at);
            });
            gather.add(iova, len);
            Ok(())
        })
    }

    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError> {
        self.with(|s, number| {
            if s.contexts[number].off {
                return Ok(());
            }
            if s.flushes_to_fail > 0 {
                s.flushes_to_fail -= 1;
                s.struck = true;
                return Err(IommuError::Dead);
            }
            if let Some((first, last)) = gather.range() {
                s.contexts[number].iotlb.retain(|at, _| *at < first.0 || *at > last.0);
            }
            Ok(())
        })
    }

    fn retire(&self) {
        self.with(|s, number| s.contexts[number].off = true);
    }

    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        self.with(|s, number| s.contexts[number].table.get(&iova.page_start().0).map(|p| PhysAddr(*p)))
    }

    fn label(&self) -> String {
        format!("{} context {} ({})", self.mmu.name, self.number, self.kind)
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        self.retire();
    }
}
