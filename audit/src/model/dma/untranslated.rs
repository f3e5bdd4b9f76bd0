//! Untranslated DMA of a device that was meant to be translated.
//!
//! The default domain's type and a group do not show what a device was meant to have: an IOMMU's driver may choose identity
//! for it without a word, and the group's type may be changed while no driver is bound. Only what is about the group itself
//! decides.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::super::verdict::{Cite, Finding, Verdict};
use super::super::{Id, Mapping, Mark, Model};
use super::backend::UNATTACHED;
use crate::event::{Backend, DomainType, Family};
use crate::host::GroupType;
use crate::rules::Rule;

/// Pages at their own physical address that no chance explains where the IOMMU's maps are not recorded.
const NO_CHANCE: u64 = 3;

/// Mappings of one group that are looked at.
const MOST_SHOWN: usize = 64;

/// Mappings through the IOMMU by machine and group: device, life, line, and the losses before it.
type Members = FxHashMap<(Option<Arc<str>>, u64), Vec<(Id, u32, Mark, u32)>>;

/// What the direct path gave a device in one life.
#[derive(Debug)]
pub(in crate::model) struct Untranslated {
    mark: Mark,
    addr: u64,
    /// True where the address itself shows it, false where a function does.
    by_address: bool,
    /// True once a function named the direct path.
    named: bool,
    /// Other addresses than the last one that were given away like that.
    count: u64,
    last: u64,
    epoch: u32,
}

/// What is known of the domain that a device was meant to have.
enum Meant {
    Translated(String, Vec<Cite>),
    Identity,
    /// Not known, for a reason.
    Unsure(String),
    /// Nothing is about it.
    Silent,
}

impl Model {
    /// Notes what a mapping shows of the device's domain.
    pub(super) fn translates(&mut self, id: Id, mapping: &Mapping) {
        let Some(by) = mapping.backend else { return };
        let epoch = self.epoch;
        let life = self.devices[id].life_at(&mapping.mark);
        if by.backend == Backend::Iommu && (by.named || mapping.family != Family::Sg) {
            life.translated.get_or_insert_with(|| (mapping.mark.clone(), epoch));
            return;
        }
        // Where no physical address is printed, as for coherent memory, the direct path must be named.
        let by_address = mapping.phys.is_some();
        if by.backend != Backend::Direct || !mapping.phys.map_or(by.named, |phys| phys == mapping.addr) {
            return;
        }
        let direct = life.direct.get_or_insert_with(|| Untranslated {
            mark: mapping.mark.clone(),
            addr: mapping.addr,
            by_address,
            named: false,
            count: 1,
            last: mapping.addr,
            epoch,
        });
        direct.named |= by.named;
        if direct.last != mapping.addr {
            direct.count += 1;
            direct.last = mapping.addr;
        }
    }

    /// Judges untranslated DMA by all that is known now.
    pub(in crate::model) fn judge_untranslated(&mut self) {
        let pending = |life: &super::super::Life| life.direct.is_some();
        if !self.devices.iter().any(|device| device.past.iter().chain(&device.life).any(pending)) {
            return;
        }
        let members = self.members();
        for id in 0..self.devices.len() {
            let device = &mut self.devices[id];
            let pending = |life: &mut super::super::Life| Some((life.number, life.direct.take()?, life.taint.clone()));
            let mut direct: Vec<_> = device.past.iter_mut().filter_map(pending).collect();
            direct.extend(device.life.as_mut().and_then(pending));
            for (number, direct, taint) in direct {
                self.untranslated(id, (number, &direct), taint, &members);
            }
        }
    }

    /// Mappings through the IOMMU by group. A group has one domain, so that each device of it shows the others' type.
    fn members(&self) -> Members {
        let mut members = Members::default();
        for (id, device) in self.devices.iter().enumerate() {
            let Some(group) = device.group else { continue };
            let list = members.entry((device.machine.clone(), group)).or_default();
            for life in device.past.iter().chain(&device.life) {
                if let Some((mark, epoch)) = life.translated.as_ref().filter(|_| list.len() < MOST_SHOWN) {
                    list.push((id, life.number, mark.clone(), *epoch));
                }
            }
        }
        members
    }

    fn untranslated(
        &mut self,
        id: Id,
        (number, direct): (u32, &Untranslated),
        taint: Option<String>,
        members: &Members,
    ) {
        let line = direct.mark.place.line;
        let what = if direct.by_address { "the physical address itself," } else { "memory of the direct path at" };
        let gives = format!("line {line} gives the device {what} {:#x}", direct.addr);
        let meant = self.meant(id, number, direct, members);
        let recorded = direct.named || self.heard.iommu_map || self.heard.domains || direct.count >= NO_CHANCE;
        let device = &mut self.devices[id];
        let Some(life) = device.past.iter_mut().chain(&mut device.life).find(|life| life.number == number) else {
            return;
        };
        match meant {
            Meant::Translated(words, mut cites) => {
                cites.push(direct.mark.cite());
                let mut finding = Finding {
                    rule: Rule::IDENTITY,
                    verdict: Verdict::Violated,
                    words: format!("{words}, but {gives}"),
                    cites,
                    known: None,
                };
                let doubt = if direct.named {
                    None
                } else if !recorded {
                    let why =
                        "an IOVA may be equal to it by chance where no iommu:map is recorded: enable events/iommu";
                    Some(why.to_owned())
                } else {
                    taint.map(|taint| format!("{taint}, and the IOMMU's map may be among them"))
                };
                if let Some(doubt) = doubt {
                    finding.verdict = Verdict::CannotTell;
                    finding.words = format!("{}; but {doubt}", finding.words);
                }
                life.find(finding);
            }
            Meant::Unsure(why) => life.on(Rule::IDENTITY).doubt(format!("{gives}; {why}")),
            Meant::Identity | Meant::Silent => {}
        }
    }

    fn meant(&self, id: Id, number: u32, direct: &Untranslated, members: &Members) -> Meant {
        let device = &self.devices[id];
        let place = direct.mark.place;
        let listed = self.host.type_of(&device.name);
        if listed == Some(GroupType::Identity) {
            return Meant::Identity;
        }
        match &device.domain_type {
            Some((DomainType::Identity, _)) => return Meant::Identity,
            Some((DomainType::Failed, mark)) if device.group.is_some() => {
                let words = format!("translation could not be set up for it (line {})", mark.place.line);
                return Meant::Translated(words, vec![mark.cite()]);
            }
            Some((DomainType::Translated, mark)) if device.retyped.is_empty() => {
                let words = format!("its own domain is translated (line {})", mark.place.line);
                return Meant::Translated(words, vec![mark.cite()]);
            }
            _ => {}
        }
        if listed == Some(GroupType::Translated) && device.retyped.is_empty() {
            return Meant::Translated("its group is of the type DMA (by the listing of sysfs)".to_owned(), Vec::new());
        }
        let Some((true, policy)) = &self.translated else { return Meant::Silent };
        let Some(group) = device.group else { return Meant::Silent };
        let by_policy = format!("the policy is translated DMA (line {})", policy.place.line);
        let mut unseen = false;
        let own = device.past.iter().chain(&device.life);
        let own =
            own.filter_map(|life| Some((id, life.number, &life.translated.as_ref()?.0, life.translated.as_ref()?.1)));
        let mates = members.get(&(device.machine.clone(), group)).into_iter().flatten();
        let mates =
            mates.filter(|(other, ..)| *other != id).map(|(other, life, mark, epoch)| (*other, *life, mark, *epoch));
        for (other, life, mark, epoch) in own.chain(mates) {
            let member = &self.devices[other];
            let same = other == id && life == number;
            if !same && (member.is_retyped(mark.place, place) || device.is_retyped(mark.place, place)) {
                continue;
            }
            if !same && (epoch != direct.epoch || !self.heard.domains) {
                unseen = true;
                continue;
            }
            let line = mark.place.line;
            let who =
                if other == id { "it".to_owned() } else { format!("{}, in the same group {group},", member.name) };
            let words = format!("{by_policy}, and line {line} shows that {who} is translated");
            return Meant::Translated(words, vec![policy.clone(), mark.cite()]);
        }
        let why = if unseen { format!("; {UNATTACHED}") } else { String::new() };
        Meant::Unsure(format!(
            "{by_policy} and it is in group {group}, but the group's own type is not known, which an IOMMU's driver or the \
             administrator may have set to identity: /sys/kernel/iommu_groups/{group}/type tells (--record saves it, --host \
             TREE reads it){why}"
        ))
    }
}
