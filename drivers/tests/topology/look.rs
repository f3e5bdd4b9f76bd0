//! What the models of the IOMMUs say, and the allocator, against whose each page is.
//!
//! Of the core only this is asked: which devices there are, which driver each has, which is what the steps have asked for, and
//! which it keeps between groups that are in use (docs/decisions/0006-groups.md), which the models and the topology must bear
//! out. Groups are reckoned from the topology, and owners of pages from who took them.

use std::collections::BTreeSet;

use bindery::dma::DmaMemory;
use bindery::iommu::IommuError;

use crate::mmu::Reach;
use crate::world::{FIFOS, Region, Whose, World, fifo_page, mmu_name, name};

/// What is true of a stream at this moment.
struct Stream<'w> {
    /// The device whose it is.
    d: usize,
    /// Its group.
    closure: &'w BTreeSet<usize>,
    /// Guests that have devices of it.
    guests: BTreeSet<usize>,
    /// A kernel driver has one.
    kernel: bool,
    /// The IOMMU has refused to attach it anywhere else.
    refused: bool,
}

/// Pages that nobody's device may reach.
struct Out {
    slices: BTreeSet<u64>,
    free: BTreeSet<u64>,
}

impl World {
    /// What an IOMMU can tell apart, as the topology says.
    fn keys(&self, d: usize) -> impl Iterator<Item = (usize, Option<u32>)> + '_ {
        self.topology.devices[d].iter().map(|(m, s)| (*m, self.topology.mmus[*m].then_some(*s)))
    }

    fn is_there(&self, d: usize) -> bool {
        self.machine.device(&name(d)).is_some()
    }

    /// Whether `addr` leads to `page` because that is a region of device `d` that is always mapped.
    fn is_region(&self, d: usize, addr: u64, page: u64) -> bool {
        let region = self.topology.regions[d].filter(|r| *r != Region::Hole);
        region.is_some_and(|r| r.page(d) == page && page == addr)
    }

    /// Whether the core keeps device `d` between groups.
    fn is_between(&self, d: usize) -> bool {
        let device = self.machine.device(&name(d));
        device.is_some_and(|d| matches!(self.machine.device_info(&d).not_joined, Some(IommuError::Apart { .. })))
    }

    /// The closure of device `d` over devices and streams, reckoned from the topology. A device between groups makes them no
    /// closure, and is in none.
    pub(crate) fn closure(&self, d: usize) -> BTreeSet<usize> {
        if self.is_between(d) { BTreeSet::from([d]) } else { self.connected(d, |e| !self.is_between(e)) }
    }

    /// The closure of device `d` over streams and those devices that are `taken`.
    fn connected(&self, d: usize, taken: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let mut found = BTreeSet::from([d]);
        loop {
            let keys: BTreeSet<_> = found.iter().flat_map(|d| self.keys(*d)).collect();
            let there = (0..self.hands.len()).filter(|d| self.is_there(*d) && taken(*d));
            let all = there.filter(|d| self.keys(*d).any(|k| keys.contains(&k)));
            let bonds = self.bonds.iter().filter(|b| !b.is_disjoint(&found)).flatten().copied();
            let more: BTreeSet<_> = all.chain(bonds).chain([d]).collect();
            if more == found {
                return found;
            }
            found = more;
        }
    }

    /// Asks the models, and the allocator by taking all that it has.
    pub fn look(&mut self) -> Result<(), String> {
        if let Some(what) = self.allowed.take() {
            return Err(what);
        }
        self.mmus.iter().for_each(|m| m.access_everything());
        let slices =
            (0..self.hands.len()).filter_map(|d| self.master(d, |h| h.slices())).flatten().map(|p| p.0).collect();
        let all: Vec<_> = core::iter::from_fn(|| DmaMemory::allocate(self.machine.memory(), 4096).ok()).collect();
        let free: BTreeSet<u64> = all.iter().map(|m| m.phys().0).collect();
        drop(all);
        self.pages.retain(|page, _| !free.contains(page));
        if let Some(d) = self.takes {
            // Whatever became of it: a page that was taken to be shared or lent is that device's.
            let taken = self.free.difference(&free).copied().map(|page| (page, Whose::Driver(d)));
            self.pages.extend(taken);
        }
        self.free.clone_from(&free);
        let out = Out { slices, free };
        let there: Vec<_> = (0..self.mmus.len()).map(|m| self.mmu_is_there(m)).collect();
        self.known.retain(|(m, _)| there[*m]);
        self.open.retain(|(m, _)| there[*m]);
        for d in 0..self.hands.len() {
            if self.is_there(d) {
                self.look_at_device(d, &out)?;
            }
        }
        self.look_at_strays()?;
        let broken = self.machine.promises().broken();
        if broken.is_empty() { Ok(()) } else { Err(format!("the core itself: {broken:?}")) }
    }

    fn look_at_device(&mut self, d: usize, out: &Out) -> Result<(), String> {
        let closure = self.closure(d);
        if self.is_between(d) {
            return self.look_between(d);
        }
        let open = closure.iter().filter_map(|d| self.hands[*d].session.as_ref().map(|(guest, _)| *guest));
        let (guests, kernel) = (open.collect(), closure.iter().any(|d| self.driver(*d) == Some("master")));
        let mut stream = Stream { d, closure: &closure, guests, kernel, refused: false };
        let streams: BTreeSet<_> = self.topology.devices[d].iter().copied().collect();
        for (m, number) in streams {
            if !self.mmu_is_there(m) {
                continue;
            }
            let at = |what: &str| format!("{} by stream {number} of {}: {what}", name(d), mmu_name(m));
            stream.refused = self.mmus[m].refused(number);
            match self.mmus[m].reach(number) {
                Reach::Everything => {
                    // Its IOMMU was made to fail when the device came, which the device says.
                    let told = stream.refused || self.open.contains(&(m, number));
                    if self.driver(d).is_some() || !told {
                        return Err(at("all of memory is reached"));
                    }
                }
                Reach::Pages(pages) => {
                    self.open.remove(&(m, number));
                    self.known.insert((m, number));
                    let table = self.mmus[m].table(number);
                    for (addr, page) in &pages {
                        let found = self.judge(&stream, *addr, *page, table.contains(&(*addr, *page)), out);
                        found.map_err(|e| at(&format!("{addr:#x} leads to page {page:#x}, {e}")))?;
                    }
                    if !stream.refused {
                        self.complete(&stream, &pages).map_err(|e| at(&e))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A device between groups has no driver and reaches nothing but its regions, and one of the groups at least is in use.
    fn look_between(&self, d: usize) -> Result<(), String> {
        let between = |what: &str| Err(format!("{} is kept between groups, {what}", name(d)));
        if self.driver(d).is_some() {
            return between("and has a driver");
        }
        // A stream that another device has, too, goes where that one's group goes.
        let shared = |stream| (0..self.hands.len()).any(|e| e != d && self.topology.devices[e].contains(stream));
        let streams = self.topology.devices[d].iter().filter(|(m, _)| self.mmu_is_there(*m));
        for (m, number) in streams.filter(|stream| !shared(stream)) {
            let Reach::Pages(pages) = self.mmus[*m].reach(*number) else { return between("and reaches everything") };
            let region = |(addr, page): &(u64, u64)| (0..self.hands.len()).any(|e| self.is_region(e, *addr, *page));
            if !pages.iter().all(region) && !self.mmus[*m].refused(*number) {
                return between(&format!("and reaches {pages:x?}"));
            }
        }
        if self.connected(d, |_| true).iter().any(|e| self.driver(*e).is_some()) {
            Ok(())
        } else {
            between("of which none is in use")
        }
    }

    /// Streams of devices that have left reach nothing.
    fn look_at_strays(&self) -> Result<(), String> {
        let there = (0..self.hands.len()).filter(|d| self.is_there(*d));
        let used: BTreeSet<_> = there.flat_map(|d| self.topology.devices[d].iter().copied()).collect();
        for (m, stream) in self.known.difference(&used).filter(|(m, _)| self.mmu_is_there(*m)) {
            let reach = self.mmus[*m].reach(*stream);
            if reach != Reach::nothing() && !self.mmus[*m].refused(*stream) {
                return Err(format!("stream {stream} of {}, whose device has left, reaches {reach:x?}", mmu_name(*m)));
            }
        }
        Ok(())
    }

    /// Whether `stream` may reach `page` at `addr`, in the table or, if not there, by what the IOTLB remembers.
    fn judge(&self, stream: &Stream<'_>, addr: u64, page: u64, in_table: bool, out: &Out) -> Result<(), String> {
        let Stream { d, closure, guests, kernel, refused } = stream;
        if self.topology.regions[*d] == Some(Region::Hole) && Region::Hole.page(*d) == addr {
            return Err("which is a reserved region of the device".into());
        }
        // What was held together once keeps the regions of all until it is idle.
        if self.connected(*d, |_| true).iter().any(|e| self.is_region(*e, addr, page)) {
            return Ok(());
        }
        if out.slices.contains(&page) {
            return Err("which safe code has as a slice".into());
        }
        if out.free.contains(&page) {
            return Err("which its allocator has".into());
        }
        if guests.len() > 1 || (*kernel && !guests.is_empty()) {
            return Err(format!("of a group that guests {guests:?} have at one time; kernel drivers: {kernel}"));
        }
        if let Some(f) = (0..FIFOS).find(|f| fifo_page(*f) == page) {
            return self.judge_registers(stream, f, in_table);
        }
        match self.pages.get(&page) {
            None => Err("which is nobody's".into()),
            Some(Whose::Driver(owner)) if !closure.contains(owner) => Err(format!("which is {}'s", name(*owner))),
            Some(Whose::Driver(owner)) if !guests.is_empty() => {
                Err(format!("which is {}'s, and a guest has the group", name(*owner)))
            }
            Some(Whose::Driver(owner)) if in_table && !refused && self.driver(*owner) != Some("master") => {
                Err(format!("which was {}'s, whose binding has ended", name(*owner)))
            }
            // The owner of a map that is taken down has its device, or another one of the group, open still.
            Some(Whose::Guest(owner)) if !guests.contains(owner) && !refused => {
                Err(format!("which is guest {owner}'s, who does not have the group"))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whether `stream` may reach the registers of fifo `f`.
    fn judge_registers(&self, stream: &Stream<'_>, f: usize, in_table: bool) -> Result<(), String> {
        if !stream.guests.is_empty() {
            return Err(format!("registers of fifo {f}, and a guest has the group"));
        }
        // One that has left may have been of the group, where the IOTLB still remembers what it mapped.
        let keys: BTreeSet<_> = stream.closure.iter().flat_map(|d| self.keys(*d)).collect();
        let was = |d: &usize| !in_table && !self.is_there(*d) && self.keys(*d).any(|k| keys.contains(&k));
        if !self.reached[f].iter().any(|d| stream.closure.contains(d) || was(d)) {
            return Err(format!("registers of fifo {f}, which nobody of the group has asked for"));
        }
        if in_table && !stream.refused {
            let has = |d: &usize| self.master(*d, |h| h.peers()).is_some_and(|p| p.iter().any(|p| p.1 == fifo_page(f)));
            if !stream.closure.iter().any(has) {
                return Err(format!("registers of fifo {f}, which were unmapped"));
            }
            if self.machine.device(&format!("fifo{f}")).is_none() {
                return Err(format!("registers of fifo {f}, which has left"));
            }
        }
        Ok(())
    }

    /// Whether what the device of `stream` was given is there.
    fn complete(&self, stream: &Stream<'_>, reached: &BTreeSet<(u64, u64)>) -> Result<(), String> {
        let d = stream.d;
        let mut given = self.master(d, |h| [h.mapped(), h.peers()].concat()).unwrap_or_default();
        if self.driver(d) == Some("vfio-platform") {
            given.extend(self.hands[d].maps.iter().map(|(at, memory)| (*at, memory.phys().0)));
        }
        let passed = stream.closure.iter().any(|d| self.driver(*d) == Some("vfio-platform"));
        let struck =
            stream.closure.iter().flat_map(|d| &self.topology.devices[*d]).any(|(m, _)| self.mmus[*m].was_struck());
        if let Some(region @ (Region::Direct | Region::Relaxable)) = self.topology.regions[d]
            && !passed
            && !struck
        {
            given.push((region.page(d), region.page(d)));
        }
        match given.iter().find(|map| !reached.contains(map)) {
            Some((at, page)) => Err(format!("{at:#x} does not lead to page {page:#x}, as it should")),
            None => Ok(()),
        }
    }
}
