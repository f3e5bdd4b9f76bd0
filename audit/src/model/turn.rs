//! The turns of a life: probe, unbind, the release of managed resources, the end.
//!
//! The driver core's functions name no device. The one that a task is busy with is told by the next line of the same task
//! that does: its first managed resource.

use super::device::Growth;
use super::life::{End, Pass};
use super::record::At;
use super::task::TaskKey;
use super::verdict::{Finding, Verdict};
use super::{Fact, Id, Mark, Model};
use crate::rules::Rule;

impl Model {
    /// A device takes something: where the task is in a probe that has no device yet, this is the device, and its life begins.
    pub(super) fn attend(&mut self, id: Id, at: At<'_>, mark: &Mark) {
        let heard = self.heard;
        let mut probed = None;
        if let Some(probe) = &mut self.task(at.task).probe
            && probe.device.is_none()
        {
            probe.device = Some(id);
            probed = Some(probe.mark.clone());
        }
        // A kernel that tests removals probes twice in one call: nothing is added while a failed probe is cleaned up.
        let tested = |probe: &super::task::Probe| probe.device == Some(id) && probe.failed.is_some();
        if is_add(at.text) && self.task(at.task).probe.as_ref().is_some_and(tested) && self.devices[id].nodes.is_empty()
        {
            self.leave_probe(at.task);
            self.devices[id].deferred = None;
            self.task(at.task).probe = Some(super::task::Probe { mark: mark.clone(), device: Some(id), failed: None });
            probed = Some(mark.clone());
        }
        let device = &self.devices[id];
        let ended = device.life.as_ref().is_some_and(|life| life.end.is_some());
        match probed {
            Some(begin) => {
                // An unbind that no line ties to a device may have been this one's.
                let nameless = |life: &super::Life| self.nameless.is_some_and(|place| place > life.begin.place);
                let bound = |life: &super::Life| life.traced && life.end.is_none() && !nameless(life);
                let untold = device.life.as_ref().is_some_and(bound);
                let again = untold.then(|| {
                    format!(
                        "the device is probed at line {} without an unbind before: it was not recorded, or two devices on two buses \
                         have this name",
                        begin.place.line
                    )
                });
                if let Some(life) = &mut self.devices[id].life
                    && let Some(again) = &again
                {
                    life.taint.get_or_insert_with(|| again.clone());
                }
                if self.devices[id].life.is_some() {
                    self.close(id, &begin, End::Reprobed);
                }
                let life = self.devices[id].life_at(&begin);
                life.probe_seen = true;
                life.taint = again;
            }
            // Without the functions of probes, the first managed resource after an end is a new beginning.
            None if ended && !heard.lifecycle && is_add(at.text) => self.close(id, mark, End::Reprobed),
            None => {}
        }
    }

    pub(super) fn enter_unbind(&mut self, at: At<'_>, caller: &str) {
        self.heard.lifecycle = true;
        self.settle(at.task);
        // An unbind by hand, or of a whole driver, is never inside another one of the same task.
        let outermost =
            ["unbind_store", "driver_detach", "device_driver_detach", "drv_attr_store", "bus_remove_driver"]
                .contains(&caller);
        if outermost {
            self.leave_unbinds(at.task, None);
            self.leave_probe(at.task);
        }
        let mark = at.mark();
        let task = self.task(at.task);
        // `device_release_driver_internal` calls `__device_release_driver`: one unbind, where both are traced.
        if caller != "device_release_driver_internal" {
            task.enter(mark);
        }
        task.nested = false;
    }

    pub(super) fn cleanup(&mut self, at: At<'_>, caller: &str) {
        self.heard.lifecycle = true;
        self.heard.cleanup = true;
        self.settle(at.task);
        let mark = at.mark();
        let task = self.task(at.task);
        task.nested = false;
        if caller == "really_probe" {
            if let Some(probe) = &mut task.probe {
                probe.failed.get_or_insert(mark.clone());
                if let Some(id) = probe.device {
                    let life = self.devices[id].life_at(&mark);
                    life.teardown.get_or_insert(mark);
                    life.pass.last = None;
                }
            }
            return;
        }
        if let Some(unbind) = task.unbinds.last_mut() {
            unbind.cleanup = true;
            // Where its own device was seen to be released already, this is the last step.
            if let Some(id) = unbind.device {
                self.devices[id].life_at(&mark).pass.last = None;
            }
        }
    }

    pub(super) fn release_all(&mut self, at: At<'_>, caller: &str) {
        self.heard.release_all = true;
        self.settle(at.task);
        let mark = at.mark();
        let task = self.task(at.task);
        task.nested = caller == "device_del" || caller == "device_release";
        if task.nested {
            return;
        }
        let mut begun = None;
        if caller == "really_probe"
            && let Some(probe) = &mut task.probe
        {
            probe.failed.get_or_insert(mark);
            begun = probe.device;
        } else if let Some(unbind) = task.unbinds.last_mut() {
            unbind.cleanup = true;
            begun = unbind.device;
        }
        // What was released before, of a group by its driver, is no part of the order.
        if let Some(life) = begun.and_then(|id| self.devices[id].life.as_mut()) {
            life.pass.last = None;
        }
    }

    pub(super) fn ops_reset(&mut self, at: At<'_>) {
        let mark = at.mark();
        let task = self.task(at.task);
        let mut device = None;
        if let Some(unbind) = task.unbinds.last_mut() {
            unbind.reset = Some(mark.clone());
            device = unbind.device;
        } else if let Some(probe) = &task.probe {
            device = probe.device;
        }
        if let Some(id) = device {
            let reset = Some(mark.clone());
            self.devices[id].life_at(&mark).reset = reset;
        }
    }

    /// The device of an unbind or a failing probe is the one whose managed resource is released now.
    pub(super) fn resolve(&mut self, at: At<'_>, id: Id, mark: &Mark) {
        let heard = self.heard;
        let task = self.task(at.task);
        if task.nested {
            return;
        }
        let mut begin = None;
        if let Some(failed) =
            task.probe.as_ref().filter(|probe| probe.device == Some(id)).and_then(|probe| probe.failed.clone())
        {
            begin = Some((failed, None, None));
        } else if !task.unbinds.iter().any(|unbind| unbind.device == Some(id)) {
            let free = |unbind: &super::task::Unbind| unbind.device.is_none();
            let at = match task.unbinds.iter().rposition(|unbind| free(unbind) && unbind.cleanup) {
                // An inner unbind of a device without a driver leaves no trace of its end: the outermost is meant.
                Some(_) => task.unbinds.iter().position(free),
                None if !heard.cleanup => task.unbinds.iter().position(free),
                None => None,
            };
            if let Some(at) = at {
                let (mut dropped, mut reset) = (None, None);
                for unbind in &mut task.unbinds[at..] {
                    dropped = unbind.dropped.take().or(dropped);
                    reset = unbind.reset.take().or(reset);
                }
                let unbind = &mut task.unbinds[at];
                unbind.device = Some(id);
                unbind.cleanup = true;
                let mark = unbind.mark.clone();
                task.unbinds.truncate(at + 1);
                begin = Some((mark, dropped, reset));
            } else if task.unbinds.is_empty() && task.probe.is_none() && !heard.lifecycle {
                begin = Some((mark.clone(), None, None));
            }
        }
        let Some((begin, dropped, reset)) = begin else { return };
        let failed = self.task(at.task).fails(id);
        let device = &mut self.devices[id];
        if device.life_at(mark).teardown.is_none() && !failed {
            let mut kinds = std::collections::BTreeMap::new();
            for node in device.nodes.iter() {
                *kinds.entry(node.name.clone()).or_default() += 1;
            }
            device.growth.push(Growth { kinds, mark: begin.clone() });
            if device.growth.len() > 64 {
                device.growth.remove(0);
            }
        }
        let life = device.life_at(mark);
        if life.teardown.is_none() {
            life.teardown = Some(begin);
            life.pass = Pass::default();
        }
        life.dropped = dropped.or(life.dropped.take());
        life.reset = reset.or(life.reset.take());
        if let Some(dropped) = life.dropped.clone() {
            self.window(id, &dropped);
        }
    }

    /// Ownership of the group is dropped before managed memory is freed: a window, not a leak.
    fn window(&mut self, id: Id, dropped: &Mark) {
        let device = &mut self.devices[id];
        let managed = device.nodes.iter().filter(|node| &*node.name == "dmam_release").count();
        let Some(life) = device.life.as_mut().filter(|_| managed > 0) else { return };
        let words = format!(
            "the group's ownership was dropped at line {} while {managed} pieces of managed memory were still to be released: a \
             window in which the group's domain may change, no leak",
            dropped.place.line
        );
        life.note(words, vec![dropped.cite()]);
        life.dropped = None;
    }

    /// The unbinds of a task are over; `shown` is the line that says so of the innermost one that has begun
    /// to clean up.
    pub(super) fn leave_unbinds(&mut self, key: TaskKey, shown: Option<&Mark>) {
        self.settle(key);
        let Some(task) = self.tasks.get_mut(&key) else { return };
        task.nested = false;
        let from = if shown.is_some() {
            // Before 6.7 the links were cleaned up first: then nothing is over yet.
            match task.unbinds.iter().rposition(|unbind| unbind.cleanup) {
                Some(at) => at,
                None => return,
            }
        } else {
            0
        };
        let over: Vec<_> = task.unbinds.drain(from..).collect();
        for unbind in over.into_iter().rev() {
            let device = unbind.device.or_else(|| unbind.guess.filter(|_| unbind.cleanup));
            if device.is_none() {
                self.nameless = Some(unbind.mark.place);
            }
            if let Some(id) = device.filter(|_| unbind.cleanup || !self.heard.cleanup) {
                let last = self.devices[id].life.as_ref().map_or_else(|| unbind.mark.clone(), super::Life::last_mark);
                if unbind.device.is_none() {
                    self.devices[id].life_at(&unbind.mark).end_guessed = Some(super::judge::GUESSED);
                }
                self.end_of(id, &unbind.mark, shown.cloned().unwrap_or(last));
            }
        }
    }

    fn end_of(&mut self, id: Id, begin: &Mark, end: Mark) {
        let life = self.devices[id].life_at(begin);
        life.teardown.get_or_insert(begin.clone());
        self.over(id, end, End::Unbound);
    }

    pub(super) fn leave_probe(&mut self, key: TaskKey) {
        self.settle(key);
        let Some(probe) = self.tasks.get_mut(&key).and_then(|task| task.probe.take()) else { return };
        let Some(id) = probe.device else { return };
        if let Some(failed) = probe.failed {
            let device = &mut self.devices[id];
            let deferred = failed.clone();
            device.deferred.get_or_insert(deferred);
            let end = device.life_at(&failed).last_mark();
            self.over(id, end, End::ProbeFailed);
        }
    }

    /// The life is over; frees may still be logged, and what is then left is judged when the next one begins.
    pub(super) fn over(&mut self, id: Id, mark: Mark, end: End) {
        let life = self.devices[id].life_at(&mark);
        life.teardown.get_or_insert(mark.clone());
        if life.end.is_none() {
            life.end = Some((mark, end));
        }
    }

    pub(super) fn group(&mut self, mark: Mark, device: &str, group: Option<u64>, joins: bool) {
        let Some(id) = self.id(device) else { return };
        let device = &mut self.devices[id];
        device.domain_changed = true;
        let live = device.live.len() + device.scatter.len();
        let changed = !joins || group.is_some() && device.group.is_some_and(|old| Some(old) != group);
        if !joins || changed {
            device.retype(mark.place);
        }
        device.group = if joins { group.or(Some(u64::MAX)) } else { None };
        if live > 0 && changed && device.life.as_ref().is_none_or(|life| life.end.is_none()) {
            let what = if joins { "changed its group" } else { "left its group" };
            let words = format!("{what} at line {} with {live} live mappings", mark.place.line);
            let finding =
                Finding { rule: Rule::GROUP, verdict: Verdict::Violated, words, cites: vec![mark.cite()], known: None };
            device.life_at(&mark).suspect(finding);
        } else if device.life.as_ref().is_some_and(|life| life.traced) {
            device.life_at(&mark).on(Rule::GROUP).proved += 1;
        }
        if !joins && device.life.is_some() {
            self.over(id, mark, End::Removed);
        }
    }

    pub(super) fn domain(&mut self, at: At<'_>, device: &str, attached: bool) {
        self.heard.domains = true;
        let Some(id) = self.id(device) else { return };
        let mark = &at.mark();
        // A probe may attach the device to the domain that its group has; the type changes between drivers only.
        let probing = self.task(at.task).probe.is_some();
        let device = &mut self.devices[id];
        device.domain_changed = true;
        let first = std::mem::take(&mut device.joined) && device.life.is_none() && device.past.is_empty();
        if !first && !probing {
            device.retype(mark.place);
        }
        let live = device.live.len() + device.scatter.len();
        // An attach event replaces the one before; only a change under live mappings is wrong.
        if live > 0 && device.life.as_ref().is_some_and(|life| life.end.is_none()) {
            if let Some(first) = device.life_at(mark).moved.take() {
                let mut cites = first.cites;
                cites.push(mark.cite());
                let words = "its domain was changed twice under live mappings, as a reset does that blocks the device's DMA meanwhile \
                             (from 7.0 on)";
                device.life_at(mark).note(words.to_owned(), cites);
                return;
            }
            let what = if attached { "attached to another domain" } else { "detached from its domain" };
            let words = format!("{what} at line {} with {live} live mappings", mark.place.line);
            let finding =
                Finding { rule: Rule::GROUP, verdict: Verdict::Violated, words, cites: vec![mark.cite()], known: None };
            device.life_at(mark).moved = Some(finding);
        }
    }

    /// Ends the life of `id` for good and judges it.
    pub(super) fn close(&mut self, id: Id, mark: &Mark, end: End) {
        let heard = self.heard;
        self.tell_bounced(id);
        let device = &mut self.devices[id];
        let Some(mut life) = device.life.take() else { return };
        if let Some(mut moved) = life.moved.take() {
            // A reset changes the domain twice: its beginning or its end may lie outside.
            if !life.probe_seen || end == End::FileEnded && life.end.is_none() {
                moved.verdict = Verdict::CannotTell;
                moved.words.push_str("; but a reset attaches it twice, and its other half may not be recorded");
            }
            life.suspect(moved);
        }
        if end != End::FileEnded && life.end.is_none() {
            if end == End::Reprobed {
                life.end_guessed.get_or_insert(super::judge::UNENDED);
            }
            life.end = Some((mark.clone(), end));
            if life.traced {
                life.teardown.get_or_insert(mark.clone());
            }
        }
        let left: Vec<_> = if life.end.is_some() {
            let mut left = device.live.drain();
            left.extend(device.scatter.drain());
            device.sub_pages.clear();
            left
        } else {
            Vec::new()
        };
        let nodes: Vec<_> = device.nodes.iter().cloned().collect();
        if life.end.is_some() {
            device.nodes.clear();
        }
        let pool = device.may_have_pool();
        super::judge::judge(&mut life, (&left, pool), &nodes, heard);
        device.keep(life);
    }

    /// Judges everything that is still open: the files are at their end.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.settle_all();
        self.at_end = true;
        self.finish_log();
        self.taint_by_header();
        self.judge_untranslated();
        for id in 0..self.devices.len() {
            let growth = std::mem::take(&mut self.devices[id].growth);
            self.grows(id, &growth);
            let Some(mark) = self.devices[id].life.as_ref().map(|life| life.begin.clone()) else { continue };
            self.close(id, &mark, End::FileEnded);
        }
    }

    /// Ends what a task was in the middle of: an unbind whose device gave everything back is over as far as it matters here.
    pub(super) fn end_of_task(&mut self, key: TaskKey) {
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let failed = task.probe.as_ref().is_some_and(|probe| probe.failed.is_some());
        if failed {
            self.leave_probe(key);
        }
        let Some(task) = self.tasks.get_mut(&key) else { return };
        let unbinds = std::mem::take(&mut task.unbinds);
        for unbind in unbinds.into_iter().rev().filter(|unbind| unbind.cleanup) {
            let Some(id) = unbind.device else { continue };
            let device = &self.devices[id];
            if device.nodes.is_empty() && device.life.as_ref().is_some_and(|life| life.released > 0) {
                let end = device.life.as_ref().map_or_else(|| unbind.mark.clone(), super::Life::last_mark);
                self.over(id, end, End::Unbound);
            } else {
                let life = self.devices[id].life_at(&unbind.mark);
                life.teardown.get_or_insert(unbind.mark.clone());
                life.on(Rule::LEAK).doubt("the tear-down is not over in this file");
            }
        }
    }

    /// The header's losses hit what began before each CPU's buffer did.
    pub(super) fn taint_by_header(&mut self) {
        let Some(header) = self.header else { return };
        let lost = header.written.saturating_sub(header.held);
        if lost <= self.lost - self.lost_before {
            return;
        }
        let whole_from = (self.first_of_cpu.len() as u64 >= u64::from(header.cpus.unwrap_or(u32::MAX)))
            .then(|| self.first_of_cpu.values().max().copied())
            .flatten();
        let words = format!("the buffer had overwritten {lost} of {} events (header)", header.written);
        self.lost = self.lost_before + lost;
        self.facts.push(Fact { words: words.clone(), cites: Vec::new() });
        for device in &mut self.devices {
            let open = device.life.iter_mut().chain(&mut device.past).filter(|life| life.traced);
            for life in open.filter(|life| whole_from.is_none_or(|from| life.begin.place <= from)) {
                life.taint.get_or_insert(words.clone());
            }
        }
    }

    /// Resources of the same kinds that are more at each unbind. Other kinds are another driver's, or other work's.
    pub(super) fn grows(&mut self, id: Id, growth: &[Growth]) {
        if growth.len() < 3 || !growth.windows(2).all(|pair| pair[0].grows_into(&pair[1])) {
            return;
        }
        let counts: Vec<String> = growth.iter().map(|growth| growth.count().to_string()).collect();
        let mut words = format!("managed resources at each unbind: {}: they grow with each cycle", counts.join(", "));
        let cites = growth.iter().take(4).map(|growth| growth.mark.cite()).collect();
        let steps: Vec<u64> = growth.windows(2).map(|pair| pair[1].count() - pair[0].count()).collect();
        let verdict = if steps.len() >= 3 && steps.iter().all(|step| *step == steps[0]) {
            Verdict::Violated
        } else {
            words.push_str(
                "; but not by the same number three times and more: the device may have had more parts each time. Record more cycles with \
                 the device as it is",
            );
            Verdict::CannotTell
        };
        if let Some(life) = self.devices[id].newest() {
            life.find(Finding { rule: Rule::GROWS, verdict, words, cites, known: None });
        }
    }
}

/// True for the line of a managed resource that is added.
fn is_add(text: &str) -> bool {
    text.contains(" ADD ")
}
