//! Reports with a stack: crashes, warnings, hung tasks, and what DMA API debugging prints.

use super::stack::{RELEASE, UNBIND, has, in_tear_down, is_dump};
use super::verdict::{Cite, Fact, Finding, SEED, SEED_PROBE, Verdict};
use super::{Id, Mark, Model};
use crate::event::{Backend, Call, DmaApi, DmaApiKind, Message, Stack, call_of};
use crate::rules::Rule;

/// Lines between a device's leaving and a crash in its tear-down.
const LEAVING_LINES: u64 = 200;
/// Time between them, in nanoseconds: a tear-down waits for its hardware and for running work.
const LEAVING: u64 = 60_000_000_000;

/// Functions that are kept of a stack.
const MOST_FRAMES: usize = 64;

/// A report.
#[derive(Debug)]
pub(crate) struct Report {
    kind: Kind,
    head: Mark,
    last: Mark,
    frames: Vec<String>,
    lines: Vec<Mark>,
    mapped: Vec<String>,
    /// The stack of the free that a use came after.
    freed: Vec<String>,
    part: Stack,
    ended: bool,
    task: Option<(String, u64)>,
    /// The task that holds what a task that hangs waits for, and its stack.
    owner: Option<(String, u64)>,
    owning: Vec<String>,
    /// Devices whose users VFIO was asking when it began.
    waiting: Vec<Id>,
}

#[derive(Debug)]
enum Kind {
    Crash,
    BadPage,
    Warning,
    Hung,
    DmaApi(Box<DmaApi>),
}

impl Report {
    fn new(kind: Kind, head: Mark) -> Self {
        let last = head.clone();
        Self {
            kind,
            head,
            last,
            frames: Vec::new(),
            lines: Vec::new(),
            mapped: Vec::new(),
            freed: Vec::new(),
            part: Stack::Own,
            ended: false,
            task: None,
            owner: None,
            owning: Vec::new(),
            waiting: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, mark: &Mark, names: &[&str]) {
        self.last = mark.clone();
        let list = match self.part {
            Stack::Own => &mut self.frames,
            Stack::Mapping => &mut self.mapped,
            Stack::Free => &mut self.freed,
            Stack::Owner => &mut self.owning,
            Stack::Other => return,
        };
        if list.len() < MOST_FRAMES {
            list.extend(names.iter().map(|name| (*name).to_owned()));
            self.lines.push(mark.clone());
        }
    }

    fn has(&self, names: &[&str]) -> bool {
        has(&self.frames, names)
    }

    fn near(&self, mark: &Mark) -> bool {
        !self.ended && mark.place.file == self.head.place.file && mark.place.line < self.head.place.line + 200
    }
}

impl Model {
    pub(super) fn report_line(&mut self, mark: Mark, message: &Message<'_>) {
        match *message {
            Message::Crash { warning } => {
                let open = self.log.report.as_mut().filter(|report| report.near(&mark));
                match open.map(|report| &mut report.kind) {
                    // One crash is told in several lines; a warning's line belongs to the DMA API's message beside it.
                    Some(Kind::Crash | Kind::BadPage) => {}
                    Some(Kind::DmaApi(_)) if warning => {
                        if let Some(report) = &mut self.log.report {
                            report.lines.push(mark);
                        }
                    }
                    _ => {
                        self.flush_report();
                        let kind = if warning { Kind::Warning } else { Kind::Crash };
                        self.log.report = Some(Report::new(kind, mark));
                    }
                }
            }
            Message::BadPage => {
                self.flush_report();
                self.log.report = Some(Report::new(Kind::BadPage, mark));
            }
            Message::Hung { task, pid } => {
                self.flush_report();
                let mut report = Report::new(Kind::Hung, mark);
                report.task = Some((task.to_owned(), pid));
                report.waiting = (0..self.devices.len()).filter(|id| self.devices[*id].log.waits()).collect();
                self.log.report = Some(report);
            }
            Message::HungOwner { task, pid } => {
                if let Some(report) = &mut self.log.report
                    && matches!(report.kind, Kind::Hung)
                {
                    report.owner = Some((task.to_owned(), pid));
                    report.part = Stack::Owner;
                    report.last = mark;
                }
            }
            Message::CrashTask { pid, task } => {
                if let Some(report) = &mut self.log.report {
                    report.task.get_or_insert((task.to_owned(), pid));
                }
            }
            Message::Leaked { addr, size } => {
                if let Some(report) = &mut self.log.report
                    && let Kind::DmaApi(api) = &mut report.kind
                    && api.kind == DmaApiKind::Pending
                {
                    api.addr = api.addr.or(addr);
                    api.size = api.size.or(size);
                    report.lines.push(mark);
                }
            }
            Message::CrashEnd => {
                if let Some(report) = &mut self.log.report {
                    report.ended = true;
                    report.last = mark;
                }
            }
            Message::StackOf(part) => {
                if let Some(report) = &mut self.log.report {
                    report.part = part;
                    report.last = mark;
                }
            }
            _ => {}
        }
    }

    pub(super) fn dma_api_report(&mut self, mark: Mark, api: DmaApi) {
        let before = self
            .log
            .report
            .take_if(|report| matches!(report.kind, Kind::Warning) && report.near(&mark) && report.frames.len() < 4);
        self.flush_report();
        let mut report = Report::new(Kind::DmaApi(Box::new(api)), mark);
        if let Some(before) = before {
            report.lines.push(before.head);
            report.frames = before.frames;
        }
        self.log.report = Some(report);
    }

    pub(super) fn flush_report(&mut self) {
        let Some(report) = self.log.report.take() else { return };
        match &report.kind {
            Kind::DmaApi(api) => self.dma_api(&report, api),
            Kind::Hung => self.hung(&report),
            Kind::Warning => self.warning(&report),
            Kind::Crash | Kind::BadPage => self.crash(&report),
        }
    }

    fn dma_api(&mut self, report: &Report, api: &DmaApi) {
        let (rule, what) = match api.kind {
            DmaApiKind::NotAllocated => (Rule::NOT_TAKEN, "frees memory that it had not allocated".to_owned()),
            DmaApiKind::Differs(what) => (Rule::DIFFERS, format!("frees with a different {what}")),
            DmaApiKind::Pending => (
                Rule::LEAK,
                format!(
                    "leaves {} mappings at release",
                    api.count.map_or_else(|| "some".to_owned(), |n| n.to_string())
                ),
            ),
            DmaApiKind::Unchecked => (Rule::UNCHECKED, "did not check a mapping's error".to_owned()),
            DmaApiKind::Overlap => (
                Rule::MISUSE,
                "maps memory that shares a cache line with another mapping; where DMA is coherent with the caches, as on x86, that \
                 is harmless, and kernels before 7.0 warn of it there, too"
                    .to_owned(),
            ),
            DmaApiKind::Misuse => (Rule::MISUSE, format!("misuses the DMA API: {}", api.words)),
            DmaApiKind::Off | DmaApiKind::Note => {
                let words = format!("DMA API debugging: {}", api.words);
                return self.fact(Fact { words, cites: vec![report.head.cite()] });
            }
        };
        let mut words = format!("{} {what}", api.driver.as_deref().unwrap_or("the driver"));
        match (api.size, api.unmap_size) {
            (Some(size), Some(unmap)) => words = format!("{words}: maps {size} bytes and unmaps {unmap}"),
            (Some(size), None) => words = format!("{words}; one is of {size} bytes"),
            _ => {}
        }
        if let Some(addr) = api.addr {
            words = format!("{words}, at {addr:#x}");
        }
        for (key, name) in [("mapped with DMA_", "direction"), ("mapped as ", "kind")] {
            let mut texts = std::iter::once(&report.head).chain(&report.lines).map(|mark| mark.text.as_ref());
            if let Some((text, at)) = texts.find_map(|text: &str| Some((text, text.find(key)?))) {
                let value = text[at + key.len()..].split(']').next().unwrap_or("");
                words = format!("{words}, {name} {value}");
            }
        }
        let own = |names: &[String]| {
            names
                .iter()
                .find(|name| {
                    !name.contains("dma") && !name.contains("check_") && !name.starts_with("warn") && !is_dump(name)
                })
                .cloned()
        };
        let api_name = |names: &[String]| names.iter().rev().find(|name| name.starts_with("debug_dma")).cloned();
        if let Some(function) =
            own(&report.frames).or_else(|| api_name(&report.frames)).filter(|_| api.kind != DmaApiKind::Pending)
        {
            words = format!("{words}; freed in {function}");
        }
        if let Some(function) = own(&report.mapped).or_else(|| api_name(&report.mapped)) {
            words = format!("{words}; mapped in {function}");
        }
        words = format!(
            "{words} (DMA API debugging; it stops after its first error, so that its silence from here proves nothing)"
        );
        let verdict = if api.kind == DmaApiKind::Overlap { Verdict::CannotTell } else { Verdict::Violated };
        let finding = Finding { rule, verdict, words, cites: cites(report), known: None };
        match api.device.as_deref().and_then(|name| self.id(name)) {
            Some(id) => {
                let life = self.devices[id].life_at(&report.head);
                life.driver = life.driver.take().or_else(|| api.driver.clone());
                if rule == Rule::LEAK {
                    life.teardown.get_or_insert(report.head.clone());
                }
                life.find(finding);
            }
            None => self.loose(finding),
        }
    }

    fn hung(&mut self, report: &Report) {
        let wait = |name: &&String| {
            !name.contains("schedule")
                && !name.starts_with("wait_")
                && !name.contains("mutex")
                && !name.contains("rwsem")
                // A watchdog's interrupt stands on top of the stack of the task that spins.
                && !["watchdog", "hrtimer", "tick_"].iter().any(|timer| name.trim_start_matches('_').starts_with(timer))
                && !name.contains("sysvec_")
        };
        let place = report.frames.iter().find(wait).map_or_else(String::new, |name| format!(", in {name}"));
        let (task, pid) = report.task.clone().unwrap_or_default();
        let teardown = in_tear_down(&report.frames) || in_tear_down(&report.owning);
        let what = if teardown { "the task of an unbind" } else { "a task" };
        let mut words = format!("{what}, {task} ({pid}), is blocked{place}");
        if let Some((task, pid)) = &report.owner {
            let place =
                report.owning.iter().find(wait).map_or_else(String::new, |name| format!(", which is in {name}"));
            words = format!("{words}; what it waits for is held by {task} ({pid}){place}");
        }
        let mut cites = vec![report.head.cite()];
        if let Some(line) = report.lines.iter().find(|line| place.len() > 5 && line.text.contains(&place[5..])) {
            cites.push(line.cite());
        }
        if let ([id], true) = (report.waiting.as_slice(), teardown) {
            self.devices[*id].life_at(&report.head).note(words, cites);
        } else if teardown {
            let words = format!("{words}; the tear-down is not over in this file");
            self.loose(Finding { rule: Rule::ENDLESS, verdict: Verdict::CannotTell, words, cites, known: None });
        } else {
            self.fact(Fact { words, cites });
        }
    }

    fn warning(&mut self, report: &Report) {
        // The back-end's check that an unmap found all that it was asked for.
        if report.head.text.contains("__iommu_dma_unmap") {
            let own = |name: &&String| !name.contains("dma") && !name.contains("iommu") && !is_dump(name);
            let caller = report.frames.iter().find(own).map_or_else(String::new, |name| format!(", called by {name}"));
            let words = format!(
                "an unmap of a range that is not mapped, or no longer, or not as a whole (__iommu_dma_unmap warns{caller})"
            );
            let finding =
                Finding { rule: Rule::NOT_TAKEN, verdict: Verdict::Violated, words, cites: cites(report), known: None };
            match self.leaving(report).filter(|_| in_tear_down(&report.frames)) {
                Some(id) => self.devices[id].life_at(&report.head).find(finding),
                None => self.loose(finding),
            }
            return;
        }
        if in_tear_down(&report.frames) || report.has(&RELEASE) {
            let words = format!("a warning in a tear-down: {}", report.head.text);
            self.fact(Fact { words, cites: vec![report.head.cite()] });
        }
    }

    /// The device whose tear-down a report is about: the one that a line just before it shows to be leaving. One that left long
    /// before has nothing to do with it.
    fn leaving(&self, report: &Report) -> Option<Id> {
        let (id, mark) = self.log.last_leaving.as_ref()?;
        let driver = self.devices[*id].log.driver.as_deref();
        let another = driver.is_some_and(|driver| is_anothers(&report.frames, driver));
        (report.head.follows(mark, LEAVING_LINES, LEAVING) && !another).then_some(*id)
    }

    fn crash(&mut self, report: &Report) {
        // What a tear-down freed and others use later crashes elsewhere, or only under KASAN.
        let stale = !report.has(&RELEASE) && !in_tear_down(&report.frames) && has(&report.freed, &RELEASE);
        let release = report.has(&RELEASE) || stale;
        let teardown = in_tear_down(&report.frames);
        let failed_probe =
            report.has(&["really_probe", "driver_probe_device", "__driver_probe_device"]) && !report.has(&UNBIND);
        let by = report.frames.iter().rev().find_map(|name| match call_of(name) {
            Some(Call::Give(backend)) => Some((backend, name.clone())),
            _ => None,
        });
        if !release && !teardown && by.is_none() {
            let words = format!("a crash that is not in a tear-down: {}", report.head.text);
            return self.fact(Fact { words, cites: vec![report.head.cite()] });
        }
        let first = report.frames.iter().find(|name| !is_dump(name)).map_or("?", String::as_str);
        let path = if failed_probe { "a failed probe" } else { "the unbind" };
        let place = if release { "the release of managed resources" } else { path };
        let words = if stale {
            format!("a use of memory that {place} had freed: {first}, {}", report.head.text)
        } else {
            format!("a crash in {place}: {first}, {}", report.head.text)
        };
        let device = self.leaving(report);
        let task = report.task.as_ref().map_or_else(String::new, |(task, pid)| format!(" (task {task}, {pid})"));
        let words = format!("{words}{task}");
        let crash = Finding { rule: Rule::CRASH, verdict: Verdict::Violated, words, cites: cites(report), known: None };
        let managed = report.has(&["dmam_release"]);
        let direct = by.as_ref().is_some_and(|(backend, _)| *backend == Backend::Direct);
        let known = if failed_probe { SEED_PROBE } else { SEED };
        let mismatch = device.is_some_and(|id| {
            self.devices[id].life.as_ref().is_some_and(|life| life.outcome(Rule::BACKEND).violated > 0)
        });
        // Where other lines show that the direct path had allocated it, the crash has another cause.
        let agree = device.is_some_and(|id| {
            self.devices[id].life.as_ref().is_some_and(|life| {
                life.backend.is_some_and(|by| by.backend == Backend::Direct) || life.outcome(Rule::BACKEND).proved > 0
            })
        });
        let doubt = (managed && direct && !mismatch && !agree).then(|| {
            let name = by.map_or_else(String::new, |(_, name)| name);
            Finding {
                rule: Rule::BACKEND,
                verdict: Verdict::CannotTell,
                words: format!(
                    "managed memory is freed by the direct path ({name}) in the crash's stack, and no line says what allocated it; if \
                     that was the IOMMU back-end, this is the bug that {} fixed",
                    known.commit
                ),
                cites: vec![report.head.cite()],
                known: Some(known),
            }
        });
        if let Some(id) = device {
            let life = self.devices[id].life_at(&report.head);
            life.teardown.get_or_insert(report.head.clone());
            life.find(crash);
            if let Some(doubt) = doubt {
                life.find(doubt);
            }
        } else {
            self.loose(crash);
            if let Some(doubt) = doubt {
                self.loose(doubt);
            }
        }
    }
}

/// True where the stack holds the removal of a driver that is not called like `driver`.
fn is_anothers(frames: &[String], driver: &str) -> bool {
    let bus =
        ["pci_", "device_", "platform_", "amba_", "spi_", "i2c_", "usb_", "virtio_dev_", "bus_", "auxiliary_bus_"];
    let begins = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).take(3).collect::<String>();
    let own = |name: &&String| {
        name.contains("_remove") && !bus.iter().any(|bus| name.trim_start_matches('_').starts_with(bus))
    };
    frames.iter().find(own).is_some_and(|name| begins(name) != begins(driver))
}

/// The lines of a report that are worth showing: its head, what names it, and its stack's ends.
fn cites(report: &Report) -> Vec<Cite> {
    let mut cites = vec![report.head.cite()];
    let own = report.lines.iter().filter(|line| line.place != report.head.place);
    cites.extend(own.take(12).map(Mark::cite));
    if cites.last().is_some_and(|cite| cite.place < report.last.place) {
        cites.push(report.last.cite());
    }
    cites.sort_by_key(|cite| cite.place);
    cites.dedup_by_key(|cite| cite.place);
    cites
}
