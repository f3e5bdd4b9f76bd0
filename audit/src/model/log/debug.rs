//! Debug lines, as patterns read them.

use super::super::task::By;
use super::super::verdict::{Finding, SEED, Verdict};
use super::super::{End, Id, Mark, Model};
use crate::event::Backend;
use crate::pattern::{DebugLine, Kind};
use crate::rules::Rule;

/// Allocations of debug lines that are kept of a device.
const MOST_DEBUG: usize = 10_000;

#[derive(Debug)]
pub(super) struct DebugTaken {
    addr: Option<u64>,
    virt: Option<u64>,
    size: Option<u64>,
    by: Option<(Backend, String, Mark)>,
    mark: Mark,
}

impl Model {
    pub(in crate::model) fn debug_line(&mut self, mark: &Mark, line: DebugLine) {
        let Some(id) = self.id(&line.device) else { return };
        self.log.last_leaving = Some((id, mark.clone()));
        let device = &mut self.devices[id];
        match line.kind {
            Kind::AllocBy => device.log.by = line.backend.map(|backend| (backend, line.name, mark.clone())),
            Kind::Alloc => {
                let by = device.log.by.take();
                if device.life.as_ref().is_some_and(|life| life.teardown.is_some() && !life.traced) {
                    self.doubt_log_life(id);
                    self.close(id, mark, End::Reprobed);
                }
                if let Some((backend, _, by_mark)) = &by {
                    let by = By { backend: *backend, named: true, line: by_mark.place.line };
                    self.backend_of_life(id, by, mark);
                }
                let device = &mut self.devices[id];
                let life = device.life_at(mark);
                life.by_debug_lines = true;
                life.taken += 1;
                if device.log.taken.len() < MOST_DEBUG {
                    device.log.taken.push(DebugTaken {
                        addr: line.addr,
                        virt: line.virt,
                        size: line.size,
                        by,
                        mark: mark.clone(),
                    });
                }
            }
            Kind::Free => {
                let same = |taken: &DebugTaken| {
                    taken.addr.is_some()
                        && taken.addr == line.addr
                        && (taken.virt.is_none() || line.virt.is_none() || taken.virt == line.virt)
                };
                let at = device.log.taken.iter().rposition(same);
                device.log.freeing = Some((mark.clone(), at));
                device.life_at(mark).teardown.get_or_insert(mark.clone());
            }
            Kind::FreeBy => {
                let Some(given) = line.backend else { return };
                let Some((free, at)) = device.log.freeing.take() else { return };
                let taken = at.map(|at| device.log.taken.remove(at));
                let life = device.life_at(mark);
                life.by_debug_lines = true;
                life.given += 1;
                self.debug_free(id, mark, &free, taken, given, &line.name);
            }
        }
    }

    fn debug_free(&mut self, id: Id, mark: &Mark, free: &Mark, taken: Option<DebugTaken>, given: Backend, name: &str) {
        let life = self.devices[id].life_at(mark);
        let Some(DebugTaken { addr, size, by: Some((backend, by_name, by_mark)), mark: taken, .. }) = taken else {
            life.on(Rule::BACKEND)
                .doubt(format!("freed through {name} at line {}, but no line says what allocated it", mark.place.line));
            return;
        };
        if backend == given {
            life.on(Rule::BACKEND).proved += 1;
            life.on(Rule::BACKEND).how = Some("by the debug lines");
            life.on(Rule::LEAK).proved += 1;
            life.on(Rule::LEAK).how = Some("by the debug lines, as far as they go");
            return;
        }
        let words = format!(
            "{} bytes at {:#x} were allocated through {backend} ({by_name}, line {}) and freed by {given} ({name}, line {})",
            size.unwrap_or(0),
            addr.unwrap_or(0),
            by_mark.place.line,
            mark.place.line
        );
        let cites = vec![by_mark.cite(), taken.cite(), free.cite(), mark.cite()];
        life.find(Finding { rule: Rule::BACKEND, verdict: Verdict::Violated, words, cites, known: Some(SEED) });
    }

    pub(in crate::model) fn left_by_debug(&mut self, id: Id) {
        let dropped = self.log.dropped.clone();
        let device = &mut self.devices[id];
        let taken = std::mem::take(&mut device.log.taken);
        let torn = device.life.as_ref().is_some_and(|life| life.teardown.is_some() && life.by_debug_lines);
        if let Some((count, cite)) = dropped.filter(|_| torn) {
            let reason = format!("{count} messages of the log were dropped, from line {} on", cite.place.line);
            if let Some(life) = &mut device.life {
                life.on(Rule::LEAK).doubt(reason);
            }
        }
        if let Some(first) = taken.first().filter(|_| torn) {
            let reason = format!(
                "{} allocations of the debug lines have no free there (line {})",
                taken.len(),
                first.mark.place.line
            );
            device.life_at(&first.mark.clone()).on(Rule::LEAK).doubt(reason);
        }
    }
}
