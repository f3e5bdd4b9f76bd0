//! Allocations and mappings: who took what, and whether it is given back as it was taken.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::device::Gone;
use super::record::At;
use super::task::{By, Pending, TaskKey};
use super::verdict::{Finding, Known, SEED, SEED_PROBE, Verdict};
use super::{Id, Mapping, Mark, Model};
use crate::event::{Backend, Dir, Family, Op};
use crate::rules::Rule;
use crate::shape::Span;

/// How late a free may be logged behind the unbind's end on another CPU, in nanoseconds: an unmap is logged after its work.
const REORDER: u64 = 100_000;
/// Small mappings whose pages are looked at at once.
const MOST_SUB_PAGES: usize = 65_536;
const PAGE: u64 = 4096;

impl Model {
    pub(super) fn take(&mut self, at: At<'_>, op: &Op<'_>) {
        self.heard.dma = true;
        self.settle(at.task);
        let (Some(id), Some(addr)) = (self.id(op.device), op.addr) else { return };
        let mark = at.mark();
        self.attend(id, at, &mark);
        let line = at.place.line;
        let task = self.task(at.task);
        let named = task.take.take();
        let mapped = task.mapped(addr);
        let inferred = |backend| Some(By { backend, named: false, line });
        let by = named
            .or_else(|| if mapped { inferred(Backend::Iommu) } else { None })
            .or_else(|| if op.phys == Some(addr) { inferred(Backend::Direct) } else { None });
        task.taken = matches!(op.family, Family::Coherent | Family::Pages).then_some((id, addr));
        let mapping = Mapping {
            family: op.family,
            addr,
            size: op.size.unwrap_or(0),
            dir: op.dir,
            attrs: op.attrs,
            virt: op.virt,
            phys: op.phys,
            backend: by,
            managed: false,
            epoch: self.epoch,
            mark: mark.clone(),
        };
        self.share_page(id, &mapping);
        self.identity(id, &mapping);
        if let Some(by) = by {
            self.backend_of_life(id, by, &mark);
        }
        let device = &mut self.devices[id];
        let life = device.life_at(&mark);
        life.traced = true;
        life.taken += 1;
        if let Some((end, _)) = &life.end
            && (self.heard.lifecycle || self.heard.devres)
        {
            let age = mark.age(end).map_or_else(String::new, |age| format!(", {}", Span(age)));
            let words = format!(
                "{} at {addr:#x} is taken at line {line}{age} after the unbind was over (line {}), and no probe came between",
                op.family, end.place.line
            );
            let cites = vec![end.cite(), mark.cite()];
            life.suspect(Finding { rule: Rule::LATE, verdict: Verdict::Violated, words, cites, known: None });
        }
        let table = if op.family == Family::Sg { &mut device.scatter } else { &mut device.live };
        let key = if op.family == Family::Sg { list_key(op.list) } else { addr };
        table.insert(key, mapping);
    }

    pub(super) fn give(&mut self, at: At<'_>, op: &Op<'_>) {
        self.heard.dma = true;
        // A free of nothing.
        if op.family != Family::Sg
            && (op.addr == Some(0) && op.size.unwrap_or(0) == 0 || op.virt == Some(0) && op.family == Family::Coherent)
        {
            return;
        }
        self.settle_but_release(at.task);
        let Some(id) = self.id(op.device) else { return };
        let mark = at.mark();
        let by_list = op.family == Family::Sg;
        let key = if by_list { list_key(op.list) } else { op.addr.unwrap_or(0) };
        if let Some(unbind) = self.task(at.task).unbinds.last_mut() {
            unbind.guess.get_or_insert(id);
        }
        let device = &mut self.devices[id];
        let table = if by_list { &mut device.scatter } else { &mut device.live };
        let fits = |m: &Mapping| m.family == op.family && op.size.is_none_or(|size| m.size == size);
        let Some(mapping) = table.remove(key, fits) else {
            return self.unknown_give(at, id, op, &mark);
        };
        let life = device.life_at(&mark);
        life.traced = true;
        life.given += 1;
        self.compare(id, &mapping, op, &mark);
        self.late(at, id, &mapping, &mark);
        self.managed_give(at, id, &mapping, &mark);
        self.unshare_page(id, &mapping);
        self.pend(at, id, mapping, op.family, &mark);
    }

    /// Holds the free back until the lines that name its back-end have come.
    fn pend(&mut self, at: At<'_>, id: Id, mapping: Mapping, family: Family, mark: &Mark) {
        let line = mark.place.line;
        let in_release = self.task(at.task).release.as_ref().is_some_and(|release| release.device == id);
        let life = self.devices[id].life_at(mark);
        let (number, reset) = (life.number, life.reset.clone());
        if in_release && life.freed_in_release.len() < 1000 {
            life.freed_in_release.push((mapping.addr, mapping.addr + mapping.size.max(1) - 1, mark.clone()));
        }
        let gone = Gone { mapping: mapping.clone(), mark: mark.clone(), life: number, in_release };
        self.devices[id].remember(gone);
        let task = self.task(at.task);
        let failed = task.fails(id);
        let mark = mark.clone();
        let mut pending = Pending { device: id, mapping, mark, by: None, unmapped: false, reset, named: None, failed };
        if matches!(family, Family::Single | Family::Resource) {
            // The IOMMU's event comes before this one.
            if task.unmapped(pending.mapping.addr) {
                pending.by = Some(By { backend: Backend::Iommu, named: false, line });
            } else if pending.mapping.phys == Some(pending.mapping.addr) {
                pending.by = Some(By { backend: Backend::Direct, named: false, line });
            }
            self.judge_backend(pending);
        } else {
            task.unmaps.clear();
            task.pending = Some(pending);
        }
    }

    /// A function of a back-end that frees.
    pub(super) fn give_by(&mut self, at: At<'_>, backend: Backend) {
        let by = By { backend, named: true, line: at.place.line };
        let other = |taken: Option<By>| taken.is_some_and(|taken| taken.backend != backend).then(|| at.mark());
        let task = self.task(at.task);
        if let Some(pending) = &mut task.pending {
            // The first function is the outermost.
            if pending.by.is_none() {
                pending.by = Some(by);
                pending.named = other(pending.mapping.backend);
            }
        } else if let Some(release) = &mut task.release
            && release.give.is_none()
        {
            release.give = Some(by);
            release.named = other(release.by);
        }
    }

    pub(super) fn iommu_unmap(&mut self, at: At<'_>, start: u64, end: u64, unmapped: Option<u64>) {
        self.heard.iommu_unmap = true;
        let short = unmapped.filter(|unmapped| *unmapped < end - start);
        let task = self.task(at.task);
        let (mut device, mut settled) = (None, None);
        if let Some(pending) = &mut task.pending
            && (start..end).contains(&pending.mapping.addr)
        {
            pending.unmapped = true;
            device = Some(pending.device);
            settled = task.pending.take();
        } else {
            task.unmap(start, end);
        }
        if let Some(settled) = settled {
            self.judge_backend(settled);
        }
        if let Some(unmapped) = short {
            let mark = at.mark();
            let words = format!(
                "the IOMMU unmapped {unmapped} of {} bytes at {start:#x}: a part was not mapped, which supports a double unmap",
                end - start
            );
            match device {
                Some(id) => self.devices[id].life_at(&mark).note(words, vec![mark.cite()]),
                None => self.fact(super::Fact { words, cites: vec![mark.cite()] }),
            }
        }
    }

    /// Judges what the task left open: its next event shows that no more lines belong to it.
    pub(super) fn settle(&mut self, key: TaskKey) {
        self.settle_but_release(key);
        let Some(release) = self.tasks.get_mut(&key).and_then(|task| task.release.take()) else { return };
        self.released(release);
    }

    fn settle_but_release(&mut self, key: TaskKey) {
        if let Some(pending) = self.tasks.get_mut(&key).and_then(|task| task.pending.take()) {
            self.judge_backend(pending);
        }
    }

    fn judge_backend(&mut self, pending: Pending) {
        let Pending { device, mapping, mark, by, unmapped, reset, named, failed } = pending;
        let line = mark.place.line;
        let by = by.or(if unmapped { Some(By { backend: Backend::Iommu, named: false, line }) } else { None });
        let heard = self.heard;
        let same_epoch = mapping.epoch == self.epoch;
        let at_end = self.at_end;
        let life = self.devices[device].life_at(&mark);
        let on = Rule::BACKEND;
        match (mapping.backend, by) {
            _ if !same_epoch => life.on(on).doubt("events were lost between an allocation and its free"),
            (Some(taken), Some(given)) if taken.backend == given.backend => {
                life.on(on).proved += 1;
                if !(taken.named && given.named) {
                    life.on(on).how = Some("by the IOMMU's own events beside each call");
                }
            }
            (Some(taken), Some(given)) => {
                let known = known_of(life, &mapping, failed);
                let mut finding = mismatch(&mapping, taken.backend, given.backend, &mark, reset.as_ref(), known);
                finding.cites.extend(named.map(|mark| mark.cite()));
                life.find(finding);
            }
            (Some(taken), None)
                if taken.backend == Backend::Iommu
                    && !at_end
                    && heard.iommu_unmap
                    && matches!(mapping.family, Family::Coherent | Family::Pages) =>
            {
                let words = format!(
                    "{} at {:#x} was allocated through the IOMMU at line {} and freed at line {line}, but no iommu:unmap followed: \
                     the free did not go through the IOMMU back-end, or the range stays mapped",
                    mapping.family, mapping.addr, mapping.mark.place.line
                );
                let cites = vec![mapping.mark.cite(), mark.cite()];
                life.suspect(Finding { rule: on, verdict: Verdict::Violated, words, cites, known: None });
            }
            _ => life.on(on).doubt(
                "no line names the back-end of some calls; add iommu_dma_alloc iommu_dma_free dma_direct_alloc dma_direct_free \
                 to set_ftrace_filter, and enable events/iommu",
            ),
        }
    }

    fn compare(&mut self, id: Id, mapping: &Mapping, op: &Op<'_>, mark: &Mark) {
        let mut wrong = Vec::new();
        if mapping.family != op.family && !similar(mapping.family, op.family) {
            wrong.push(format!("as {} instead of {}", op.family, mapping.family));
        }
        if op.family != Family::Sg
            && let Some(size) = op.size
            && size != mapping.size
        {
            wrong.push(format!("{size} bytes instead of {}", mapping.size));
        }
        if op.dir != mapping.dir && op.dir != Dir::None && mapping.dir != Dir::None {
            wrong.push(format!("direction {} instead of {}", op.dir, mapping.dir));
        }
        let checked =
            crate::event::attrs::NO_KERNEL_MAPPING | crate::event::attrs::MMIO | crate::event::attrs::FORCE_CONTIGUOUS;
        if (op.attrs ^ mapping.attrs) & checked != 0 && op.family != Family::Sgt {
            wrong.push("other attributes".to_owned());
        }
        let mut owner = None;
        if let (Some(freed), Some(taken)) = (op.virt, mapping.virt)
            && freed != taken
            && matches!(op.family, Family::Coherent | Family::Pages)
        {
            // A free that names the wrong device pairs perfectly where both use the same IOVA.
            owner =
                self.devices.iter().take(4096).enumerate().filter(|(other, _)| *other != id).find_map(|(_, device)| {
                    device
                        .live
                        .get(mapping.addr)
                        .filter(|m| m.virt == Some(freed))
                        .map(|m| (device.name.clone(), m.mark.cite()))
                });
            wrong.push("another CPU address".to_owned());
        }
        let same_epoch = mapping.epoch == self.epoch;
        let life = self.devices[id].life_at(mark);
        if wrong.is_empty() {
            life.on(Rule::DIFFERS).proved += 1;
            life.on(Rule::NOT_TAKEN).proved += 1;
            life.on(Rule::TWICE).proved += 1;
            return;
        }
        if !same_epoch {
            life.on(Rule::DIFFERS).doubt("events were lost between an allocation and a free that differs from it");
            return;
        }
        let mut words = format!(
            "{} at {:#x} was taken at line {} and is given back at line {} with {}",
            mapping.family,
            mapping.addr,
            mapping.mark.place.line,
            mark.place.line,
            wrong.join(", ")
        );
        let mut cites = vec![mapping.mark.cite(), mark.cite()];
        if let Some((name, cite)) = owner {
            words = format!(
                "{words}: that CPU address is {name}'s, which holds the same DMA address; the free names the wrong device"
            );
            cites.push(cite);
        }
        life.find(Finding { rule: Rule::DIFFERS, verdict: Verdict::Violated, words, cites, known: None });
    }

    /// A free after the end of the unbind.
    fn late(&mut self, at: At<'_>, id: Id, mapping: &Mapping, mark: &Mark) {
        let life = self.devices[id].life_at(mark);
        let Some((end, _)) = &life.end else { return };
        let age = mark.age(end);
        if mapping.mark.place >= end.place || age.is_some_and(|age| age < REORDER) && at.task.pid != 0 {
            return;
        }
        let (end_line, end) = (end.place.line, end.cite());
        let after = age.map_or_else(String::new, |age| format!("{} ", Span(age)));
        let words = format!(
            "{} of {} bytes at {:#x}, taken at line {}, was still live when the unbind was over (line {end_line}); it is freed \
             {after}after that, at line {}",
            mapping.family, mapping.size, mapping.addr, mapping.mark.place.line, mark.place.line
        );
        let cites = vec![mapping.mark.cite(), end, mark.cite()];
        life.suspect(Finding { rule: Rule::LEAK, verdict: Verdict::Violated, words, cites, known: None });
    }

    fn unknown_give(&mut self, at: At<'_>, id: Id, op: &Op<'_>, mark: &Mark) {
        let addr = op.addr.unwrap_or(0);
        let line = mark.place.line;
        // The IOMMU's event, if any, must not be taken for another mapping's.
        if let Some(addr) = op.addr {
            self.task(at.task).unmapped(addr);
        }
        let release = self.task(at.task).release.as_mut().filter(|release| release.device == id);
        if let Some(release) = release {
            release.freed = true;
        }
        let other =
            self.devices.iter().take(256).enumerate().filter(|(other, _)| *other != id && op.virt.is_some()).find_map(
                |(_, device)| {
                    device.live.get(addr).filter(|m| m.virt == op.virt).map(|m| (device.name.clone(), m.mark.cite()))
                },
            );
        let device = &mut self.devices[id];
        let number = device.lives.max(1);
        let past =
            (op.family != Family::Sg)
                .then(|| {
                    device.gone.iter().rev().find(|gone| {
                        gone.mapping.addr == addr && gone.mapping.family != Family::Sg && gone.life == number
                    })
                })
                .flatten()
                .map(|gone| (gone.mapping.mark.cite(), gone.mark.cite(), gone.mark.place.line));
        let life = device.life_at(mark);
        life.traced = true;
        let what = if op.family == Family::Sg {
            format!("a scatterlist of {}", op.list)
        } else {
            format!("{} at {addr:#x}", op.family)
        };
        let finding = if let Some((taken, freed, freed_line)) = past {
            let words = format!("{what} is given back twice: at line {freed_line} and again at line {line}");
            Finding {
                rule: Rule::TWICE,
                verdict: Verdict::Violated,
                words,
                cites: vec![taken, freed, mark.cite()],
                known: None,
            }
        } else if let Some((name, cite)) = other {
            let words = format!(
                "{what} is freed for this device at line {line}, but it is {name}'s: the free names the wrong device"
            );
            Finding {
                rule: Rule::NOT_TAKEN,
                verdict: Verdict::Violated,
                words,
                cites: vec![cite, mark.cite()],
                known: None,
            }
        } else {
            let words = format!("{what} is given back at line {line}, but this device never took it");
            Finding {
                rule: Rule::NOT_TAKEN,
                verdict: Verdict::CannotTell,
                words,
                cites: vec![mark.cite()],
                known: None,
            }
        };
        life.suspect(finding);
    }

    /// Mappings that are smaller than a page and share it with another one: an exposure.
    fn share_page(&mut self, id: Id, mapping: &Mapping) {
        let Some(phys) = mapping.phys.filter(|phys| phys % PAGE + mapping.size < PAGE && mapping.size < PAGE) else {
            return;
        };
        let device = &mut self.devices[id];
        if device.sub_pages.len() >= MOST_SUB_PAGES {
            return;
        }
        let entry = device.sub_pages.entry(phys / PAGE).or_insert((0, mapping.mark.place.line));
        entry.0 += 1;
        if entry.0 == 2 {
            device.shared_pages += 1;
            if device.shared_pages == 1 {
                let first = entry.1;
                let words = format!(
                    "two live mappings share the page at {:#x} (lines {first} and {}): what may reach the one reaches the other \
                     (R14, an exposure, no violation)",
                    phys & !(PAGE - 1),
                    mapping.mark.place.line
                );
                device.life_at(&mapping.mark).note(words, vec![mapping.mark.cite()]);
            }
        }
    }

    fn unshare_page(&mut self, id: Id, mapping: &Mapping) {
        let Some(phys) = mapping.phys.filter(|phys| phys % PAGE + mapping.size < PAGE && mapping.size < PAGE) else {
            return;
        };
        if let std::collections::hash_map::Entry::Occupied(mut entry) = self.devices[id].sub_pages.entry(phys / PAGE) {
            entry.get_mut().0 -= 1;
            if entry.get().0 == 0 {
                entry.remove();
            }
        }
    }

    /// Untranslated DMA of a device in a group, where the policy says translated.
    fn identity(&mut self, id: Id, mapping: &Mapping) {
        let direct =
            mapping.backend.is_some_and(|by| by.backend == Backend::Direct) && mapping.phys == Some(mapping.addr);
        let Some((true, policy)) = self.translated.as_ref().filter(|_| direct) else { return };
        let policy = policy.clone();
        let device = &mut self.devices[id];
        let Some(group) = device.group else { return };
        let life = device.life_at(&mapping.mark);
        if life.outcome(Rule::IDENTITY).violated > 0 {
            return;
        }
        let words = format!(
            "the policy is translated DMA (line {}), but line {} gives the device the physical address {:#x} itself, though it is \
             in group {group}",
            policy.place.line, mapping.mark.place.line, mapping.addr
        );
        let cites = vec![policy, mapping.mark.cite()];
        life.find(Finding { rule: Rule::IDENTITY, verdict: Verdict::Violated, words, cites, known: None });
    }

    /// The back-end of a life, held against the one of the life before.
    pub(super) fn backend_of_life(&mut self, id: Id, by: By, mark: &Mark) {
        let device = &mut self.devices[id];
        let life = device.life_at(mark);
        if life.backend.is_some() {
            return;
        }
        life.backend = Some(by);
        let before = device.backend.replace((by, mark.clone()));
        let Some((old, old_mark)) = before.filter(|(old, _)| old.backend != by.backend) else { return };
        let deferred = device.deferred.take();
        let words = format!(
            "served by {} since line {}, but by {} in the life before (line {})",
            by.backend, mark.place.line, old.backend, old_mark.place.line
        );
        let mut cites = vec![old_mark.cite(), mark.cite()];
        let changed = std::mem::take(&mut device.domain_changed);
        let life = device.life_at(mark);
        if changed {
            life.note(format!("{words}; its domain or group changed in between"), cites);
        } else {
            let known = deferred.as_ref().map(|_| super::verdict::DEFERRAL);
            cites.extend(deferred.map(|mark| mark.cite()));
            life.find(Finding { rule: Rule::NEXT_PROBE, verdict: Verdict::Violated, words, cites, known });
        }
    }
}

/// The mismatch of back-ends, in words.
pub(super) fn mismatch(
    mapping: &Mapping,
    taken: Backend,
    given: Backend,
    mark: &Mark,
    reset: Option<&Mark>,
    known: Option<Known>,
) -> Finding {
    let mut words = format!(
        "{} bytes at {:#x} were allocated through {taken} at line {} and freed by {given} at line {}",
        mapping.size, mapping.addr, mapping.mark.place.line, mark.place.line
    );
    let mut cites = vec![mapping.mark.cite()];
    if let Some(reset) = reset {
        let age = mark.age(reset).map_or_else(|| "after".to_owned(), |age| format!("{} after", Span(age)));
        words = format!("{words}, {age} the DMA ops were reset (line {})", reset.place.line);
        cites.push(reset.cite());
    }
    cites.push(mark.cite());
    Finding { rule: Rule::BACKEND, verdict: Verdict::Violated, words, cites, known }
}

/// The known bug that a mismatch in this life looks like.
fn known_of(life: &super::Life, mapping: &Mapping, failed: bool) -> Option<Known> {
    if !mapping.managed {
        return None;
    }
    if failed { Some(SEED_PROBE) } else { life.teardown.as_ref().map(|_| SEED) }
}

/// The key of a scatterlist: unmapping names its physical addresses only.
fn list_key(list: &str) -> u64 {
    let mut hasher = FxHasher::default();
    for byte in list.bytes().filter(|byte| *byte != b' ') {
        byte.hash(&mut hasher);
    }
    hasher.finish()
}

/// Kinds that one function may serve.
fn similar(taken: Family, given: Family) -> bool {
    matches!((taken, given), (Family::Single, Family::Resource) | (Family::Resource, Family::Single))
}
