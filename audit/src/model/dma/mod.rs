//! Allocations and mappings: who took what, and whether it is given back as it was taken.

mod backend;
mod exposure;
mod pair;
mod untranslated;

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

pub(super) use backend::UNNAMED;
pub(super) use untranslated::Untranslated;

use super::device::Gone;
use super::record::At;
use super::task::{By, Pending, TaskKey};
use super::verdict::{Finding, Verdict};
use super::{Id, Mapping, Mark, Model};
use crate::event::{Backend, Family, Op};
use crate::rules::Rule;
use crate::shape::Span;

impl Model {
    pub(in crate::model) fn take(&mut self, at: At<'_>, op: &Op<'_>) {
        self.heard.dma = true;
        self.heard.took |= 1 << op.family as u8;
        let Some(op) = &self.believed(at, op) else { return };
        self.settle(at.task);
        let (Some(id), Some(addr)) = (self.id(op.device), op.addr) else { return };
        let mark = at.mark();
        self.attend(id, at, &mark);
        let line = at.place.line;
        let task = self.task(at.task);
        let allocates = matches!(op.family, Family::Coherent | Family::Pages | Family::Sgt);
        let named = task.take.take().and_then(|(by, alloc)| (alloc == allocates).then_some(by));
        let mapped = task.mapped(addr);
        let inferred = |backend| Some(By { backend, named: false, line });
        let by = named
            // The IOMMU's map of the address itself may be another's: a guest's memory, say.
            .or_else(|| if mapped && op.phys != Some(addr) { inferred(Backend::Iommu) } else { None })
            .or_else(|| if op.phys == Some(addr) && !mapped { inferred(Backend::Direct) } else { None })
            .or_else(|| if task.bounced.take() == Some(id) { inferred(Backend::Direct) } else { None });
        task.bounced = None;
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
        self.translates(id, &mapping);
        // Maps of a list, bounces and equal addresses are no more than signs.
        let sure = |by: &By| {
            by.named || if by.backend == Backend::Direct { self.heard.iommu_map } else { op.family != Family::Sg }
        };
        if let Some(by) = by.filter(sure) {
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
            if let Some(why) = life.end_guessed {
                life.on(Rule::LATE).doubt(format!("{words}; {why}"));
                life.on(Rule::LEAK).doubt(why);
            } else if let Some(place) = life.came_back {
                let why = "a managed resource was added in between, at line";
                life.on(Rule::LATE).doubt(format!("{words}; but {why} {}: a driver may have come unseen", place.line));
                life.on(Rule::LEAK)
                    .doubt("a driver may have come unseen, and what it took is not known to be given back");
            } else if self.heard.probes {
                let cites = vec![end.cite(), mark.cite()];
                life.suspect(Finding { rule: Rule::LATE, verdict: Verdict::Violated, words, cites, known: None });
            } else {
                let why = "; add really_probe to set_ftrace_filter: without it a driver may have come unseen";
                life.on(Rule::LATE).doubt(format!("{words}{why}"));
            }
        }
        let table = if op.family == Family::Sg { &mut device.scatter } else { &mut device.live };
        let key = if op.family == Family::Sg { list_key(op.list) } else { addr };
        table.insert(key, mapping);
    }

    /// The part of `op` that can be believed; none of a line that was cut, whose last number may be the beginning of another. What it
    /// would have said is missing in the device's life.
    fn believed<'o>(&mut self, at: At<'_>, op: &Op<'o>) -> Option<Op<'o>> {
        self.heard.whole |= op.whole;
        if op.whole {
            return Some(*op);
        }
        let known = if op.family == Family::Sg { !op.list.is_empty() } else { op.addr.is_some() && op.size.is_some() };
        // Where no line ends as kernels end them, all may be cut to the width of a terminal.
        if known && !self.heard.whole {
            return Some(Op { size: None, virt: None, phys: None, ..*op });
        }
        if let Some(id) = self.id(op.device) {
            let words = format!("line {} is cut", at.place.line);
            self.devices[id].life_at(&at.mark()).taint.get_or_insert(words);
        }
        None
    }

    pub(in crate::model) fn give(&mut self, at: At<'_>, op: &Op<'_>) {
        self.heard.dma = true;
        self.heard.gave |= 1 << op.family as u8;
        let Some(op) = &self.believed(at, op) else { return };
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
        device.frees_coherent |= op.family == Family::Coherent;
        let table = if by_list { &mut device.scatter } else { &mut device.live };
        let fits = |m: &Mapping| m.family == op.family && op.size.is_none_or(|size| m.size == size);
        // A buffer may be mapped twice at once, for the device to read and to write.
        let exactly = |m: &Mapping| fits(m) && m.dir == op.dir && (m.virt == op.virt || op.virt.is_none());
        let Some(mapping) = table.remove(key, [&exactly, &fits]) else {
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
        let gone = Gone { mapping: mapping.clone(), mark: mark.clone(), life: number, in_release, epoch: self.epoch };
        self.devices[id].remember(gone);
        let task = self.task(at.task);
        let failed = task.fails(id);
        let mark = mark.clone();
        let mut pending = Pending { device: id, mapping, mark, by: None, unmapped: false, reset, named: None, failed };
        if matches!(family, Family::Single | Family::Resource) {
            // The IOMMU's event comes before this one.
            if task.unmapped(pending.mapping.addr) {
                pending.by = Some(By { backend: Backend::Iommu, named: false, line });
            } else if pending.mapping.phys == Some(pending.mapping.addr)
                && pending.mapping.backend.is_none_or(|by| by.backend != Backend::Iommu)
            {
                pending.by = Some(By { backend: Backend::Direct, named: false, line });
            }
            self.judge_backend(pending);
        } else {
            task.unmaps.clear();
            task.pending = Some(pending);
        }
    }

    /// A function of a back-end that frees.
    pub(in crate::model) fn give_by(&mut self, at: At<'_>, backend: Backend) {
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

    pub(in crate::model) fn iommu_unmap(&mut self, at: At<'_>, start: u64, end: u64, unmapped: Option<u64>) {
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
                "the IOMMU unmapped {unmapped} of {} bytes at {start:#x}: a part was not mapped, which supports a double unmap, or \
                 a leak of what should have been there",
                end - start
            );
            match device {
                Some(id) => self.devices[id].life_at(&mark).note(words, vec![mark.cite()]),
                None => self.fact(super::Fact { words, cites: vec![mark.cite()] }),
            }
        }
    }

    /// Judges what the task left open: its next event shows that no more lines belong to it.
    pub(in crate::model) fn settle(&mut self, key: TaskKey) {
        self.settle_but_release(key);
        let Some(release) = self.tasks.get_mut(&key).and_then(|task| task.release.take()) else { return };
        self.released(release);
    }

    fn settle_but_release(&mut self, key: TaskKey) {
        if let Some(pending) = self.tasks.get_mut(&key).and_then(|task| task.pending.take()) {
            self.judge_backend(pending);
        }
    }
}

/// Entries of a list that every kernel prints; some stop there.
const PRINTED: usize = 128;

/// The key of a scatterlist: unmapping names its physical addresses only.
fn list_key(list: &str) -> u64 {
    let mut hasher = FxHasher::default();
    for entry in list.trim_matches(['{', '}']).split(',').take(PRINTED) {
        entry.trim().hash(&mut hasher);
    }
    hasher.finish()
}
