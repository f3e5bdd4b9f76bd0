//! The kernel log: faults, requests, DMA API debugging, debug lines, and what they say together.

mod debug;
mod driver;
mod fault;
mod machine;
mod stream;
mod wait;

use super::crash::Report;
use super::record::At;
use super::verdict::{Cite, Fact, Finding, Verdict};
use super::{Id, Mark, Model};
use crate::event::{Backend, DmaApiKind, Message, frame, message, message_about};
use crate::rules::Rule;
use crate::shape::{Place, Stamp};

pub(crate) use machine::Machines;

use debug::DebugTaken;
use fault::{Held, Run};
use machine::LastLine;
use stream::{SmmuRecord, Stream};

/// Streams and functions that are told apart.
const MOST_STREAMS: usize = 256;

/// Lines in which a region's release and the message about it stand together.
const NEAR_LINES: u64 = 50;
/// Time in which they do, in nanoseconds.
const NEAR: u64 = 10_000_000;

/// State of the log that belongs to no single device.
#[derive(Debug)]
pub(crate) struct LogState {
    pub(super) report: Option<Report>,
    record: Option<SmmuRecord>,
    /// A fault of which more may follow.
    held: Option<Held>,
    /// The SMMU of the last fault, and the fault's line, when it was judged before the line that names its stream.
    judged: Option<(String, u64)>,
    streams: Vec<Stream>,
    pub(super) region: Option<(u64, String, Vec<Cite>, Mark, Rule)>,
    /// The device that a line last showed to be leaving, and the line.
    pub(super) last_leaving: Option<(Id, Mark)>,
    /// The last line.
    last: Option<LastLine>,
    /// How often the message that is read was said.
    pub(super) times: u64,
    /// Messages that the log lost, and where it says so first.
    dropped: Option<(u64, Cite)>,
}

impl Default for LogState {
    fn default() -> Self {
        Self {
            report: None,
            record: None,
            held: None,
            judged: None,
            streams: Vec::new(),
            region: None,
            last_leaving: None,
            last: None,
            times: 1,
            dropped: None,
        }
    }
}

/// State of the log about one device.
#[derive(Debug, Default)]
pub(crate) struct DeviceLog {
    pub(super) driver: Option<String>,
    pub(super) left: Option<Mark>,
    /// A line of a driver since then that does not say whether it has the device.
    since: Option<Mark>,
    hint: Option<Mark>,
    run: Option<Run>,
    requests: Option<(Mark, Option<u64>, Mark, Option<u64>)>,
    blocked: Option<Mark>,
    bounces: Vec<(Mark, u64, Option<u64>, Option<u64>)>,
    reloaded: bool,
    by: Option<(Backend, String, Mark)>,
    taken: Vec<DebugTaken>,
    freeing: Option<(Mark, Option<usize>)>,
}

impl Model {
    /// The message of a line without a prefix; none when it is no message of the kernel.
    pub(in crate::model) fn plain_body<'a>(&self, text: &'a str) -> Option<&'a str> {
        let known = |text: &str| self.patterns.find(text).is_some() || !matches!(message(text), Message::Other);
        if self.log.report.is_some() && frame(text).is_some() || known(text) {
            return Some(text);
        }
        // The marks of a comparison of two logs.
        text.trim_start().strip_prefix(['+', '-']).filter(|rest| known(rest))
    }

    /// A line without a prefix. Returns false when it is no message of the kernel.
    pub(in crate::model) fn plain(&mut self, place: Place, text: &str) -> bool {
        let Some(body) = self.plain_body(text) else { return false };
        self.heard.log = true;
        self.follow_clock(place, None);
        self.message(place, None, body, None, false);
        true
    }

    /// Messages of the kernel log are missing here.
    pub(in crate::model) fn dropped(&mut self, place: Place, count: u64) {
        let words = format!("{count} messages of the kernel log were dropped at line {}", place.line);
        let cite = Cite { place, text: words.clone() };
        match &mut self.log.dropped {
            Some((total, _)) => *total = total.saturating_add(count),
            None => self.log.dropped = Some((count, cite.clone())),
        }
        self.fact(Fact { words, cites: vec![cite] });
    }

    /// A line that was typed or that another program wrote: a hint at most.
    pub(in crate::model) fn hint(&mut self, place: Place, text: &str) {
        let Some(at) = text.find("echo ").filter(|_| text.contains("unbind")) else { return };
        let Some(name) = text[at + 5..].trim_start_matches("-n ").split_whitespace().next() else { return };
        let name = name.trim_matches(['"', '\'']);
        if !crate::event::is_device(name) {
            return;
        }
        let Some(id) = self.id(name) else { return };
        let mark = Mark::new(place, None, text);
        self.devices[id].log.hint = Some(mark.clone());
        self.log.last_leaving = Some((id, mark));
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of message")]
    pub(in crate::model) fn message(
        &mut self,
        place: Place,
        stamp: Option<Stamp>,
        text: &str,
        device: Option<&str>,
        damaged: bool,
    ) {
        let text = text.trim_end();
        self.settle_faults(text);
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
        if text.starts_with("PM: suspend exit") || text.starts_with("PM: hibernation: hibernation exit") {
            return self.marked(text);
        }
        let message = message_about(text, device);
        if matches!(message, Message::Other) {
            return;
        }
        let mark = Mark::new(place, stamp, text);
        match message {
            Message::Fault(fault) => self.fault(&mark, fault, damaged),
            Message::RecordHead { iommu, event } => self.record_head(mark, iommu, event, damaged),
            Message::RecordWord { iommu, value } => self.record_word(mark, iommu, value, damaged),
            Message::Suppressed(suppressed) => {
                if self.suppressed.len() < MOST_STREAMS {
                    let machine = self.machines.other().cloned();
                    self.suppressed.push((suppressed, mark.cite(), machine));
                }
            }
            Message::Policy { translated } => self.translated = Some((translated, mark.cite())),
            Message::DomainType { device, domain } => {
                let Some(id) = self.id(device) else { return };
                self.devices[id].domain_changed = true;
                self.devices[id].domain_type = Some((domain, mark));
            }
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
            Message::Boot => self.boot(&mark),
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
            Message::Group { device, group, joins } => {
                if !joins && let Some(id) = self.id(device) {
                    // A device leaves its group when it leaves the bus, and its driver before that.
                    self.devices[id].log.left.get_or_insert_with(|| mark.clone());
                }
                self.group(mark, device, group, joins);
            }
            Message::StreamOf { iommu, stream } => self.stream_of(&mark, iommu, stream),
            Message::Access { iommu, write } => self.access_of(iommu, write),
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
            Message::PageLeak => {
                let words = "a page is given back to the kernel while an IOMMU still maps it, as the debugging of IOMMU mappings says; \
                             whose mapping it is cannot be told without a trace"
                    .to_owned();
                let cites = vec![mark.cite()];
                self.loose(Finding { rule: Rule::LEAK, verdict: Verdict::Violated, words, cites, known: None });
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
            Message::Devres(resource) => {
                let task = super::task::TaskKey::new(0, 0, 0);
                self.devres(At { place, stamp, text, task }, resource);
                if let Some(life) = self.known(resource.device).and_then(|id| self.devices[id].life.as_mut()) {
                    let reason =
                        "the kernel log shows managed resources, and not what else the driver took; record a trace";
                    life.taint.get_or_insert_with(|| reason.to_owned());
                }
            }
            Message::Leaked { .. }
            | Message::Crash { .. }
            | Message::BadPage
            | Message::CrashTask { .. }
            | Message::CrashEnd
            | Message::StackOf(_)
            | Message::HungOwner { .. }
            | Message::Hung { .. } => self.report_line(mark, &message),
            Message::Other => {}
        }
    }

    pub(in crate::model) fn charge_region(&mut self, id: Id, mark: &Mark) {
        // Its own release is next to the message; another one, later, has nothing to do with it.
        let near = |region: &mut (u64, String, Vec<Cite>, Mark, Rule)| mark.follows(&region.3, NEAR_LINES, NEAR);
        let Some((_, words, mut cites, _, rule)) = self.log.region.take_if(near) else { return };
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

    /// Says what the log left open of a device.
    fn close_log(&mut self, id: Id) {
        self.flush_run(id);
        self.requests(id);
        self.bounces(id);
        self.left_by_debug(id);
        self.doubt_log_life(id);
    }

    pub(in crate::model) fn finish_log(&mut self) {
        loop {
            self.flush_record();
            self.flush_held();
            self.flush_report();
            self.streams();
            self.finish_region();
            if !self.next_machine() {
                break;
            }
        }
        for id in 0..self.devices.len() {
            self.close_log(id);
        }
    }

    fn finish_region(&mut self) {
        if let Some((start, words, cites, mark, rule)) = self.log.region.take() {
            let finding = Finding { rule, verdict: Verdict::Violated, words, cites, known: None };
            let unit = format!("{start:x}.");
            match self.devices.iter_mut().find(|device| device.name.starts_with(&unit)) {
                Some(device) => device.life_at(&mark).find(finding),
                None => self.loose(finding),
            }
        }
    }
}
