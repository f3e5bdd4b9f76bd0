//! The kernel log: faults, requests, DMA API debugging, debug lines, and what they say together.

use super::crash::Report;
use super::task::By;
use super::verdict::{Cite, Fact, Finding, SEED, Verdict};
use super::{Id, Mark, Model};
use crate::event::{Backend, DmaApiKind, Fault, FaultDevice, Message, frame, message};
use crate::pattern::{DebugLine, Kind};
use crate::rules::Rule;
use crate::shape::{Place, Span, Stamp};

/// Faults of a run that are cited; further ones are counted.
const MOST_CITED: usize = 4;
/// Streams and functions that are told apart.
const MOST_STREAMS: usize = 256;
/// Allocations of debug lines that are kept of a device.
const MOST_DEBUG: usize = 10_000;
/// The largest piece of the bounce buffer, in bytes: 128 slots of 2 KiB.
const BOUNCE_SEGMENT: u64 = 256 << 10;

/// What of the log is not a single device's.
#[derive(Debug, Default)]
pub(crate) struct LogState {
    pub(super) report: Option<Report>,
    record: Option<SmmuRecord>,
    streams: Vec<Stream>,
    pub(super) region: Option<(u64, String, Vec<Cite>, Mark, Rule)>,
    pub(super) last_leaving: Option<Id>,
}

/// What the log said of a device.
#[derive(Debug, Default)]
pub(crate) struct DeviceLog {
    pub(super) driver: Option<String>,
    pub(super) left: Option<Mark>,
    hint: Option<Mark>,
    run: Option<Run>,
    requests: Option<(Mark, u64, Mark, u64)>,
    blocked: Option<Mark>,
    bounces: Vec<(Mark, u64, Option<u64>, Option<u64>)>,
    reloaded: bool,
    by: Option<(Backend, String, Mark)>,
    taken: Vec<DebugTaken>,
    freeing: Option<(Mark, Option<usize>)>,
}

#[derive(Debug)]
struct DebugTaken {
    addr: Option<u64>,
    virt: Option<u64>,
    size: Option<u64>,
    by: Option<(Backend, String, Mark)>,
    mark: Mark,
}

/// Whose faults they are.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Owner {
    /// The driver had left.
    Left,
    /// A command to unbind was seen, but no line of the kernel.
    Hinted,
    /// VFIO had the device.
    Vfio,
    /// A driver, or none that is known.
    Other,
}

/// Faults of one device under one owner.
#[derive(Debug)]
struct Run {
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

#[derive(Debug)]
struct SmmuRecord {
    iommu: String,
    event: u64,
    words: Vec<Option<u64>>,
    marks: Vec<Mark>,
    damaged: bool,
}

#[derive(Debug)]
struct Stream {
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
    /// A line without a prefix. Returns false when it is no message of the kernel.
    pub(super) fn plain(&mut self, place: Place, text: &str) -> bool {
        let known = |text: &str| self.patterns.find(text).is_some() || !matches!(message(text), Message::Other);
        let framed = self.log.report.is_some() && frame(text).is_some();
        let body = if framed || known(text) {
            text
        } else {
            // The marks of a comparison of two logs.
            match text.trim_start().strip_prefix(['+', '-']).filter(|rest| known(rest)) {
                Some(rest) => rest,
                None => return false,
            }
        };
        self.heard.log = true;
        self.message(place, None, body, false);
        true
    }

    /// A line that was typed or that another program wrote: a hint at most.
    pub(super) fn hint(&mut self, place: Place, text: &str) {
        let Some(at) = text.find("echo ").filter(|_| text.contains("unbind")) else { return };
        let Some(name) = text[at + 5..].trim_start_matches("-n ").split_whitespace().next() else { return };
        let name = name.trim_matches(['"', '\'']);
        if !crate::event::is_device(name) {
            return;
        }
        let Some(id) = self.id(name) else { return };
        self.devices[id].log.hint = Some(Mark::new(place, None, text));
        self.log.last_leaving = Some(id);
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of message")]
    pub(super) fn message(&mut self, place: Place, stamp: Option<Stamp>, text: &str, damaged: bool) {
        let text = text.trim_end();
        if self.log.report.is_some()
            && let Some(names) = frame(text)
        {
            let mark = Mark::new(place, stamp, text);
            if let Some(report) = &mut self.log.report {
                report.push(&mark, &names);
            }
            return;
        }
        if let Some(line) = self.patterns.find(text) {
            return self.debug_line(&Mark::new(place, stamp, text), line);
        }
        let message = message(text);
        if matches!(message, Message::Other) {
            return;
        }
        let mark = Mark::new(place, stamp, text);
        match message {
            Message::Fault(fault) => self.fault(&mark, fault, damaged),
            Message::RecordHead { iommu, event } => {
                self.flush_record();
                let marks = vec![mark];
                self.log.record = Some(SmmuRecord { iommu: iommu.into(), event, words: Vec::new(), marks, damaged });
            }
            Message::RecordWord { iommu, value } => {
                let Some(record) = self.log.record.as_mut().filter(|record| record.iommu == iommu) else { return };
                record.words.push(value);
                record.damaged |= damaged || value.is_none();
                record.marks.push(mark);
                if record.words.len() == 4 {
                    self.flush_record();
                }
            }
            Message::Suppressed(suppressed) => {
                if self.suppressed.len() < MOST_STREAMS {
                    self.suppressed.push((suppressed, mark.cite()));
                }
            }
            Message::Policy { translated } => self.translated = Some((translated, mark.cite())),
            Message::Strict(strict) => {
                let kind =
                    if strict { "strict" } else { "lazy: a device may reach memory for up to 10 ms after its unmap" };
                self.fact(Fact { words: format!("invalidation is {kind}"), cites: vec![mark.cite()] });
            }
            Message::ProbeFailed { driver, device, error } => self.probe_failed(&mark, driver, device, error),
            Message::Deferred { device, reason } => {
                let Some(id) = self.id(device) else { return };
                let reason = if reason.is_empty() { "no reason given" } else { reason };
                self.devices[id].deferred = Some(mark.clone());
                self.devices[id].life_at(&mark).note(format!("its probe is deferred: {reason}"), vec![mark.cite()]);
            }
            Message::LeftOver { device } => {
                let Some(id) = self.id(device) else { return };
                let words = "managed resources of an earlier binding were still there before the probe".to_owned();
                let finding = Finding {
                    rule: Rule::GROWS,
                    verdict: Verdict::Violated,
                    words,
                    cites: vec![mark.cite()],
                    known: None,
                };
                self.devices[id].life_at(&mark).find(finding);
            }
            Message::Group { device, group, joins } => self.group(mark, device, group, joins),
            Message::VfioRequest { device, count } => {
                let Some(id) = self.id(device) else { return };
                let log = &mut self.devices[id].log;
                log.driver = Some("vfio-pci".into());
                match &mut log.requests {
                    Some((_, _, last, number)) => (*last, *number) = (mark, count),
                    None => log.requests = Some((mark.clone(), count, mark, count)),
                }
            }
            Message::VfioBlocked { device } => {
                let Some(id) = self.id(device) else { return };
                self.devices[id].log.blocked.get_or_insert(mark);
            }
            Message::Unconfirmed { device } => {
                let words = "an invalidation was not confirmed: translations may still be cached".to_owned();
                let finding = Finding {
                    rule: Rule::UNCONFIRMED,
                    verdict: Verdict::Violated,
                    words,
                    cites: vec![mark.cite()],
                    known: None,
                };
                match device.and_then(|name| self.id(&name)) {
                    Some(id) => self.devices[id].life_at(&mark).find(finding),
                    None => self.loose(finding),
                }
            }
            Message::SwiotlbFull { device, size, total, used } => {
                let Some(id) = self.id(device) else { return };
                let log = &mut self.devices[id].log;
                if log.bounces.len() >= 64 {
                    log.bounces.pop();
                }
                log.bounces.push((mark, size, total, used));
            }
            Message::NoRegion { start } => {
                if self.log.region.as_ref().is_none_or(|(known, ..)| *known != start) {
                    let words =
                        format!("the region at {start:#x} is released although it is not there: released before");
                    self.log.region = Some((start, words, vec![mark.cite()], mark, Rule::TWICE));
                }
            }
            Message::About { driver, device, turn, .. } => self.about(mark, driver, device, turn),
            Message::DmaApi(api) => {
                if api.kind == DmaApiKind::Off {
                    let words = "DMA API debugging is off from here on: its silence proves nothing".to_owned();
                    self.fact(Fact { words, cites: vec![mark.cite()] });
                    return;
                }
                self.dma_api_report(mark, api);
            }
            Message::Crash { .. }
            | Message::BadPage
            | Message::CrashTask { .. }
            | Message::CrashEnd
            | Message::MappedAt
            | Message::Hung { .. } => self.report_line(mark, &message),
            Message::Other => {}
        }
    }

    fn about(&mut self, mark: Mark, driver: &str, device: &str, turn: crate::event::Turn) {
        let bus = ["", "pci", "platform", "amba", "iommu", "usb", "pcieport"].contains(&driver);
        if turn == crate::event::Turn::None && (bus || !self.names.contains_key(device)) {
            return;
        }
        let Some(id) = self.id(device) else { return };
        let changed = !bus && self.devices[id].log.driver.as_deref().is_some_and(|old| old != driver);
        match turn {
            crate::event::Turn::Leaves => {
                self.flush_run(id);
                let device = &mut self.devices[id];
                device.log.left.get_or_insert(mark.clone());
                device.log.driver = Some(driver.to_owned());
                let life = device.life_at(&mark);
                life.driver.get_or_insert_with(|| driver.to_owned());
                life.teardown.get_or_insert(mark);
                self.log.last_leaving = Some(id);
            }
            crate::event::Turn::Arrives if !bus => {
                self.flush_run(id);
                let device = &mut self.devices[id];
                let left = device.log.left.take();
                device.log.reloaded |= left.is_some();
                device.log.hint = None;
                device.log.driver = Some(driver.to_owned());
                if device.life.as_ref().is_some_and(|life| !life.traced && life.teardown.is_some()) {
                    self.doubt_log_life(id);
                    self.close(id, &mark, super::End::Reprobed);
                }
            }
            _ if changed && driver.starts_with("vfio") => {
                self.flush_run(id);
                let device = &mut self.devices[id];
                device.log.left = None;
                device.log.driver = Some(driver.to_owned());
            }
            _ => {
                if !bus {
                    self.devices[id].log.driver = Some(driver.to_owned());
                }
            }
        }
    }

    fn probe_failed(&mut self, mark: &Mark, driver: &str, device: &str, error: u64) {
        let Some(id) = self.id(device) else { return };
        let device = &mut self.devices[id];
        let life = device.life_at(mark);
        life.driver.get_or_insert_with(|| driver.to_owned());
        let deferred = error == 517;
        let words = if deferred {
            "its probe was deferred".to_owned()
        } else {
            format!("its probe failed with error -{error}")
        };
        life.note(words, vec![mark.cite()]);
        if deferred {
            device.deferred = Some(mark.clone());
        }
    }

    fn fault(&mut self, mark: &Mark, fault: Fault, damaged: bool) {
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
                self.stream(mark, &[], iommu, stream, fault.addr, event, damaged);
            }
            return;
        };
        let Some(id) = self.id(&name) else { return };
        let device = &mut self.devices[id];
        if device.life.as_ref().is_some_and(|life| life.traced) || device.past.iter().any(|life| life.traced) {
            self.trace_fault(mark, &name, fault.addr);
            return;
        }
        let vfio = device.log.driver.as_deref().is_some_and(|driver| driver.starts_with("vfio"));
        let owner = if device.log.left.is_some() {
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
        run.count += 1;
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

    fn flush_run(&mut self, id: Id) {
        let Some(mut run) = self.devices[id].log.run.take() else { return };
        if run.cites.last().is_some_and(|cite| cite.place != run.last.place) {
            run.cites.push(run.last.cite());
        }
        let (from, to) = (run.first.place, run.last.place);
        let (mut missing, mut suppressed) = (0, Vec::new());
        for (what, cite) in &self.suppressed {
            // A count is printed with the first message after the silence.
            if cite.place >= from && (cite.place <= to || cite.place.file == to.file && cite.place.line < to.line + 5) {
                missing += what.count;
                suppressed.push(cite.clone());
            }
        }
        let access = match run.write {
            Some(true) => "writes",
            Some(false) => "reads",
            None => "accesses of a direction that the record does not tell",
        };
        let addrs: Vec<String> = run.addrs.iter().map(|addr| format!("{addr:#x}")).collect();
        let mut what = format!("{} {} ({}) at {}", run.count, count(run.count, "fault"), run.by, addrs.join(", "));
        if missing > 0 {
            what = format!("at least {what}; {missing} further messages were suppressed, whose devices are not known");
        }
        let device = &mut self.devices[id];
        let left = device.log.left.clone();
        let hint = device.log.hint.clone();
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
                    "still {access} after {driver} began to let go of it (line {}): {what}{span}{age}; whether the addresses had been \
                     mapped cannot be told without a trace",
                    left.place.line
                );
                life.find(Finding { rule: Rule::LATE, verdict: Verdict::Violated, words, cites, known: None });
            }
            Owner::Hinted => {
                let words = format!(
                    "{what}{span}; an unbind was typed before, but no line of the kernel shows that it had begun"
                );
                life.find(Finding { rule: Rule::LATE, verdict: Verdict::CannotTell, words, cites, known: None });
            }
            Owner::Vfio => life.note(format!("{what}{span}, while vfio has it: its user's doing"), cites),
            Owner::Other => {
                let words = format!("{what}{span} ({access}; {}), while nothing is torn down", run.cause);
                life.note(words, cites);
                life.on(Rule::LATE).doubt("there are faults, but no tear-down in the file that they could follow");
            }
        }
    }

    fn flush_record(&mut self) {
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
        self.stream(first, rest, iommu, stream, addr, format!("event {event:#04x}{name}"), damaged);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record")]
    fn stream(
        &mut self,
        mark: &Mark,
        more: &[Mark],
        iommu: String,
        stream: Option<u64>,
        addr: Option<u64>,
        event: String,
        damaged: bool,
    ) {
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

    /// A fault of a device whose mappings are known.
    pub(super) fn trace_fault(&mut self, mark: &Mark, name: &str, addr: Option<u64>) {
        let (Some(id), Some(addr)) = (self.id(name), addr) else { return };
        let device = &mut self.devices[id];
        if device.log.bounces.len() > 64 {
            return;
        }
        let live = device.live.iter().chain(device.scatter.iter()).find(|mapping| mapping.covers(addr));
        if let Some(mapping) = live {
            let words = format!(
                "a fault at {addr:#x} (line {}), inside what line {} mapped",
                mark.place.line, mapping.mark.place.line
            );
            let cites = vec![mapping.mark.cite(), mark.cite()];
            device.life_at(mark).note(words, cites);
            return;
        }
        let gone = device.gone.iter().rev().find(|gone| gone.mapping.covers(addr)).cloned();
        let Some(gone) = gone else {
            device.life_at(mark).note(
                format!("a fault at {addr:#x} (line {}), where nothing was mapped", mark.place.line),
                vec![mark.cite()],
            );
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
        // Whoever had the device since, and has it no more, may have used the same addresses.
        let since = device.life.iter().chain(&device.past).any(|life| life.number > gone.life && life.end.is_some());
        let (verdict, hint) = if since {
            (Verdict::CannotTell, "; but another owner had the device since, and its mappings may not be recorded")
        } else {
            (Verdict::Violated, hint)
        };
        let words = format!(
            "a fault at {addr:#x} (line {}): the range was taken at line {} and given back at line {}{age}{hint}",
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

    fn debug_line(&mut self, mark: &Mark, line: DebugLine) {
        let Some(id) = self.id(&line.device) else { return };
        self.log.last_leaving = Some(id);
        let device = &mut self.devices[id];
        match line.kind {
            Kind::AllocBy => device.log.by = line.backend.map(|backend| (backend, line.name, mark.clone())),
            Kind::Alloc => {
                let by = device.log.by.take();
                if device.life.as_ref().is_some_and(|life| life.teardown.is_some() && !life.traced) {
                    self.doubt_log_life(id);
                    self.close(id, mark, super::End::Reprobed);
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

    pub(super) fn charge_region(&mut self, id: Id, mark: &Mark) {
        let Some((_, words, mut cites, _, rule)) = self.log.region.take() else { return };
        cites.push(mark.cite());
        let life = self.devices[id].life_at(mark);
        life.teardown.get_or_insert(mark.clone());
        life.find(Finding { rule, verdict: Verdict::Violated, words, cites, known: None });
    }

    /// A kernel log alone never proves a life clean.
    fn doubt_log_life(&mut self, id: Id) {
        if let Some(life) = &mut self.devices[id].life
            && !life.traced
            && !life.by_debug_lines
            && life.teardown.is_some()
        {
            life.on(Rule::LEAK).doubt("a kernel log alone does not show what was given back; record a trace");
        }
    }

    pub(super) fn finish_log(&mut self) {
        self.flush_record();
        self.flush_report();
        for id in 0..self.devices.len() {
            self.flush_run(id);
            self.requests(id);
            self.bounces(id);
            self.left_by_debug(id);
            self.doubt_log_life(id);
        }
        self.streams();
        if let Some((start, words, cites, mark, rule)) = self.log.region.take() {
            let finding = Finding { rule, verdict: Verdict::Violated, words, cites, known: None };
            let unit = format!("{start:x}.");
            match self.devices.iter_mut().find(|device| device.name.starts_with(&unit)) {
                Some(device) => device.life_at(&mark).find(finding),
                None => self.loose(finding),
            }
        }
    }

    fn requests(&mut self, id: Id) {
        let device = &mut self.devices[id];
        if let Some((first, from, last, to)) = device.log.requests.take() {
            let span = last
                .age(&first)
                .filter(|span| *span > 0)
                .map_or_else(String::new, |ns| format!(" for at least {} s", grouped(ns / 1_000_000_000)));
            let before = if from > 0 { ", of which the first are not in the file" } else { "" };
            let words = format!(
                "the unbind waits for the user of the device{span}: requests (#{from}) to (#{to}){before}; the tear-down is not over in \
                 this file"
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

    fn bounces(&mut self, id: Id) {
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
            let most = used.iter().max().copied().unwrap_or(0);
            let total = first.2.map_or_else(String::new, |total| format!(" of {total}"));
            let stays = if reloaded { ", and stays so after the driver was unloaded and loaded" } else { "" };
            let words = format!(
                "the bounce buffer is full: its use rises to {most}{total} slots{stays}; that looks like a leak, but the count is the \
                 whole machine's"
            );
            let mut cites = vec![first.0.cite()];
            cites.extend(small.iter().skip(1).take(3).map(|(mark, ..)| mark.cite()));
            let life = device.life_at(&last.0);
            life.find(Finding { rule: Rule::BOUNCE, verdict: Verdict::CannotTell, words, cites, known: None });
        }
    }

    fn left_by_debug(&mut self, id: Id) {
        let device = &mut self.devices[id];
        let taken = std::mem::take(&mut device.log.taken);
        let torn = device.life.as_ref().is_some_and(|life| life.teardown.is_some() && life.by_debug_lines);
        if let Some(first) = taken.first().filter(|_| torn) {
            let reason = format!(
                "{} allocations of the debug lines have no free there (line {})",
                taken.len(),
                first.mark.place.line
            );
            device.life_at(&first.mark.clone()).on(Rule::LEAK).doubt(reason);
        }
    }

    fn streams(&mut self) {
        for stream in std::mem::take(&mut self.log.streams) {
            let Stream { iommu, number: stream, addr, event, count: n, cites, first, damaged } = stream;
            let at = addr.map_or_else(|| "an address that is damaged".to_owned(), |addr| format!("address {addr:#x}"));
            let which =
                stream.map_or_else(|| "a stream that is not named".to_owned(), |stream| format!("stream {stream:#x}"));
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
            let guessed = guess.and_then(|name| self.names.get(name.as_str()).copied());
            if let Some(id) = guessed {
                let log = &self.devices[id].log;
                let name = self.devices[id].name.clone();
                words = format!("{words}. Probable: {name}, read as bus, device and function");
                if let Some(left) = &log.left {
                    let age = first.age(left).map_or_else(String::new, |age| format!("{} ", Span(age)));
                    words = format!(
                        "{words}, whose driver began to let go of it {age}before (line {}); if so, this is R9",
                        left.place.line
                    );
                    cites.insert(0, left.cite());
                }
            }
            self.loose(Finding { rule: Rule::LATE, verdict: Verdict::CannotTell, words, cites, known: None });
        }
    }
}

fn count(n: u64, one: &str) -> String {
    if n == 1 { one.to_owned() } else { format!("{one}s") }
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

impl DeviceLog {
    /// True while VFIO asks the device's user to give it back.
    pub(super) fn waits(&self) -> bool {
        self.requests.is_some()
    }
}
