//! Checks of the IOMMU models and the allocator against the owner of each page.
//!
//! Only this is read from the core: the devices, their drivers, their mappings, and which devices could not join
//! because they connect groups in use (docs/decisions/0006-groups.md), which is checked against the models and the
//! topology. Groups are computed from the topology, and owners of pages from the steps.

use std::collections::BTreeSet;

use bindery::dma::DmaMemory;
use bindery::iommu::IommuError;

use crate::fixture::{FIFOS, Fixture, PageOwner, Region, fifo_page, mmu_name, name};
use bindery_sim::mmu::Reachable;

/// State of a stream.
struct Stream<'w> {
    /// Its device.
    d: usize,
    /// Its IOMMU and number.
    id: (usize, u32),
    /// Its group.
    closure: &'w BTreeSet<usize>,
    /// Guests with open devices of the group.
    guests: BTreeSet<usize>,
    /// A kernel driver is bound to one of its devices.
    kernel: bool,
    /// Its last attachment failed.
    refused: bool,
}

/// Pages that no device may reach.
struct Out {
    slices: BTreeSet<u64>,
    free: BTreeSet<u64>,
}

impl Fixture {
    /// Keys by which IOMMUs isolate the streams of device `d`.
    fn keys(&self, d: usize) -> impl Iterator<Item = (usize, Option<u32>)> + '_ {
        self.topology.devices[d].iter().map(|(m, s)| (*m, self.topology.mmus[*m].then_some(*s)))
    }

    fn is_present(&self, d: usize) -> bool {
        self.machine.device(&name(d)).is_some()
    }

    /// True when `addr` translates to `page` as a direct region of device `d`.
    fn is_region(&self, d: usize, addr: u64, page: u64) -> bool {
        let region = self.topology.regions[d].filter(|r| *r != Region::Hole);
        region.is_some_and(|r| r.page(d) == page && page == addr)
    }

    /// True when device `d` could not join because it connects groups in use.
    fn is_unjoined(&self, d: usize) -> bool {
        let device = self.machine.device(&name(d));
        device.is_some_and(|d| matches!(self.machine.device_info(&d).not_joined, Some(IommuError::Apart { .. })))
    }

    /// Closure of device `d` over devices and streams, computed from the topology. A device that could not join
    /// connects no groups, and is in none.
    pub(crate) fn closure(&self, d: usize) -> BTreeSet<usize> {
        if self.is_unjoined(d) { BTreeSet::from([d]) } else { self.connected(d, |e| !self.is_unjoined(e)) }
    }

    /// Closure of device `d` over streams and the devices for which `taken` is true.
    pub(crate) fn connected(&self, d: usize, taken: impl Fn(usize) -> bool) -> BTreeSet<usize> {
        let mut found = BTreeSet::from([d]);
        loop {
            let keys: BTreeSet<_> = found.iter().flat_map(|d| self.keys(*d)).collect();
            let there = (0..self.guest_devices.len()).filter(|d| self.is_present(*d) && taken(*d));
            let all = there.filter(|d| self.keys(*d).any(|k| keys.contains(&k)));
            let bonds = self.bonds.iter().filter(|b| !b.is_disjoint(&found)).flatten().copied();
            let more: BTreeSet<_> = all.chain(bonds).chain([d]).collect();
            if more == found {
                return found;
            }
            found = more;
        }
    }

    /// Devices whose direct regions the idle streams of device `d` may reach.
    pub(crate) fn sharing_regions(&self, d: usize) -> BTreeSet<usize> {
        let mut found = self.connected(d, |_| true);
        loop {
            let undivided =
                self.undivided.iter().chain(&self.left).filter(|u| !u.is_disjoint(&found)).flatten().copied();
            let all: BTreeSet<_> = undivided
                .chain(found.iter().copied())
                .flat_map(|d| &self.connected(d, |_| true) | &BTreeSet::from([d]))
                .collect();
            if all == found {
                return found;
            }
            found = all;
        }
    }

    /// Checks the models, and the allocator by allocating all free pages.
    pub fn check(&mut self) -> Result<(), String> {
        if let Some(what) = self.violation.take() {
            return Err(what);
        }
        self.mmus.iter().for_each(|m| m.access_everything());
        let slices = (0..self.guest_devices.len())
            .filter_map(|d| self.master(d, |h| h.slices()))
            .flatten()
            .map(|p| p.0)
            .collect();
        let all: Vec<_> = core::iter::from_fn(|| DmaMemory::allocate(self.machine.memory(), 4096).ok()).collect();
        let free: BTreeSet<u64> = all.iter().map(|m| m.phys().0).collect();
        drop(all);
        self.pages.retain(|page, _| !free.contains(page));
        if let Some(d) = self.allocating {
            // A page that was allocated by a device belongs to it, even if the call failed.
            let taken = self.free.difference(&free).copied().map(|page| (page, PageOwner::Driver(d)));
            self.pages.extend(taken);
        }
        self.free.clone_from(&free);
        let out = Out { slices, free };
        let there: Vec<_> = (0..self.mmus.len()).map(|m| self.mmu_is_present(m)).collect();
        self.known.retain(|(m, _)| there[*m]);
        self.open.retain(|(m, _)| there[*m]);
        for d in 0..self.guest_devices.len() {
            if self.is_present(d) {
                self.check_device(d, &out)?;
            }
        }
        self.check_removed()?;
        let broken = self.machine.promises().broken();
        if broken.is_empty() { Ok(()) } else { Err(format!("promises broken: {broken:?}")) }
    }

    fn check_device(&mut self, d: usize, out: &Out) -> Result<(), String> {
        let closure = self.closure(d);
        if self.is_unjoined(d) {
            return self.check_unjoined(d);
        }
        let open = closure.iter().filter_map(|d| self.guest_devices[*d].session.as_ref().map(|(guest, _)| *guest));
        let (guests, kernel): (BTreeSet<_>, _) =
            (open.collect(), closure.iter().any(|d| self.driver(*d) == Some("master")));
        let streams: BTreeSet<_> = self.topology.devices[d].iter().copied().collect();
        for (m, number) in streams {
            if !self.mmu_is_present(m) {
                continue;
            }
            let at = |what: &str| format!("{} by stream {number} of {}: {what}", name(d), mmu_name(m));
            let (guests, refused) = (guests.clone(), self.mmus[m].refused(number));
            let stream = Stream { d, id: (m, number), closure: &closure, guests, kernel, refused };
            match self.mmus[m].reachable(number) {
                Reachable::Everything => {
                    // Its IOMMU failed when the device was added, which the device reports.
                    let reported = stream.refused || self.open.contains(&(m, number));
                    if self.driver(d).is_some() || !reported {
                        return Err(at("all of memory is reachable"));
                    }
                }
                Reachable::Pages(pages) => {
                    self.open.remove(&(m, number));
                    self.known.insert((m, number));
                    let table = self.mmus[m].table(number);
                    for (addr, page) in &pages {
                        let found = self.check_access(&stream, *addr, *page, table.contains(&(*addr, *page)), out);
                        found.map_err(|e| at(&format!("{addr:#x} translates to page {page:#x}, {e}")))?;
                    }
                    if !stream.refused {
                        self.check_mapped(&stream, &pages).map_err(|e| at(&e))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks a device that could not join: it has no driver and reaches only its regions, and at least one of its
    /// groups is in use.
    fn check_unjoined(&self, d: usize) -> Result<(), String> {
        let unjoined = |what: &str| Err(format!("{} could not join, {what}", name(d)));
        if self.driver(d).is_some() {
            return unjoined("and has a driver");
        }
        // A stream shared with another device is attached to that device's group.
        let shared =
            |stream| (0..self.guest_devices.len()).any(|e| e != d && self.topology.devices[e].contains(stream));
        let streams = self.topology.devices[d].iter().filter(|(m, _)| self.mmu_is_present(*m));
        for (m, number) in streams.filter(|stream| !shared(stream)) {
            let Reachable::Pages(pages) = self.mmus[*m].reachable(*number) else {
                return unjoined("and reaches everything");
            };
            let region =
                |(addr, page): &(u64, u64)| (0..self.guest_devices.len()).any(|e| self.is_region(e, *addr, *page));
            if !pages.iter().all(region) && !self.mmus[*m].refused(*number) {
                return unjoined(&format!("and reaches {pages:x?}"));
            }
        }
        if self.connected(d, |_| true).iter().any(|e| self.driver(*e).is_some()) {
            Ok(())
        } else {
            unjoined("but none of its groups is in use")
        }
    }

    /// Checks that streams of removed devices reach nothing.
    fn check_removed(&self) -> Result<(), String> {
        let there = (0..self.guest_devices.len()).filter(|d| self.is_present(*d));
        let used: BTreeSet<_> = there.flat_map(|d| self.topology.devices[d].iter().copied()).collect();
        for (m, stream) in self.known.difference(&used).filter(|(m, _)| self.mmu_is_present(*m)) {
            let reach = self.mmus[*m].reachable(*stream);
            if reach != Reachable::nothing() && !self.mmus[*m].refused(*stream) {
                return Err(format!(
                    "stream {stream} of {}, whose device was removed, reaches {reach:x?}",
                    mmu_name(*m)
                ));
            }
        }
        Ok(())
    }

    /// Checks that `stream` may reach `page` at `addr`, in the table or, otherwise, in the IOTLB.
    fn check_access(&self, stream: &Stream<'_>, addr: u64, page: u64, in_table: bool, out: &Out) -> Result<(), String> {
        let Stream { d, id, closure, guests, kernel, refused } = stream;
        let hole = self.topology.regions[*d] == Some(Region::Hole) && Region::Hole.page(*d) == addr;
        if hole && !self.waits_for_region(*d, *id) {
            return Err("which is a reserved region of the device".into());
        }
        // Devices that were connected once share their regions until the group is idle.
        if self.sharing_regions(*d).iter().any(|e| self.is_region(*e, addr, page)) {
            return Ok(());
        }
        if out.slices.contains(&page) {
            return Err("which safe code can borrow as a slice".into());
        }
        if out.free.contains(&page) {
            return Err("which is free".into());
        }
        if guests.len() > 1 || (*kernel && !guests.is_empty()) {
            return Err(format!(
                "of a group that guests {guests:?} have open at the same time; kernel drivers: {kernel}"
            ));
        }
        if let Some(f) = (0..FIFOS).find(|f| fifo_page(*f) == page) {
            return self.check_registers(stream, f, in_table);
        }
        match self.pages.get(&page) {
            None => Err("which has no owner".into()),
            Some(PageOwner::Driver(owner)) if !closure.contains(owner) => Err(format!("which is {}'s", name(*owner))),
            Some(PageOwner::Driver(owner)) if !guests.is_empty() => {
                Err(format!("which is {}'s, and a guest owns the group", name(*owner)))
            }
            Some(PageOwner::Driver(owner)) if in_table && !refused && self.driver(*owner) != Some("master") => {
                Err(format!("which was {}'s, whose binding has ended", name(*owner)))
            }
            // The owner of an unmapped range still has a device of the group open.
            Some(PageOwner::Guest(owner)) if !guests.contains(owner) && !refused => {
                Err(format!("which is guest {owner}'s, who does not own the group"))
            }
            Some(_) => Ok(()),
        }
    }

    /// True when device `d` is kept unbound because addresses of its region are in use by a device with the same stream,
    /// from which the IOMMU cannot distinguish it.
    fn waits_for_region(&self, d: usize, stream: (usize, u32)) -> bool {
        let user = |e: &usize| *e != d && self.topology.devices[*e].contains(&stream) && self.driver(*e).is_some();
        let device = self.machine.device(&name(d));
        let reported = device.and_then(|d| self.machine.device_info(&d).not_joined);
        self.driver(d).is_none()
            && matches!(reported, Some(IommuError::RegionInUse { .. }))
            && (0..self.guest_devices.len()).any(|e| user(&e))
    }

    /// Checks that `stream` may reach the registers of fifo `f`.
    fn check_registers(&self, stream: &Stream<'_>, f: usize, in_table: bool) -> Result<(), String> {
        if !stream.guests.is_empty() {
            return Err(format!("registers of fifo {f}, and a guest owns the group"));
        }
        // A removed device may have been in the group, whose IOTLB still caches its mapping.
        let keys: BTreeSet<_> = stream.closure.iter().flat_map(|d| self.keys(*d)).collect();
        let was = |d: &usize| !in_table && !self.is_present(*d) && self.keys(*d).any(|k| keys.contains(&k));
        if !self.reached[f].iter().any(|d| stream.closure.contains(d) || was(d)) {
            return Err(format!("registers of fifo {f}, which no device of the group has mapped"));
        }
        if in_table && !stream.refused {
            let has = |d: &usize| self.master(*d, |h| h.peers()).is_some_and(|p| p.iter().any(|p| p.1 == fifo_page(f)));
            if !stream.closure.iter().any(has) {
                return Err(format!("registers of fifo {f}, which were unmapped"));
            }
            if self.machine.device(&format!("fifo{f}")).is_none() {
                return Err(format!("registers of fifo {f}, which was removed"));
            }
        }
        Ok(())
    }

    /// Checks that the device of `stream` reaches all its mappings.
    fn check_mapped(&self, stream: &Stream<'_>, reached: &BTreeSet<(u64, u64)>) -> Result<(), String> {
        let d = stream.d;
        let mut given = self.master(d, |h| [h.mapped(), h.peers()].concat()).unwrap_or_default();
        if self.driver(d) == Some("vfio-platform") {
            given.extend(self.guest_devices[d].maps.iter().map(|(at, memory)| (*at, memory.phys().0)));
        }
        let passed = stream.closure.iter().any(|d| self.driver(*d) == Some("vfio-platform"));
        let fault_hit =
            stream.closure.iter().flat_map(|d| &self.topology.devices[*d]).any(|(m, _)| self.mmus[*m].had_fault());
        if let Some(region @ (Region::Direct | Region::Relaxable)) = self.topology.regions[d]
            && !passed
            && !fault_hit
            && !self.waits_for_region(d, stream.id)
        {
            given.push((region.page(d), region.page(d)));
        }
        match given.iter().find(|map| !reached.contains(map)) {
            Some((at, page)) => Err(format!("{at:#x} does not translate to page {page:#x}")),
            None => Ok(()),
        }
    }
}
