//! Faults of streams that nothing ties to a device, and `SMMUv3`'s records of several lines.

use super::super::verdict::{Cite, Finding, Verdict};
use super::super::{Mark, Model};
use super::MOST_STREAMS;
use super::fault::count;
use crate::event::{AMD, Fault, FaultDevice};
use crate::rules::Rule;
use crate::shape::Span;

#[derive(Debug)]
pub(super) struct SmmuRecord {
    iommu: String,
    event: u64,
    words: Vec<Option<u64>>,
    marks: Vec<Mark>,
    damaged: bool,
}

/// One fault of a stream whose device is not known.
#[derive(Debug)]
pub(in crate::model) struct StreamFault {
    pub(in crate::model) iommu: String,
    pub(in crate::model) stream: Option<u64>,
    pub(in crate::model) addr: Option<u64>,
    /// The fault in words.
    pub(in crate::model) event: String,
    /// The record is damaged.
    pub(in crate::model) damaged: bool,
}

#[derive(Debug)]
pub(super) struct Stream {
    iommu: String,
    number: Option<u64>,
    addr: Option<u64>,
    event: String,
    count: u64,
    cites: Vec<Cite>,
    first: Mark,
    damaged: u64,
}

impl Model {
    pub(super) fn record_head(&mut self, mark: Mark, iommu: &str, event: u64, damaged: bool) {
        self.flush_record();
        let marks = vec![mark];
        self.log.record = Some(SmmuRecord { iommu: iommu.into(), event, words: Vec::new(), marks, damaged });
    }

    pub(super) fn record_word(&mut self, mark: Mark, iommu: &str, value: Option<u64>, damaged: bool) {
        let Some(record) = self.log.record.as_mut().filter(|record| record.iommu == iommu) else { return };
        record.words.push(value);
        record.damaged |= damaged || value.is_none();
        record.marks.push(mark);
    }

    /// Judges what earlier lines began, unless `text` may be a part of it.
    pub(super) fn settle_faults(&mut self, text: &str) {
        let part = |keys: &[&str]| keys.iter().any(|key| text.contains(key));
        if self.log.record.as_ref().is_some_and(|record| record.words.len() == 4) && !part(&["event: "]) {
            self.flush_record();
        }
        if self.log.held.as_ref().is_some_and(|held| !held.has_line(text)) && !part(&["SID=", "FSYNR0 ", " stag: "]) {
            self.flush_held();
        }
    }

    /// Drops the raw record that the kernel's own words follow, which say all that it says.
    pub(super) fn take_record(&mut self) {
        self.log.record.take_if(|record| record.words.len() == 4);
    }

    pub(in crate::model) fn flush_record(&mut self) {
        let Some(record) = self.log.record.take() else { return };
        let SmmuRecord { iommu, event, words, marks, damaged } = record;
        let word = |at: usize| words.get(at).copied().flatten();
        let stream = word(0).map(|word| word >> 32);
        let addr = word(2);
        let damaged = damaged || words.len() < 4;
        let name = match event {
            0x02 => " (stream not known)",
            0x10 => " (translation)",
            0x11 => " (address size)",
            0x12 => " (access flag)",
            0x13 => " (permission)",
            _ => "",
        };
        let Some((first, rest)) = marks.split_first() else { return };
        if let Some(device) = stream.and_then(|stream| self.host.device_of(&iommu, stream)).map(str::to_owned) {
            let fault = Fault {
                device: FaultDevice::Named(device),
                addr,
                write: None,
                cause: name.trim().into(),
                by: "SMMUv3",
            };
            return self.fault(first, fault, damaged);
        }
        let event = format!("event {event:#04x}{name}");
        self.stream(first, rest, StreamFault { iommu, stream, addr, event, damaged });
    }

    /// Counts a fault of a stream whose device is not known. `mark` is its first line, `more` the other ones.
    pub(in crate::model) fn stream(&mut self, mark: &Mark, more: &[Mark], fault: StreamFault) {
        let StreamFault { iommu, stream, addr, event, damaged } = fault;
        let same = |known: &&mut Stream| known.iommu == iommu && known.number == stream && known.addr == addr;
        if let Some(known) = self.log.streams.iter_mut().find(same) {
            known.count += 1;
            known.damaged += u64::from(damaged);
            if known.cites.len() < 12 {
                known.cites.push(mark.cite());
                known.cites.extend(more.iter().map(Mark::cite));
            }
        } else if self.log.streams.len() < MOST_STREAMS {
            let mut cites = vec![mark.cite()];
            cites.extend(more.iter().map(Mark::cite));
            let first = mark.clone();
            let damaged = u64::from(damaged);
            self.log.streams.push(Stream { iommu, number: stream, addr, event, count: 1, cites, first, damaged });
        }
    }

    pub(in crate::model) fn streams(&mut self) {
        for stream in std::mem::take(&mut self.log.streams) {
            let Stream { iommu, number: stream, addr, event, count: n, cites, first, damaged } = stream;
            let lost = if damaged > 0 { "a damaged address" } else { "an unknown address" };
            let at = addr.map_or_else(|| lost.to_owned(), |addr| format!("address {addr:#x}"));
            let unknown = if iommu == AMD { "an unnamed device" } else { "an unnamed stream" };
            let which = stream.map_or_else(|| unknown.to_owned(), |stream| format!("stream {stream:#x}"));
            let mut words = format!("{n} {} of {iommu}: {which}, {at}, {event}", count(n, "fault"));
            if damaged > 0 {
                words = format!("{words}; {damaged} of the records are damaged");
            }
            words = format!("{words}; nothing in the file ties streams of this IOMMU to devices (--host TREE may)");
            // PCI devices often use their bus number, device and function as stream.
            let guess = stream
                .filter(|stream| *stream <= 0xffff)
                .map(|rid| format!("0000:{:02x}:{:02x}.{}", rid >> 8, rid >> 3 & 0x1f, rid & 7));
            let mut cites = cites;
            let guessed = guess.and_then(|name| self.known(&name));
            if let Some(id) = guessed {
                let log = &self.devices[id].log;
                let name = self.devices[id].name.clone();
                words = format!("{words}. Probable: {name}, read as bus, device and function");
                if let Some(left) = &log.left {
                    let age = first.age(left).map_or_else(String::new, |age| format!("{} ", Span(age)));
                    words = format!(
                        "{words}, whose driver began to release it {age}before (line {}); if so, this is R9",
                        left.place.line
                    );
                    cites.insert(0, left.cite());
                }
            }
            self.loose(Finding { rule: Rule::LATE, verdict: Verdict::CannotTell, words, cites, known: None });
        }
    }
}
