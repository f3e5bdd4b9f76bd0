//! Exposures: mappings that share a page, and untranslated DMA.

use super::super::record::At;
use super::super::verdict::Finding;
use super::super::{Id, Mapping, Mark, Model, Verdict};
use crate::event::Backend;
use crate::rules::Rule;

/// Small mappings whose pages are looked at at once.
const MOST_SUB_PAGES: usize = 65_536;
const PAGE: u64 = 4096;

impl Model {
    /// A mapping whose memory the device does not reach by itself.
    pub(in crate::model) fn bounced(&mut self, at: At<'_>, device: &str) {
        let Some(id) = self.id(device) else { return };
        self.task(at.task).bounced = Some(id);
        let device = &mut self.devices[id];
        device.life_at(&at.mark()).traced = true;
        match &mut device.bounced {
            Some((count, _)) => *count += 1,
            None => device.bounced = Some((1, at.mark())),
        }
    }

    /// Says how many of a life's mappings were bounced.
    pub(in crate::model) fn tell_bounced(&mut self, id: Id) {
        let device = &mut self.devices[id];
        let Some((count, first)) = device.bounced.take() else { return };
        let words = format!(
            "{count} of its mappings went through the bounce buffer (the first at line {}): their DMA addresses are the buffer's",
            first.place.line
        );
        device.life_at(&first).note(words, vec![first.cite()]);
    }

    pub(in crate::model) fn flushed(&mut self, mark: &Mark, device: &str, start: u64, last: u64) {
        if let Some(id) = self.known(device) {
            self.devices[id].flush(start, last, mark.clone());
        }
    }

    /// Mappings that are smaller than a page and share it with another one: an exposure.
    pub(in crate::model) fn share_page(&mut self, id: Id, mapping: &Mapping) {
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

    pub(in crate::model) fn unshare_page(&mut self, id: Id, mapping: &Mapping) {
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
    pub(in crate::model) fn identity(&mut self, id: Id, mapping: &Mapping) {
        // Where no physical address is printed, as for coherent memory, the direct path must be named.
        let shown = |named: bool| mapping.phys.map_or(named, |phys| phys == mapping.addr);
        let direct = mapping.backend.is_some_and(|by| by.backend == Backend::Direct && shown(by.named));
        let Some((true, policy)) = self.translated.as_ref().filter(|_| direct) else { return };
        if self.host.is_identity(&self.devices[id].name) {
            return;
        }
        let policy = policy.clone();
        let device = &mut self.devices[id];
        let Some(group) = device.group else { return };
        let life = device.life_at(&mapping.mark);
        if life.outcome(Rule::IDENTITY).violated > 0 {
            return;
        }
        let what = if mapping.phys.is_some() { "the physical address itself," } else { "memory of the direct path at" };
        let words = format!(
            "the policy is translated DMA (line {}), but line {} gives the device {what} {:#x}, though it is in group {group}",
            policy.place.line, mapping.mark.place.line, mapping.addr
        );
        let cites = vec![policy, mapping.mark.cite()];
        life.find(Finding { rule: Rule::IDENTITY, verdict: Verdict::Violated, words, cites, known: None });
    }
}
