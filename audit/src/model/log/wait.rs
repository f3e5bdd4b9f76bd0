//! A tear-down that waits for the device's user, and a bounce buffer without room.

use super::super::verdict::{Finding, Verdict};
use super::super::{Id, Model};
use super::DeviceLog;
use crate::rules::Rule;

/// The largest piece of the bounce buffer, in bytes: 128 slots of 2 KiB.
const BOUNCE_SEGMENT: u64 = 256 << 10;

impl Model {
    pub(in crate::model) fn requests(&mut self, id: Id) {
        let device = &mut self.devices[id];
        if let Some((first, from, last, to)) = device.log.requests.take() {
            let span = last
                .age(&first)
                .filter(|span| *span > 0)
                .map_or_else(String::new, |ns| format!(" for at least {} s", grouped(ns / 1_000_000_000)));
            let before = if from > Some(0) { ", of which the first are not in the file" } else { "" };
            let requests = match (from, to) {
                (Some(from), Some(to)) => format!(": requests (#{from}) to (#{to}){before}"),
                _ => String::new(),
            };
            let words = format!(
                "the unbind waits for the user of the device{span}{requests}; the tear-down is not over in this file"
            );
            let mut cites = vec![first.cite()];
            if last.place != first.place {
                cites.push(last.cite());
            }
            let life = device.life_at(&first);
            life.teardown.get_or_insert(first);
            life.driver.get_or_insert_with(|| "vfio-pci".into());
            life.find(Finding { rule: Rule::ENDLESS, verdict: Verdict::CannotTell, words, cites, known: None });
        }
        if let Some(mark) = device.log.blocked.take() {
            let words =
                "the unbind waits until the user gives the device back, and there is no channel to ask it".to_owned();
            let life = device.life_at(&mark);
            life.teardown.get_or_insert(mark.clone());
            life.find(Finding {
                rule: Rule::ENDLESS,
                verdict: Verdict::CannotTell,
                words,
                cites: vec![mark.cite()],
                known: None,
            });
        }
    }

    pub(in crate::model) fn bounces(&mut self, id: Id) {
        let device = &mut self.devices[id];
        let bounces = std::mem::take(&mut device.log.bounces);
        let (large, small): (Vec<_>, Vec<_>) = bounces.into_iter().partition(|(_, size, ..)| *size > BOUNCE_SEGMENT);
        let reloaded = device.log.reloaded;
        if let Some((mark, size, _, used)) = large.first() {
            let used = used.map_or_else(String::new, |used| format!(", with {used} slots in use"));
            let words = format!(
                "one request of {size} bytes is too large for a piece of the bounce buffer ({BOUNCE_SEGMENT} bytes){used}: a mapping \
                 that failed, no leak"
            );
            device.life_at(mark).note(words, vec![mark.cite()]);
            device
                .life_at(mark)
                .on(Rule::BOUNCE)
                .doubt("mappings failed; what that means for a tear-down the log does not tell");
        }
        if let (Some(first), Some(last)) = (small.first(), small.last()) {
            let used: Vec<u64> = small.iter().filter_map(|(.., used)| *used).collect();
            let total = first.2.map_or_else(String::new, |total| format!(" of {total}"));
            let rises =
                used.iter().max().map_or_else(String::new, |most| format!(": its use rises to {most}{total} slots"));
            let stays = if reloaded { ", and stays so after the driver was unloaded and loaded" } else { "" };
            let words = format!(
                "the bounce buffer is full{rises}{stays}; that looks like a leak, but the count is the \
                 whole machine's"
            );
            let mut cites = vec![first.0.cite()];
            cites.extend(small.iter().skip(1).take(3).map(|(mark, ..)| mark.cite()));
            let life = device.life_at(&last.0);
            life.find(Finding { rule: Rule::BOUNCE, verdict: Verdict::CannotTell, words, cites, known: None });
        }
    }
}

impl DeviceLog {
    /// True while VFIO asks the device's user to give it back.
    pub(in crate::model) fn waits(&self) -> bool {
        self.requests.is_some()
    }
}

/// `6,143`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
