//! Faults in the kernel log: whose they are, and whether the address had been given back.

use std::collections::VecDeque;

use super::super::device::Gone;
use super::super::verdict::{Cite, Finding, Verdict};
use super::super::{Id, Mapping, Mark, Model};
use super::stream::StreamFault;
use crate::event::{Fault, FaultDevice};
use crate::rules::Rule;
use crate::shape::{Clock, Place, Span};

/// Messages of VT-d's and `SMMUv3`'s fault handlers that the kernel prints at once (its default rate limit).
const BURST: u64 = 10;
/// In this time, in nanoseconds.
const BURST_SPAN: u64 = 5_000_000_000;
/// Silence after a driver began to leave, in nanoseconds, after which another one may have the device.
const SILENT: u64 = 60_000_000_000;
/// Largest difference between the clocks of a trace and of the kernel log, in nanoseconds; 1.2 s were seen.
const CLOCKS_DIFFER: u64 = 2_000_000_000;
/// Faults of a run that are cited; further ones are counted.
const MOST_CITED: usize = 4;

/// Whose faults they are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// The driver had left.
    Left,
    /// A command to unbind was seen, but no line of the kernel.
    Hinted,
    /// The driver had left, and a line of a driver came since.
    Returned,
    /// VFIO had the device.
    Vfio,
    /// A driver, or none that is known.
    Other,
}

/// Faults of one device under one owner.
#[derive(Debug)]
pub(super) struct Run {
    owner: Owner,
    count: u64,
    cites: Vec<Cite>,
    first: Mark,
    last: Mark,
    addrs: Vec<u64>,
    write: Option<bool>,
    by: &'static str,
    cause: String,
}

/// Lines behind a fault in which further ones about it may come.
const FURTHER: u64 = 8;

/// A fault of an SMMU, of which further lines may tell more.
#[derive(Debug)]
pub(super) struct Held {
    mark: Mark,
    fault: Fault,
    damaged: bool,
    times: u64,
    /// True once the line that names its stream has come.
    detailed: bool,
}

impl Held {
    /// True for a line of the same SMMU that begins no fault of its own.
    pub(super) fn has_line(&self, text: &str) -> bool {
        matches!(&self.fault.device, FaultDevice::Stream { iommu, .. } if !iommu.is_empty() && text.contains(iommu))
    }
}

impl Model {
    pub(in crate::model) fn fault(&mut self, mark: &Mark, fault: Fault, damaged: bool) {
        self.flush_held();
        if fault.by == "SMMUv3" {
            self.take_record();
        }
        if fault.by.starts_with("SMMU") {
            let times = self.log.times;
            self.log.held = Some(Held { mark: mark.clone(), fault, damaged, times, detailed: false });
            return;
        }
        self.fault_of(mark, fault, damaged, self.log.times);
    }

    /// The stream of the fault before, or of one whose first line is missing.
    pub(in crate::model) fn stream_of(&mut self, mark: &Mark, of: &str, number: u64) {
        // Another CPU's line stood between: the fault has been judged without its stream.
        if let Some((iommu, line)) = self.log.judged.take()
            && iommu == of
            && (line..=line + FURTHER).contains(&mark.place.line)
        {
            return;
        }
        if let Some(held) = &mut self.log.held
            && !held.detailed
            && let FaultDevice::Stream { iommu, stream } = &mut held.fault.device
            && iommu == of
        {
            stream.get_or_insert(number);
            held.detailed = true;
            return;
        }
        let device = FaultDevice::Stream { iommu: of.to_owned(), stream: Some(number) };
        let fault = Fault { device, addr: None, write: None, cause: "context fault".into(), by: "SMMUv2" };
        self.flush_held();
        self.log.held = Some(Held { mark: mark.clone(), fault, damaged: false, times: 1, detailed: true });
    }

    /// The direction of the fault before.
    pub(super) fn access_of(&mut self, of: &str, write: bool) {
        if let Some(held) = &mut self.log.held
            && !matches!(&held.fault.device, FaultDevice::Stream { iommu, .. } if iommu != of)
        {
            held.fault.write = Some(write);
        }
    }

    pub(in crate::model) fn flush_held(&mut self) {
        if let Some(Held { mark, fault, damaged, times, detailed }) = self.log.held.take() {
            self.log.judged = match &fault.device {
                FaultDevice::Stream { iommu, .. } if !detailed => Some((iommu.clone(), mark.place.line)),
                _ => None,
            };
            self.fault_of(&mark, fault, damaged, times);
        }
    }

    fn fault_of(&mut self, mark: &Mark, fault: Fault, damaged: bool, times: u64) {
        let name = match &fault.device {
            FaultDevice::Named(name) => Some(name.clone()),
            FaultDevice::Stream { iommu, stream } => {
                stream.and_then(|stream| self.host.device_of(iommu, stream)).map(str::to_owned)
            }
        };
        let Some(name) = name else {
            if let FaultDevice::Stream { iommu, stream } = fault.device {
                let event = format!(
                    "{}{}",
                    fault.by,
                    if fault.cause.is_empty() { String::new() } else { format!(", {}", fault.cause) }
                );
                self.stream(mark, &[], StreamFault { iommu, stream, addr: fault.addr, event, damaged });
            }
            return;
        };
        let Some(id) = self.id(&name) else { return };
        let device = &mut self.devices[id];
        let left = device.log.left.is_some();
        if device.life.as_ref().is_some_and(|life| life.traced) || device.past.iter().any(|life| life.traced) {
            self.trace_fault(mark, &name, fault.addr);
            if !left {
                return;
            }
        }
        let device = &mut self.devices[id];
        let vfio = device.log.driver.as_deref().is_some_and(|driver| driver.contains("vfio"));
        // A driver may take the device without a word, VFIO's among them.
        let silent = device.log.left.as_ref().is_some_and(|left| {
            let run = device.log.run.as_ref().filter(|run| run.owner == Owner::Left).map_or(left, |run| &run.last);
            mark.age(run).is_some_and(|age| age > SILENT)
        });
        let owner = if left && (device.log.since.is_some() || silent) {
            Owner::Returned
        } else if left {
            Owner::Left
        } else if vfio {
            Owner::Vfio
        } else if device.log.hint.is_some() {
            Owner::Hinted
        } else {
            Owner::Other
        };
        if device.log.run.as_ref().is_some_and(|run| run.owner != owner) {
            self.flush_run(id);
        }
        let run = self.devices[id].log.run.get_or_insert_with(|| Run {
            owner,
            count: 0,
            cites: Vec::new(),
            first: mark.clone(),
            last: mark.clone(),
            addrs: Vec::new(),
            write: fault.write,
            by: fault.by,
            cause: fault.cause.clone(),
        });
        run.count = run.count.saturating_add(times);
        run.last = mark.clone();
        if run.cites.len() < MOST_CITED {
            run.cites.push(mark.cite());
        }
        if let Some(addr) = fault.addr.filter(|addr| run.addrs.len() < MOST_CITED && !run.addrs.contains(addr)) {
            run.addrs.push(addr);
        }
        if run.write != fault.write {
            run.write = None;
        }
    }

    pub(in crate::model) fn flush_run(&mut self, id: Id) {
        let Some(mut run) = self.devices[id].log.run.take() else { return };
        if run.cites.last().is_some_and(|cite| cite.place != run.last.place) {
            run.cites.push(run.last.cite());
        }
        let (from, to) = (run.first.place, run.last.place);
        let (mut missing, mut suppressed) = (0, Vec::new());
        let here = self.devices[id].machine.clone();
        for (what, cite, _) in self.suppressed.iter().filter(|(.., machine)| *machine == here) {
            // A count is printed with the first message after the silence.
            let near = cite.place.file == from.file && cite.place.line + 5 > from.line;
            if (cite.place >= from || near)
                && (cite.place <= to || cite.place.file == to.file && cite.place.line < to.line + 5)
            {
                missing += what.count;
                suppressed.push(cite.clone());
            }
        }
        let access = match run.write {
            Some(true) => "writes",
            Some(false) => "reads",
            None => "accesses of a direction that the record does not tell",
        };
        let mut addrs: Vec<String> = run.addrs.iter().map(|addr| format!("{addr:#x}")).collect();
        if addrs.is_empty() {
            addrs.push("an unknown address".to_owned());
        }
        let mut what = format!("{} {} ({}) at {}", run.count, count(run.count, "fault"), run.by, addrs.join(", "));
        let limited = run.by == "VT-d" || run.by == "SMMUv3";
        if missing > 0 {
            what = format!("at least {what}; {missing} further messages were suppressed, whose devices are not known");
        } else if limited
            && run.count >= BURST
            && run.last.age(&run.first).is_none_or(|age| age < BURST_SPAN * (run.count / BURST))
        {
            what = format!(
                "at least {what}; the kernel prints {BURST} of these in 5 s at most, so that its silence after line {} proves nothing",
                run.last.place.line
            );
        }
        let device = &mut self.devices[id];
        let left = device.log.left.clone();
        let hint = device.log.hint.clone();
        let since = device.log.since.clone();
        let driver = device.log.driver.clone().unwrap_or_else(|| "its driver".to_owned());
        let life = device.life_at(&run.first);
        let mut cites: Vec<Cite> = left.iter().chain(hint.iter().filter(|_| left.is_none())).map(Mark::cite).collect();
        cites.extend(run.cites);
        cites.extend(suppressed);
        cites.sort_by_key(|cite| cite.place);
        let span = run
            .last
            .age(&run.first)
            .filter(|span| *span > 0)
            .map_or_else(String::new, |s| format!(", for at least {}", Span(s)));
        match run.owner {
            Owner::Left => {
                let left = left.unwrap_or(run.first);
                let age = run.last.age(&left).map_or_else(String::new, |age| format!(" (up to {} later)", Span(age)));
                let words = format!(
                    "still {access} after {driver} began to release it (line {}): {what}{span}{age}; whether the addresses had been \
                     mapped cannot be told without a trace",
                    left.place.line
                );
                life.find(Finding { rule: Rule::LATE, verdict: Verdict::Violated, words, cites, known: None });
            }
            Owner::Returned => {
                let left = left.unwrap_or_else(|| run.first.clone());
                let Some(since) = since else {
                    let words = format!(
                        "{what}{span}, long after {driver} began to release it (line {}): whether another driver has it since, as vfio-pci \
                         may without a word, the log does not tell",
                        left.place.line
                    );
                    life.find(Finding { rule: Rule::LATE, verdict: Verdict::CannotTell, words, cites, known: None });
                    return;
                };
                let words = format!(
                    "{what}{span}; its driver had begun to release it (line {}), but a driver speaks of it again at line {} and may \
                     have it",
                    left.place.line, since.place.line
                );
                cites.push(since.cite());
                cites.sort_by_key(|cite| cite.place);
                life.find(Finding { rule: Rule::LATE, verdict: Verdict::CannotTell, words, cites, known: None });
            }
            Owner::Hinted => {
                let words = format!(
                    "{what}{span}; an unbind was typed before, but no line of the kernel shows that it had begun"
                );
                life.find(Finding { rule: Rule::LATE, verdict: Verdict::CannotTell, words, cites, known: None });
            }
            Owner::Vfio => life.note(format!("{what}{span}, while vfio owns it: its user's responsibility"), cites),
            Owner::Other => {
                let words = format!("{what}{span} ({access}; {}), while nothing is torn down", run.cause);
                life.note(words, cites);
                life.on(Rule::LATE).doubt(super::super::judge::NO_TEAR_DOWN);
            }
        }
    }

    /// A fault of a device whose mappings are known.
    pub(in crate::model) fn trace_fault(&mut self, mark: &Mark, name: &str, addr: Option<u64>) {
        let (Some(id), Some(addr)) = (self.id(name), addr) else { return };
        let epoch = self.epoch;
        let recorded = self.heard.dma || self.heard.iommu_map;
        let device = &mut self.devices[id];
        // A log in a file of its own, or behind the trace: its lines are not where they belong among the trace's.
        let apart = |other: &Mark| mark.place.file != other.place.file || contradicts(mark, other);
        let later = |mapping: &Mapping| apart(&mapping.mark) && is_after(&mapping.mark, mark);
        let here = |mapping: &Mapping| mapping.covers(addr) && !later(mapping);
        let live = device.live.iter().chain(device.scatter.iter()).find(|mapping| here(mapping));
        let gone: Vec<&Gone> = device.gone.iter().rev().filter(|gone| here(&gone.mapping)).collect();
        let unordered = |gone: &&Gone| apart(&gone.mark) && !is_after(mark, &gone.mark);
        let doubtful = gone.iter().any(unordered) || live.is_some_and(|mapping| apart(&mapping.mark));
        let gone = gone.iter().find(|gone| !unordered(gone)).or(gone.first()).map(|gone| (*gone).clone());
        if let Some(mapping) = live.filter(|_| !doubtful || gone.is_none()) {
            let words = format!(
                "a fault at {addr:#x} (line {}), inside what line {} mapped",
                mark.place.line, mapping.mark.place.line
            );
            let cites = vec![mapping.mark.cite(), mark.cite()];
            device.life_at(mark).note(words, cites);
            return;
        }
        let Some(gone) = gone else {
            let what = if recorded { "nothing was mapped" } else { "no mapping is recorded" };
            let first = device.past.is_empty();
            let life = device.life_at(mark);
            life.note(format!("a fault at {addr:#x} (line {}), where {what}", mark.place.line), vec![mark.cite()]);
            life.faulted |= first;
            return;
        };
        let age = mark.age(&gone.mark).map_or_else(String::new, |age| format!(", {} before", Span(age)));
        let (rule, hint) = if gone.in_release {
            (
                Rule::RELEASE_FAULT,
                " by the release of managed memory: was the action that stops the device registered too early?",
            )
        } else {
            (Rule::FAULT, "")
        };
        let shared = self.of_group(id, addr, gone.mark.place);
        let device = &mut self.devices[id];
        // Whoever had the device since, and has it no more, may have used the same addresses.
        let since = device.life.iter().chain(&device.past).any(|life| life.number > gone.life && life.end.is_some());
        let doubt = if doubtful {
            Some(
                "; but the log is not on the trace's clock, so that which came first is not known: record with \
                 events/printk/console/enable",
            )
        } else if since {
            Some("; but another owner had the device since, and its mappings may not be recorded")
        } else if gone.epoch != epoch {
            Some("; but events were lost since, and it may have been mapped again")
        } else if shared {
            Some(
                "; but another device of its group was given the address since, and behind a bridge all of them may access memory under \
                 one number",
            )
        } else {
            None
        };
        let verdict = if doubt.is_some() { Verdict::CannotTell } else { Verdict::Violated };
        let hint = doubt.unwrap_or(hint);
        let flushed = flush_of(&device.flushes, addr, gone.mark.place);
        let words = format!(
            "a fault at {addr:#x} (line {}): the range was taken at line {} and given back at line {}{age}{flushed}{hint}",
            mark.place.line, gone.mapping.mark.place.line, gone.mark.place.line
        );
        let cites = vec![gone.mapping.mark.cite(), gone.mark.cite(), mark.cite()];
        let finding = Finding { rule, verdict, words, cites, known: None };
        // The fault is charged to the life that unmapped the range, not to the device's owner of now.
        match device.past.iter_mut().find(|life| life.number == gone.life) {
            Some(life) => life.find(finding),
            None => device.life_at(mark).find(finding),
        }
    }
}

impl Model {
    /// True when another device of the group of `id` was given `addr` after `since`.
    fn of_group(&self, id: Id, addr: u64, since: Place) -> bool {
        let Some(group) = self.devices[id].group else { return false };
        let machine = &self.devices[id].machine;
        let mates = self
            .devices
            .iter()
            .enumerate()
            .filter(|(other, device)| *other != id && device.group == Some(group) && device.machine == *machine);
        // An IOMMU maps whole pages.
        let covers =
            |m: &Mapping| m.addr >> 12 <= addr >> 12 && addr >> 12 <= m.addr.saturating_add(m.size.max(1) - 1) >> 12;
        let given = |mapping: &Mapping| covers(mapping) && mapping.mark.place > since;
        mates.take(64).any(|(_, mate)| {
            mate.live.iter().chain(mate.scatter.iter()).any(given) || mate.gone.iter().any(|gone| given(&gone.mapping))
        })
    }
}

/// True when `late` came after `early` by more than the clocks of a trace and of the kernel log differ.
fn is_after(late: &Mark, early: &Mark) -> bool {
    times(late, early).is_some_and(|(late, early)| late > early.saturating_add(CLOCKS_DIFFER))
}

/// True when `late`, which stands behind `early`, has the earlier time on another clock.
fn contradicts(late: &Mark, early: &Mark) -> bool {
    let other = late.stamp.zip(early.stamp).is_some_and(|(late, early)| late.clock != early.clock);
    other && times(late, early).is_some_and(|(late, early)| late < early)
}

/// Times since the boot.
fn times(late: &Mark, early: &Mark) -> Option<(u64, u64)> {
    let on = |mark: &Mark| {
        mark.stamp.filter(|stamp| matches!(stamp.clock, Clock::Trace | Clock::Printk)).map(|stamp| stamp.ns)
    };
    on(late).zip(on(early))
}

/// Words about the flush of `addr`'s translation after its unmap at `since`; empty where no flushes are recorded.
fn flush_of(flushes: &VecDeque<(u64, u64, Mark)>, addr: u64, since: Place) -> String {
    if flushes.is_empty() {
        return String::new();
    }
    let flush = flushes.iter().find(|(start, last, mark)| mark.place >= since && (*start..=*last).contains(&addr));
    flush.map_or_else(
        || "; no flush of it is recorded in between, so that others may have gone through unseen".to_owned(),
        |(.., mark)| format!("; its translation was flushed at line {}", mark.place.line),
    )
}

pub(super) fn count(n: u64, one: &str) -> String {
    if n == 1 { one.to_owned() } else { format!("{one}s") }
}
