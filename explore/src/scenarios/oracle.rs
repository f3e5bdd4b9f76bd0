//! The hardware, compared with what its users hold.
//!
//! Nothing here is read from the core but which devices are there and which driver each has. What drivers hold is known from
//! the drivers, what guests hold from the guests, and everything else is asked of the models: which pages each stream reaches,
//! which interrupt lines are enabled, which clocks run, who is in reset, which pages are free.

use std::collections::BTreeSet;

use bindery::addr::PhysAddr;
use bindery::device::SupplierKind;
use bindery::dma::DmaMemory;
use bindery::env::IrqLine;
use bindery::iommu::DomainKind;
use bindery::promise::Promise;
use bindery_sim::mmu::Reachable;
use bindery_sim::power::LineId;

use super::ring::PAGE;
use super::setup::{DRIVER, GUESTS, SPARE, Setup};
use super::topology::{CONTROLLERS, DEVICES, IOMMUS};
use crate::engine::Violation;

/// Facts about the path that decide what is exact.
#[derive(Clone, Debug, Default)]
pub(super) struct Strictness {
    /// A call has failed: what a device that was not shown to be quiesced needs may be kept, if the machine lists it.
    pub(super) has_failed: bool,
    /// A device did not stop: the same.
    pub(super) has_jammed: bool,
    /// Calls that may fail on a path.
    pub(super) faults: u32,
    /// Attachments that IOMMUs may have refused.
    pub(super) refusals: usize,
    /// An invalidation was not confirmed, or invalidations are batched: IOTLBs may remember more than tables say.
    pub(super) may_remember: bool,
    /// Pages that were free when nothing was bound.
    pub(super) free: BTreeSet<u64>,
}

/// A difference between hardware and holders.
fn differs(promise: Promise, kind: &str, detail: String) -> Violation {
    Violation::new(promise, kind, detail)
}

impl Setup {
    /// Compares everything.
    pub(super) fn compare(&self, exact: &Strictness) -> Result<(), Violation> {
        if let Some(wrong) = self.owners.seen().wrong.pop() {
            return Err(wrong);
        }
        self.lines()?;
        self.supplies(exact)?;
        self.voltages()?;
        let free = self.free_pages();
        if let Some(page) = self.reached().intersection(&free).next() {
            let detail = format!("{} is free, and a device reaches it", PhysAddr(*page));
            return Err(differs(Promise::UnreachableBeforeFree, "free page reached", detail));
        }
        if let Some(table) = self.iommus.iter().find_map(|iommu| iommu.freed_early()) {
            let detail = format!("the table at {table} was freed while an IOMMU could walk to it");
            return Err(differs(Promise::UnreachableBeforeFree, "table freed early", detail));
        }
        self.streams(exact, &free)?;
        self.addresses(exact)?;
        self.pages(exact, &free)?;
        self.stops()?;
        self.watched(exact)?;
        self.left(exact)
    }

    /// Devices below one are unbound before it is asked to stop.
    fn stops(&self) -> Result<(), Violation> {
        let wrong = self.owners.stops().wrong.pop();
        wrong.map_or(Ok(()), |wrong| Err(differs(Promise::SuppliersOutlast, "stopped before those below", wrong)))
    }

    /// A region never went away under a device that uses it.
    fn watched(&self, exact: &Strictness) -> Result<(), Violation> {
        let lost = self.iommus.iter().zip(IOMMUS).find_map(|(iommu, name)| Some((name, iommu.lost()?)));
        let Some((name, (stream, page))) = lost.filter(|_| !exact.has_failed) else { return Ok(()) };
        let detail = format!("stream {stream} of {name} did not reach {page:#x} for some time");
        Err(differs(Promise::UnreachableBeforeFree, "region lost", detail))
    }

    /// A device without a holder claims nothing, and nothing is kept of one that was pulled out.
    fn left(&self, exact: &Strictness) -> Result<(), Violation> {
        let of = |name: &str| DEVICES.iter().position(|device| name.rsplit('/').next() == Some(*device));
        let gone = self.gone();
        let quarantined = self.machine.quarantine().into_iter().map(|held| held.device.to_string());
        let pinned = self.machine.pinned_supplies().into_iter().map(|kept| kept.device);
        let mut kept = quarantined.chain(pinned).filter(|name| of(name).is_some_and(|d| gone.contains(&d)));
        if let Some(name) = kept.next() {
            let detail = format!("{name} was pulled out, and what it used is kept");
            return Err(differs(Promise::NothingLeft, "kept for a device that is gone", detail));
        }
        let may_keep = exact.has_failed || exact.has_jammed;
        let is_kept =
            |d: usize| may_keep && self.machine.pinned_supplies().iter().any(|kept| of(&kept.device) == Some(d));
        for claim in self.machine.claims() {
            let holder = DEVICES.iter().position(|device| claim.holder.contains(device));
            let Some(d) = holder else { continue };
            if !self.has_holder(d) && !is_kept(d) {
                let detail = format!("{} has no holder, and claims {}", DEVICES[d], claim.subject);
                return Err(differs(Promise::Claimed, "claim of nobody", detail));
            }
            let guest = GUESTS.iter().position(|guest| claim.holder.contains(guest));
            if guest.is_some() && guest != self.passed(d).session.as_ref().map(|(guest, _)| *guest) {
                let detail = format!("{} has not opened {}, and claims {}", claim.holder, DEVICES[d], claim.subject);
                return Err(differs(Promise::Claimed, "claim of a guest that has left", detail));
            }
        }
        Ok(())
    }

    /// Devices in the hands of a driver of the host, or of the pass-through owner.
    fn has_holder(&self, d: usize) -> bool {
        self.is_owned(d) || self.is_passed(d)
    }

    fn devices(&self) -> std::ops::Range<usize> {
        0..self.topology.devices.len()
    }

    /// A line is enabled while one of its devices has a holder, and masked while a guest masks it.
    fn lines(&self) -> Result<(), Violation> {
        let all: BTreeSet<u32> = self.topology.devices.iter().filter_map(|device| device.line).collect();
        for line in all {
            let on = |d: &usize| self.topology.devices[*d].line == Some(line);
            let holders: Vec<usize> = self.devices().filter(|d| on(d) && self.has_holder(*d)).collect();
            let masked = self.board.line_masked(IrqLine(line));
            let say = |kind: &str, what: &str| {
                let names: Vec<_> = holders.iter().map(|d| DEVICES[*d]).collect();
                Err(differs(Promise::Claimed, kind, format!("line {line} {what}; its holders: {}", names.join(", "))))
            };
            match masked {
                Some(_) if holders.is_empty() => return say("line enabled", "is enabled although nobody holds it"),
                None if !holders.is_empty() => return say("line disabled", "is disabled"),
                Some(true)
                    if holders.iter().all(|d| self.owners.of(DEVICES[*d]).is_some_and(|held| !held.masks))
                        && !holders.is_empty() =>
                {
                    return say("line masked", "is masked although no user masks it");
                }
                Some(false) if holders.iter().any(|d| self.is_passed(*d) && !self.passed(*d).unmasked) => {
                    return say("line unmasked", "is not masked although its guest has not unmasked it");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A clock, domain, reset line or regulator is on while a device that needs it has a holder.
    fn supplies(&self, exact: &Strictness) -> Result<(), Violation> {
        let mut needed: BTreeSet<(usize, LineId)> = BTreeSet::new();
        for d in self.devices().filter(|d| self.has_holder(*d)) {
            // The pass-through owner does not know of regulators.
            let passed = self.is_passed(d);
            needed.extend(self.topology.lines_of(d).filter(|(_, line)| !passed || line.0 != SupplierKind::Regulator));
        }
        for d in self.devices().filter(|d| self.may_run(*d) && !self.has_holder(*d)) {
            // It can be held in reset.
            if self.topology.lines_of(d).any(|(_, line)| line.0 == SupplierKind::Reset) {
                continue;
            }
            needed.extend(self.topology.lines_of(d));
        }
        for (c, by, line) in &self.topology.powered {
            if self.controller_is_bound(*c) || needed.iter().any(|(of, _)| of == c) {
                needed.insert((*by, *line));
            }
        }
        let uses_now = |c: usize, line: LineId| {
            let mut holders = self.devices().filter(|d| self.has_holder(*d));
            holders.any(|d| self.topology.lines_of(d).any(|l| l == (c, line)))
        };
        for (c, line) in &needed {
            let say = |promise, kind, what| {
                let uses = |d: &usize| self.topology.lines_of(*d).any(|l| l == (*c, *line));
                let who: Vec<_> =
                    self.devices().filter(|d| self.has_holder(*d) && uses(d)).map(|d| DEVICES[d]).collect();
                let (kind_of, number, of) = (line.0, line.1, CONTROLLERS[*c]);
                Err(differs(promise, kind, format!("{kind_of:?} {number} of {of} {what}, used by {}", who.join(", "))))
            };
            // Of one that may run and has no driver any more, its provider's driver may have left, too.
            if !self.controller_is_bound(*c) && uses_now(*c, *line) {
                return say(Promise::SuppliersOutlast, "without its provider", "has no driver any more");
            }
            if !self.controllers[*c].is_on(*line) {
                return say(Promise::Claimed, "supply off", "is off");
            }
        }
        for (c, controller) in self.controllers.iter().enumerate() {
            for line in controller.lines_on().into_iter().filter(|line| !needed.contains(&(c, *line))) {
                let listed = |kept: &bindery::power::PinnedSupply| {
                    // A device that is gone is named by its node.
                    let name = kept.device.rsplit('/').next();
                    let d = DEVICES.iter().position(|device| name == Some(device));
                    let provider = CONTROLLERS.iter().position(|controller| name == Some(controller));
                    let powers =
                        self.topology.powered.iter().any(|(of, by, l)| provider == Some(*of) && (*by, *l) == (c, line));
                    kept.args == [line.1]
                        && (powers || d.is_some_and(|d| self.topology.lines_of(d).any(|l| l == (c, line))))
                };
                if (exact.has_failed || exact.has_jammed) && self.machine.pinned_supplies().iter().any(listed) {
                    continue;
                }
                if self.controllers[c].is_stuck(line) {
                    continue;
                }
                let detail = format!("{:?} {} of {} is on, and nobody uses it", line.0, line.1, CONTROLLERS[c]);
                return Err(differs(Promise::NothingLeft, "supply on", detail));
            }
        }
        self.order_of_supplies()
    }

    /// A regulator has a voltage that suits all who have asked for one.
    fn voltages(&self) -> Result<(), Violation> {
        for d in self.devices() {
            let Some((controller, number)) = self.topology.devices[d].regulator else { continue };
            let Some((min, max)) = self.owners.of(DEVICES[d]).and_then(|held| held.volts) else { continue };
            let volts = self.controllers[controller].voltage(number);
            if volts.is_none_or(|volts| !(min..=max).contains(&volts)) {
                let detail = format!("{} asked for {min} to {max} microvolts, and has {volts:?}", DEVICES[d]);
                return Err(differs(Promise::Claimed, "voltage", detail));
            }
        }
        Ok(())
    }

    /// A device goes into reset before its clock stops, and loses its power last; lines that others use as well have an
    /// order of their own.
    fn order_of_supplies(&self) -> Result<(), Violation> {
        for d in self.devices().filter(|d| !self.has_holder(*d)) {
            let shared = |line| self.devices().any(|e| e != d && self.topology.lines_of(e).any(|other| other == line));
            let lines: Vec<_> = self.topology.lines_of(d).filter(|line| !shared(*line)).collect();
            let at = |kind| {
                let of_kind = lines.iter().filter(move |(_, line)| line.0 == kind);
                of_kind.map(|(c, line)| self.controllers[*c].changed(*line)).collect::<Vec<_>>()
            };
            let [reset, clock, power] = [SupplierKind::Reset, SupplierKind::Clock, SupplierKind::Power].map(at);
            let wrong = |first: &[u64], then: &[u64]| first.iter().any(|first| then.iter().any(|then| then < first));
            let all_off = lines.iter().all(|(c, line)| !self.controllers[*c].is_on(*line));
            if all_off && (wrong(&reset, &clock) || wrong(&clock, &power) || wrong(&reset, &power)) {
                let detail = format!("{} lost clock or power before it was in reset", DEVICES[d]);
                return Err(differs(Promise::SingleUnwindPath, "order of supplies", detail));
            }
        }
        Ok(())
    }

    /// Pages that can be allocated.
    pub(super) fn free_pages(&self) -> BTreeSet<u64> {
        self.with_free_pages(BTreeSet::clone)
    }

    /// Calls `act` with these, while nobody else can have them.
    pub(super) fn with_free_pages<R>(&self, act: impl FnOnce(&BTreeSet<u64>) -> R) -> R {
        let all: Vec<_> = std::iter::from_fn(|| DmaMemory::allocate(self.machine.memory(), PAGE).ok()).collect();
        let pages = all.iter().map(|memory| memory.phys().0);
        act(&pages.chain(self.board.page_cache().pages()).collect())
    }

    /// Each stream reaches the pages that the holders of its group have mapped, and no page that is free.
    fn streams(&self, exact: &Strictness, free: &BTreeSet<u64>) -> Result<(), Violation> {
        for d in self.devices().filter(|d| self.is_there(*d)) {
            let group = self.group(d);
            if !group.iter().any(|d| self.has_holder(*d)) {
                self.blocked(exact, d)?;
            }
            for (iommu, stream) in &self.topology.devices[d].streams {
                if !self.iommu_is_bound(*iommu) {
                    if self.has_holder(d) {
                        let detail = format!("{} has a holder, and {} has none", DEVICES[d], IOMMUS[*iommu]);
                        return Err(differs(Promise::SuppliersOutlast, "without its IOMMU", detail));
                    }
                    continue;
                }
                self.stream(exact, free, d, &group, (*iommu, *stream))
                    .map_err(|v| Violation { detail: format!("{}: {}", DEVICES[d], v.detail), ..v })?;
            }
        }
        Ok(())
    }

    /// Streams of a group that has no holder are blocked. Each call that failed may have left one as it was.
    fn blocked(&self, exact: &Strictness, device: usize) -> Result<(), Violation> {
        let streams = &self.topology.devices[device].streams;
        let is_open = |(i, stream): &&(usize, u32)| {
            self.iommu_is_bound(*i) && !self.iommus[*i].is_blocked(*stream) && !self.has_region((*i, *stream))
        };
        let open = streams.iter().filter(is_open);
        let open: Vec<_> = open.map(|(i, stream)| format!("{stream} of {}", IOMMUS[*i])).collect();
        let allowed = exact.refusals + if exact.has_failed { exact.faults as usize } else { 0 };
        if open.len() <= allowed {
            return Ok(());
        }
        let detail = format!("{} has no holder, and stream {} is not blocked", DEVICES[device], open.join(", stream "));
        Err(differs(Promise::UnreachableBeforeFree, "not blocked", detail))
    }

    /// Returns true when a device that is there has a region that must stay mapped for `stream`.
    fn has_region(&self, stream: (usize, u32)) -> bool {
        let mut with = self.devices().filter(|d| self.topology.devices[*d].region && self.is_there(*d));
        with.any(|d| self.topology.devices[d].streams.contains(&stream))
    }

    fn stream(
        &self,
        exact: &Strictness,
        free: &BTreeSet<u64>,
        device: usize,
        group: &[usize],
        (iommu, stream): (usize, u32),
    ) -> Result<(), Violation> {
        let mmu = &self.iommus[iommu];
        let name = IOMMUS[iommu];
        let maps = |d: usize| {
            let mut maps = self.owners.of(DEVICES[d]).unwrap_or_default().maps;
            maps.extend(self.passed(d).maps.iter().map(|(at, memory)| (*at, memory.phys().0)));
            maps.extend(self.topology.region(d).into_iter().flat_map(|(a, b)| [(a, a), (b, b)]));
            maps
        };
        // A device reaches its own, and may reach those of its group.
        let own = maps(device);
        let mut mine: BTreeSet<(u64, u64)> = group.iter().flat_map(|d| maps(*d)).collect();
        if group.iter().any(|d| self.has_holder(*d)) {
            // Regions stay in a domain that is in use, though their device has left.
            mine.extend(self.devices().filter_map(|d| self.topology.region(d)).flat_map(|(a, b)| [(a, a), (b, b)]));
        }
        let reached = match mmu.reachable(stream) {
            Reachable::Pages(reached) => reached,
            // Its driver's attachment failed when the device was added, which the device reports: it cannot be bound.
            Reachable::Everything if exact.has_failed && !self.has_holder(device) => return Ok(()),
            Reachable::Everything => {
                let detail = format!("stream {stream} of {name} passes untranslated");
                return Err(differs(Promise::NoSilentDowngrade, "untranslated", detail));
            }
        };
        if let Some((at, page)) = reached.iter().find(|(_, page)| free.contains(page)) {
            let detail = format!("stream {stream} of {name} reaches {page:#x} at {at:#x}, which is free");
            return Err(differs(Promise::UnreachableBeforeFree, "free page reached", detail));
        }
        if let Some((at, page)) = own.iter().find(|map| !reached.contains(map)) {
            let detail = format!("stream {stream} of {name} does not reach {page:#x} at {at:#x}, which is mapped");
            return Err(differs(Promise::MatchingBackend, "mapping missing", detail));
        }
        if let Some((at, page)) = own.iter().find(|(at, page)| !mmu.leads_to(stream, *at, *page)) {
            let detail =
                format!("stream {stream} of {name} is led elsewhere than to {page:#x} at {at:#x}, which is mapped");
            return Err(differs(Promise::UnreachableBeforeFree, "led elsewhere", detail));
        }
        let in_use = group.iter().any(|d| self.is_owned(*d) || self.passed(*d).session.is_some());
        let beyond_regions = |map: &&(u64, u64)| !self.has_region((iommu, stream)) || !mine.contains(map);
        if let Some((at, page)) = reached.iter().find(beyond_regions).filter(|_| !in_use && !exact.has_failed) {
            let detail = format!("stream {stream} of {name} reaches {page:#x} at {at:#x}, and nobody uses it");
            return Err(differs(Promise::UnreachableBeforeFree, "reached by nobody", detail));
        }
        let table = mmu.table(stream);
        let beyond = reached.iter().find(|map| !mine.contains(map) && (!exact.may_remember || table.contains(map)));
        if let Some((at, page)) = beyond {
            let detail =
                format!("stream {stream} of {name} reaches {page:#x} at {at:#x}, which nobody of its group maps");
            return Err(differs(Promise::UnreachableBeforeFree, "page of nobody reached", detail));
        }
        Ok(())
    }

    /// No device address is in use that leads nowhere, unless an arena keeps it for its next mapping. Of one that is not free, only the
    /// core knows.
    fn addresses(&self, exact: &Strictness) -> Result<(), Violation> {
        if exact.has_failed || exact.has_jammed || exact.may_remember {
            return Ok(());
        }
        for info in self.machine.groups().iter().map(|group| group.info()) {
            // A guest chooses its addresses.
            let Some((label, _, used)) = info.domain.filter(|(_, kind, _)| *kind != DomainKind::Unmanaged) else {
                continue;
            };
            let members = || self.devices().filter(|d| info.members.iter().any(|name| **name == *DEVICES[*d]));
            if members().any(|d| self.streams_of(d).is_some() || self.topology.devices[d].region) {
                continue;
            }
            let held = members().flat_map(|d| self.owners.of(DEVICES[d]).unwrap_or_default().maps);
            let held = held.map(|(at, _)| at).collect::<BTreeSet<_>>().len() as u64;
            if used != held {
                let detail = format!("{used} pages of addresses are in use in {label}, and {held} are mapped");
                return Err(differs(Promise::NothingLeft, "addresses lost", detail));
            }
        }
        Ok(())
    }

    /// A page that is held is not free, and one that is not free is held.
    fn pages(&self, exact: &Strictness, free: &BTreeSet<u64>) -> Result<(), Violation> {
        let mut held: BTreeSet<u64> = BTreeSet::new();
        for d in self.devices() {
            let maps = self.owners.of(DEVICES[d]).unwrap_or_default().maps;
            if self.topology.devices[d].streams.is_empty() {
                // Its memory, or what is in place of it.
                held.extend(maps.iter().map(|(at, _)| at & !(PAGE - 1)));
            }
            held.extend(maps.iter().map(|(_, page)| *page));
            held.extend(self.passed(d).maps.values().map(|memory| memory.phys().0));
        }
        let given = self.owners.stops().given.clone();
        if let Some(page) = given.values().flatten().find(|page| free.contains(page)) {
            let detail = format!("{} is free, and a device that did not stop may access it", PhysAddr(*page));
            return Err(differs(Promise::QuiescedFirst, "page in use is free", detail));
        }
        held.extend(self.owners.seen().lost.iter());
        if let Some(page) = held.intersection(free).next() {
            let detail = format!("{} is free, and in use", PhysAddr(*page));
            return Err(differs(Promise::UnreachableBeforeFree, "page in use is free", detail));
        }
        let lost = exact.free.iter().find(|page| !held.contains(page) && !free.contains(page));
        if let Some(page) = lost.filter(|_| !exact.has_failed && !exact.has_jammed && !exact.may_remember) {
            let detail = format!("{} is neither free nor in use", PhysAddr(*page));
            return Err(differs(Promise::NothingLeft, "page lost", detail));
        }
        Ok(())
    }

    /// Devices that the host's driver has, by the driver and by the machine.
    pub(super) fn drivers_agree(&self) -> Result<(), Violation> {
        for d in self.devices() {
            let (says, is) = (self.driver(DEVICES[d]), self.is_owned(d));
            if matches!(says, Some(DRIVER | SPARE)) != is {
                let detail = format!("{}: the machine says {says:?}, and its driver has it: {is}", DEVICES[d]);
                return Err(differs(Promise::NoUseAfterRevoke, "driver data", detail));
            }
        }
        Ok(())
    }
}
