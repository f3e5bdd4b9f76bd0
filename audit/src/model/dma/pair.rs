//! A free held against what was taken.

use super::super::record::At;
use super::super::verdict::{Finding, Verdict};
use super::super::{Id, Mapping, Mark, Model};
use crate::event::{Dir, Family, Op};
use crate::rules::Rule;
use crate::shape::Span;

/// Longest delay of a free's event behind the unbind's end on another CPU, in nanoseconds: an unmap is logged after its work.
const REORDER: u64 = 100_000;

/// Reason why it is not known what was taken.
const UNTAKEN: &str = "no allocation or mapping of this kind is recorded of any device: enable all of events/dma";

impl Model {
    pub(in crate::model) fn compare(&mut self, id: Id, mapping: &Mapping, op: &Op<'_>, mark: &Mark) {
        let mut wrong = Vec::new();
        if mapping.family != op.family && !similar(mapping.family, op.family) {
            wrong.push(format!("as {} instead of {}", op.family, mapping.family));
        }
        if op.family != Family::Sg
            && let Some(size) = op.size
            && size != mapping.size
            && mapping.size != 0
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
    pub(in crate::model) fn late(&mut self, at: At<'_>, id: Id, mapping: &Mapping, mark: &Mark) {
        let life = self.devices[id].life_at(mark);
        let Some((end, _)) = &life.end else { return };
        let age = mark.age(end);
        if mapping.mark.place >= end.place || age.is_some_and(|age| age < REORDER) && at.task.pid != 0 {
            return;
        }
        let (end_line, end) = (end.place.line, end.cite());
        let after = age.map_or_else(String::new, |age| format!("{} ", Span(age)));
        let words = format!(
            "{} of {} bytes at {:#x}, taken at line {}, was still live at the end of the unbind (line {end_line}); it is freed \
             {after}after that, at line {}",
            mapping.family, mapping.size, mapping.addr, mapping.mark.place.line, mark.place.line
        );
        let cites = vec![mapping.mark.cite(), end, mark.cite()];
        life.suspect(Finding { rule: Rule::LEAK, verdict: Verdict::Violated, words, cites, known: None });
    }

    pub(in crate::model) fn unknown_give(&mut self, at: At<'_>, id: Id, op: &Op<'_>, mark: &Mark) {
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
        if self.heard.took & 1 << op.family as u8 == 0 && other.is_none() {
            let words = format!("{} at {addr:#x} is given back at line {line}, but {UNTAKEN}", op.family);
            let life = self.devices[id].life_at(mark);
            life.traced = true;
            return life.on(Rule::NOT_TAKEN).doubt(words);
        }
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
}

/// Kinds that one function may serve.
fn similar(taken: Family, given: Family) -> bool {
    matches!((taken, given), (Family::Single, Family::Resource) | (Family::Resource, Family::Single))
}
