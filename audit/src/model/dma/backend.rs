//! The back-end of each end of an allocation, and of each life.

use super::super::task::{By, Pending};
use super::super::verdict::{DEFERRAL, Finding, Known, SEED, SEED_PROBE, Verdict};
use super::super::{Id, Life, Mapping, Mark, Model};
use crate::event::{Backend, Family};
use crate::rules::Rule;
use crate::shape::Span;

/// Reason why a back-end is not known.
pub(in crate::model) const UNNAMED: &str = "no line names the back-end of some calls; add iommu_dma_alloc iommu_dma_free dma_direct_alloc dma_direct_free to \
     set_ftrace_filter, and enable events/iommu";

/// The same where lines have no flags.
const MIXED: &str = "the lines have no flags, so that the events of an interrupt cannot be told from those of the task that it \
     interrupts: record with the option irq-info, or read the text of /sys/kernel/tracing/trace";

/// Reason why a change of the domain may have gone unseen.
pub(super) const UNATTACHED: &str = "the type of a group may be changed while no driver is bound, and whether attachments are recorded is \
     not known: enable events/iommu, which shows attach_device_to_domain";

impl Model {
    pub(in crate::model) fn judge_backend(&mut self, pending: Pending) {
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
            // Without the IOMMU's maps an equal address or a bounce shows no direct path.
            (Some(taken), Some(_)) if taken.backend == Backend::Direct && !taken.named && !heard.iommu_map => {
                life.on(on).doubt(UNNAMED);
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
                    && !heard.mixed
                    && matches!(mapping.family, Family::Coherent | Family::Pages) =>
            {
                let words = format!(
                    "{} at {:#x} was allocated through the IOMMU at line {} and freed at line {line}, but no iommu:unmap followed: \
                     the free did not go through the IOMMU back-end, or the range stays mapped",
                    mapping.family, mapping.addr, mapping.mark.place.line
                );
                let cites = vec![mapping.mark.cite(), mark.cite()];
                // Whether these events are recorded at all is known at the end.
                life.suspect(Finding { rule: on, verdict: Verdict::Violated, words, cites, known: None });
            }
            (Some(taken), None) if taken.backend == Backend::Iommu && heard.mixed && !at_end => {
                life.on(on).doubt(MIXED);
            }
            // A mapping of the IOMMU's is never without its events: whether they are recorded is known at the end.
            (taken, None)
                if taken.is_none_or(|by| by.backend == Backend::Direct)
                    && matches!(mapping.family, Family::Single | Family::Resource | Family::Sg) =>
            {
                life.unnamed += 1;
            }
            _ => life.on(on).doubt(UNNAMED),
        }
    }

    /// The back-end of a life, held against the one of the life before.
    pub(in crate::model) fn backend_of_life(&mut self, id: Id, by: By, mark: &Mark) {
        let device = &mut self.devices[id];
        let life = device.life_at(mark);
        if life.backend.is_some() {
            return;
        }
        life.backend = Some(by);
        // What changed before this life's first mapping explains a difference; what comes later belongs to the next one.
        let changed = std::mem::take(&mut device.domain_changed);
        let before = device.backend.replace((by, mark.clone(), self.epoch));
        let Some((old, old_mark, epoch)) = before.filter(|(old, ..)| old.backend != by.backend) else { return };
        let deferred = device.deferred.take();
        let words = format!(
            "served by {} since line {}, but by {} in the life before (line {})",
            by.backend, mark.place.line, old.backend, old_mark.place.line
        );
        let mut cites = vec![old_mark.cite(), mark.cite()];
        let life = device.life_at(mark);
        if changed {
            life.note(format!("{words}; its domain or group changed in between"), cites);
        } else if epoch != self.epoch {
            life.on(Rule::NEXT_PROBE).doubt(format!("{words}; but events were lost in between"));
        } else if (deferred.is_none() || old.backend == Backend::Direct) && !self.heard.domains {
            life.on(Rule::NEXT_PROBE).doubt(format!("{words}; {UNATTACHED}"));
        } else {
            let known = deferred.as_ref().map(|_| DEFERRAL);
            cites.extend(deferred.map(|mark| mark.cite()));
            life.find(Finding { rule: Rule::NEXT_PROBE, verdict: Verdict::Violated, words, cites, known });
        }
    }
}

/// The mismatch of back-ends, in words.
pub(in crate::model) fn mismatch(
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
fn known_of(life: &Life, mapping: &Mapping, failed: bool) -> Option<Known> {
    if !mapping.managed {
        return None;
    }
    if failed { Some(SEED_PROBE) } else { life.teardown.as_ref().map(|_| SEED) }
}
