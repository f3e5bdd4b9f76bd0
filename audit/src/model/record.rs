//! Records as they come: each goes to what it is about.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::task::{Probe, TaskKey};
use super::{Fact, MAX_TASKS, Mark, Model};
use crate::event::{Backend, Call, Event, call_of, event};
use crate::rules::Rule;
use crate::shape::{Place, Record, Sink, Stamp, parse_log};

/// Place, time and task of an event.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) place: Place,
    pub(super) stamp: Option<Stamp>,
    pub(super) text: &'a str,
    pub(super) task: TaskKey,
}

impl At<'_> {
    pub(super) fn mark(&self) -> Mark {
        Mark::new(self.place, self.stamp, self.text)
    }
}

impl Sink for Model {
    fn record(&mut self, place: Place, record: &Record<'_>) -> bool {
        if !matches!(record, Record::Stack(_)) {
            self.last_stack = false;
        }
        match *record {
            Record::Trace { line, text } => {
                self.enter_first_machine(place);
                self.follow_trace(place, line.stamp);
                self.first_of_cpu.entry(line.cpu).or_insert(place);
                self.last_of_cpu.insert(line.cpu, place);
                self.heard.mixed |= !line.flags;
                let first = *self.heard.tasks.0.get_or_insert(line.pid);
                self.heard.tasks.1 |= first != line.pid || line.context != 0;
                let task = TaskKey::new(line.pid, line.cpu, line.context);
                let body = &text[line.body..];
                self.event(At { place, stamp: line.stamp, text: body, task }, event(body));
            }
            Record::Log { stamp, text, damaged, host, device, times } => {
                self.heard.log = true;
                if host.is_none_or(|host| self.enter_machine(place, host)) {
                    self.follow_clock(place, stamp);
                    self.log.times = times;
                    self.message(place, stamp, text, device, damaged);
                    self.log.times = 1;
                }
            }
            Record::Dropped(count) => self.dropped(place, count),
            Record::Listed(device) => self.host.list(device),
            Record::Begin => self.begin_recording(place),
            Record::Recorder => {
                self.begin_recording(place);
                self.heard.recorder = true;
            }
            Record::Plain(text) => return self.plain(place, text),
            Record::Foreign { text, host } => {
                if host.is_none_or(|host| self.enter_machine(place, host)) {
                    self.hint(place, text);
                }
            }
            Record::Stack(name) => self.stack(name),
            Record::Header(header) => {
                if header.written > header.held {
                    let words =
                        format!("the header says that the buffer held {} of {} events", header.held, header.written);
                    self.fact(Fact { words, cites: vec![Mark::new(place, None, "").cite()] });
                }
                if let Some(old) = self.header {
                    self.header = Some(crate::shape::Header {
                        held: old.held + header.held,
                        written: old.written + header.written,
                        ..header
                    });
                } else {
                    self.header = Some(header);
                }
            }
            Record::Lost { cpu, count } => self.loss(place, cpu, count),
            Record::Missed(count) => {
                self.lost = self.lost.saturating_add(count);
                self.heard.missed = true;
            }
        }
        true
    }

    fn knows(&self, text: &str) -> bool {
        self.plain_body(text).is_some()
    }
}

impl Model {
    fn event(&mut self, at: At<'_>, event: Event<'_>) {
        if self.tasks.len() >= MAX_TASKS {
            self.tasks.retain(|_, task| !task.idle());
            if self.tasks.len() >= MAX_TASKS {
                self.tasks.clear();
            }
        }
        match event {
            Event::Take(op) => self.take(at, &op),
            Event::Give(op) => self.give(at, &op),
            Event::Failed(_) => {
                self.heard.dma = true;
                // What named its back-end says nothing about what comes next.
                self.task(at.task).begin_call();
            }
            Event::IommuMap { start, end } => {
                self.heard.iommu_map = true;
                self.task(at.task).map(start, end);
            }
            Event::IommuUnmap { start, end, unmapped } => self.iommu_unmap(at, start, end, unmapped),
            Event::Group { device, group, joins } => {
                self.heard.domains = true;
                self.group(at.mark(), device, group, joins);
                if let Some(id) = self.known(device) {
                    self.devices[id].joined = joins;
                }
            }
            Event::Domain { device, attached } => self.domain(at, device, attached),
            Event::Fault { device, iova } => self.trace_fault(&at.mark(), device, Some(iova)),
            Event::Devres(resource) => self.devres(at, resource),
            Event::Function { name, caller } => self.function(at, name, caller),
            Event::Console(text) => {
                // Older kernels hand over what the console prints, with level and time.
                let text = parse_log(text).map_or(text, |log| &text[log.body..]);
                self.console_region(at, text);
                self.message(at.place, at.stamp, text, None, false);
            }
            Event::StackHead => self.last_stack = true,
            Event::Probe { name, payload } => self.kprobe(at, name, payload),
            Event::Bounced { device, .. } => self.bounced(at, device),
            Event::Flushed { device, start, last } => self.flushed(&at.mark(), device, start, last),
            Event::DevresUnread => self.unread_devres(at),
            Event::Unread => self.unread(at),
            Event::Mark(text) => self.marked(text),
            Event::Slept { device } => {
                if let Some(id) = self.known(device) {
                    self.devices[id].slept += 1;
                }
            }
            Event::Other(_) => {}
        }
        if !matches!(event, Event::StackHead) {
            self.last_task = Some(at.task);
        }
    }

    /// A line that somebody wrote into the trace, or a line about the system's sleep: something is done once more.
    pub(super) fn marked(&mut self, text: &str) {
        let mut hasher = FxHasher::default();
        for part in text.trim().split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()) {
            part.hash(&mut hasher);
        }
        self.cycle.count += 1;
        self.cycle.last = hasher.finish();
    }

    pub(super) fn task(&mut self, key: TaskKey) -> &mut super::task::Task {
        self.tasks.entry(key).or_default()
    }

    fn function(&mut self, at: At<'_>, name: &str, caller: &str) {
        match call_of(name) {
            // A device's own pool is asked at each call where it may have one (on arm64 always), and mostly has no part in it.
            Some(Call::Take(Backend::Pool) | Call::Give(Backend::Pool)) => return,
            Some(Call::Take(backend)) => {
                self.heard.backends = true;
                self.heard.allocs |= name.contains("alloc");
                let line = at.place.line;
                let task = self.task(at.task);
                task.maps.clear();
                // The outermost function decides: the IOMMU's may take its pages from a pool.
                let by = super::task::By { backend, named: true, line };
                task.take = Some((by, name.contains("alloc")));
                return;
            }
            Some(Call::Give(backend)) => {
                (self.heard.backends, self.heard.frees) = (true, true);
                self.give_by(at, backend);
                return;
            }
            None => {}
        }
        if name == "__release_region" || name == "release_resource" {
            let mark = at.mark();
            let task = self.task(at.task);
            if task.regions.len() >= 8 {
                task.regions.pop_front();
            }
            task.regions.push_back(super::task::Region { mark, stack: vec![caller.to_owned()] });
            task.stack_of_region = true;
            return;
        }
        self.task(at.task).stack_of_region = false;
        match name {
            "really_probe" => {
                (self.heard.lifecycle, self.heard.probes) = (true, true);
                self.leave_probe(at.task);
                self.leave_unbinds(at.task, None);
                let mark = at.mark();
                let task = self.task(at.task);
                task.nested = false;
                task.probe = Some(Probe { mark, device: None, failed: None });
            }
            // The last steps of a probe that succeeds.
            "device_links_driver_bound" | "driver_bound" => self.leave_probe(at.task),
            "device_release_driver_internal" | "__device_release_driver" => self.enter_unbind(at, caller),
            "device_unbind_cleanup" => self.cleanup(at, caller),
            "devres_release_all" => self.release_all(at, caller),
            "device_links_driver_cleanup" => self.leave_unbinds(at.task, Some(&at.mark())),
            "iommu_device_unuse_default_domain" => {
                let mark = at.mark();
                if let Some(unbind) = self.task(at.task).unbinds.last_mut() {
                    unbind.dropped.get_or_insert(mark);
                }
            }
            "arch_teardown_dma_ops"
            | "arm_teardown_iommu_dma_ops"
            | "acpi_dma_deconfigure"
            | "of_dma_deconfigure"
            | "dma_deconfigure" => self.ops_reset(at),
            _ => {}
        }
    }

    fn stack(&mut self, name: &str) {
        if !self.last_stack {
            return;
        }
        let Some(task) = self.last_task.and_then(|key| self.tasks.get_mut(&key)) else { return };
        if task.stack_of_region
            && let Some(region) = task.regions.back_mut()
            && region.stack.len() < 32
        {
            region.stack.push(name.split(['+', ' ']).next().unwrap_or(name).to_owned());
        }
    }

    fn loss(&mut self, place: Place, cpu: Option<u32>, count: u64) {
        self.epoch += 1;
        self.lost = self.lost.saturating_add(count);
        let on = cpu.map_or_else(String::new, |cpu| format!(" on CPU {cpu}"));
        let after = self.last_stamp.map_or_else(String::new, |stamp| {
            format!(", after {}.{:06} s", stamp.ns / 1_000_000_000, stamp.ns / 1000 % 1_000_000)
        });
        let words = format!("{count} events were lost{on} at line {}{after}", place.line);
        let cite = Mark::new(place, None, &words).cite();
        if self.loss_marks.len() < 100 {
            self.loss_marks.push(cite.clone());
        }
        self.fact(Fact { words: words.clone(), cites: vec![cite] });
        // The mark stands before the CPU's next event: other CPUs' events of the same time stand before it. Where the CPU is not
        // named, or had no event yet, all of the recording may be hit.
        let from = match cpu {
            Some(cpu) => self.last_of_cpu.get(&cpu),
            None => self.last_of_cpu.values().min(),
        };
        let first = self.first_of_cpu.values().min();
        let from = from.or(first).copied().unwrap_or(place);
        for device in &mut self.devices {
            for life in device.life.iter_mut().chain(&mut device.past).filter(|life| life.traced) {
                if life.end.as_ref().is_none_or(|(end, _)| end.place >= from) {
                    life.excuse(&words, from);
                }
            }
        }
        // What a task was in the middle of may have gone on unseen.
        self.tasks.clear();
    }

    /// A region that is released twice: the kernel's message comes in the middle of the second release.
    fn console_region(&mut self, at: At<'_>, text: &str) {
        let crate::event::Message::NoRegion { start } = crate::event::message(text) else { return };
        let mark = at.mark();
        let task = self.task(at.task);
        let releases: Vec<super::task::Region> = task.regions.drain(..).collect();
        let Some(second) = releases.last() else { return };
        let mut cites: Vec<_> = releases.iter().map(|region| region.mark.cite()).collect();
        cites.push(mark.cite());
        let path = |region: &super::task::Region| {
            let caller = region.stack.first().map_or("?", String::as_str);
            let driver = region.stack.iter().find(|name| name.ends_with("_remove") && !name.starts_with("device_"));
            match driver {
                Some(driver) if driver != caller => format!("{caller} (from {driver})"),
                _ => caller.to_owned(),
            }
        };
        let first = releases.len().checked_sub(2).map(|at| path(&releases[at]));
        let words = match first {
            Some(first) => format!(
                "the region at {start:#x} is released twice in one tear-down: by {first} at line {} and again by {} at line {}; \
                 the kernel says that it is not there",
                releases[releases.len() - 2].mark.place.line,
                path(second),
                second.mark.place.line,
            ),
            None => format!(
                "the region at {start:#x} is released by {} at line {} although it is not there any more",
                path(second),
                second.mark.place.line,
            ),
        };
        self.log.region = Some((start, words, cites, mark, Rule::TWICE));
    }
}
