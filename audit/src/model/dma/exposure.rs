//! Exposures: mappings that share a page, and those that are bounced.

use super::super::record::At;
use super::super::{Id, Mapping, Mark, Model};

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
}
