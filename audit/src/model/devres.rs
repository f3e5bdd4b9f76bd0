//! Managed resources: their order, and the memory among them.

use super::device::{Node, Nodes};
use super::judge::POOL;
use super::record::At;
use super::task::Release;
use super::verdict::{Finding, SEED, SEED_PROBE, Verdict};
use super::{Fact, Id, Mapping, Mark, Model};
use crate::event::Backend;
use crate::event::Devres;
use crate::rules::Rule;

/// The release function of managed memory.
const MANAGED: &str = "dmam_release";

impl Model {
    pub(super) fn devres(&mut self, at: At<'_>, resource: Devres<'_>) {
        let Devres { device, op, node, name, size } = resource;
        self.heard.devres = true;
        self.settle(at.task);
        // Class devices that are not registered yet share the name that all of them have.
        if device == "(null)" || device.is_empty() {
            return;
        }
        let Some(id) = self.id(device) else { return };
        let mark = at.mark();
        let key = Nodes::key(node, name, size);
        match op {
            "ADD" => self.add(
                at,
                id,
                &mark,
                Node { mark: mark.clone(), name: name.into(), addr: None, by: None, key, hidden: node.is_none() },
            ),
            "REM" => self.rem(at, id, &mark, key, name),
            "REL" => self.rel(at, id, &mark, key, (name, node)),
            "REPLACE" => {
                self.devices[id].nodes.replace(key);
                self.devices[id].life_at(&mark).traced = true;
            }
            _ => {}
        }
    }

    /// A managed resource of which the operation cannot be read.
    pub(super) fn unread_devres(&mut self, at: At<'_>) {
        self.settle(at.task);
        self.unread += 1;
        if self.unread == 1 {
            let words = "devres_log shows pointers in the place of ADD, REM and REL: the tool could not read the kernel's strings; read \
                         the text of /sys/kernel/tracing/trace instead";
            let fact = Fact { words: words.to_owned(), cites: vec![at.mark().cite()] };
            self.fact(fact);
        }
    }

    /// An event that the tool could not print: what it would have said is missing everywhere.
    pub(super) fn unread(&mut self, at: At<'_>) {
        self.settle(at.task);
        if !std::mem::replace(&mut self.heard.unprinted, true) {
            let words = "trace-cmd could not parse some events (FAILED TO PARSE): read the text of /sys/kernel/tracing/trace, or run \
                         trace-cmd report on the machine that recorded";
            let fact = Fact { words: words.to_owned(), cites: vec![at.mark().cite()] };
            self.fact(fact);
        }
    }

    fn add(&mut self, at: At<'_>, id: Id, mark: &Mark, mut node: Node) {
        self.attend(id, at, mark);
        let task = self.task(at.task);
        if &*node.name == MANAGED {
            let taken = task.taken.take().filter(|(device, _)| *device == id).map(|(_, addr)| addr);
            let by = task.take.take().map(|(by, _)| by);
            let maps = std::mem::take(&mut task.maps);
            node.addr = taken;
            node.by = by.or_else(|| {
                (!maps.is_empty()).then_some(super::task::By {
                    backend: Backend::Iommu,
                    named: false,
                    line: at.place.line,
                })
            });
            if let Some(addr) = taken {
                if let Some(mapping) = self.devices[id].live.get_mut(addr) {
                    mapping.managed = true;
                }
            } else if let Some(by) = node.by {
                self.backend_of_life(id, by, mark);
            }
        }
        let in_probe = self.task(at.task).probe.as_ref().is_some_and(|probe| probe.device == Some(id));
        let mut cycle = self.cycle;
        let device = &mut self.devices[id];
        cycle.count += device.slept;
        let life = device.life_at(mark);
        if life.end.is_some() {
            life.came_back.get_or_insert(mark.place);
        }
        life.traced = true;
        life.added += 1;
        life.managed_memory += u64::from(&*node.name == MANAGED);
        if !in_probe {
            life.bursts.add(&node.name, cycle, mark);
        }
        device.nodes.add(node);
    }

    fn rem(&mut self, at: At<'_>, id: Id, mark: &Mark, key: u64, name: &str) {
        let device = &mut self.devices[id];
        let removed = device.nodes.remove(key, name);
        // Of several that look the same another one may have been meant.
        let known = removed.as_ref().is_some_and(|(_, node)| node.key == key);
        let guessed = removed.as_ref().is_some_and(|(_, node)| node.hidden) && device.nodes.has(key)
            || removed.is_some() && !known && device.nodes.has_moved(name);
        let life = device.life_at(mark);
        life.traced = true;
        life.released += 1;
        life.guessed |= guessed;
        life.bursts.gone(name);
        if name == MANAGED {
            let addr = removed.and_then(|(_, node)| node.addr);
            // Older kernels free first and remove the node then.
            let before = life.by_hand.len();
            life.by_hand.retain(|(freed, _)| addr.is_some_and(|addr| addr != *freed));
            if life.by_hand.len() == before {
                self.task(at.task).removed = Some(id);
            }
        }
    }

    fn rel(&mut self, at: At<'_>, id: Id, mark: &Mark, key: u64, (name, node): (&str, Option<u64>)) {
        let unseen = !self.heard.release_all;
        self.resolve(at, id, mark);
        let device = &mut self.devices[id];
        let removed = device.nodes.remove(key, name);
        let life = device.life_at(mark);
        life.traced = true;
        life.released += 1;
        life.pass.count += 1;
        life.pass.hidden |= node.is_none();
        if life.teardown.is_none() {
            life.bursts.gone(name);
        }
        if let Some((order, node)) = &removed {
            if let Some((last, last_mark)) = &life.pass.last
                && order > last
            {
                life.pass.wrong.get_or_insert((last_mark.clone(), node.mark.clone()));
            }
            life.pass.last = Some((*order, mark.clone()));
        } else {
            life.pass.unknown += 1;
            life.before |= !unseen || name != "grp<";
        }
        if name == "devm_region_release" {
            self.charge_region(id, mark);
        }
        if name == MANAGED {
            self.devices[id].life_at(mark).managed_memory += 1;
            let (addr, by) =
                removed.as_ref().map_or((None, None), |(_, node)| (node.addr.filter(|_| !node.hidden), node.by));
            let task = self.task(at.task);
            let (mark, failed) = (mark.clone(), task.fails(id));
            task.release = Some(Release { device: id, addr, by, freed: false, mark, give: None, named: None, failed });
        }
        if self.devices[id].nodes.is_empty() && !self.heard.lifecycle {
            // Without the driver core's functions the last release is all that shows the end.
            let life = self.devices[id].life_at(mark);
            if life.end.is_none() {
                life.end_guessed = Some(super::judge::EMPTIED);
            }
            self.over(id, mark.clone(), super::End::Unbound);
        }
    }

    /// A free of managed memory must come from its release, or its node must go, too.
    pub(super) fn managed_give(&mut self, at: At<'_>, id: Id, mapping: &Mapping, mark: &Mark) {
        let task = self.task(at.task);
        if let Some(release) = task.release.as_mut().filter(|release| release.device == id && !release.freed) {
            release.freed = true;
            if release.addr.is_none_or(|addr| addr == mapping.addr) {
                self.devices[id].life_at(mark).on(Rule::MANAGED).proved += 1;
            }
            return;
        }
        let removed = task.removed.take() == Some(id);
        if mapping.managed && !removed {
            let life = self.devices[id].life_at(mark);
            if life.by_hand.len() < 1000 {
                life.by_hand.push((mapping.addr, mark.clone()));
            }
        }
    }

    /// The end of a release of managed memory.
    pub(super) fn released(&mut self, release: Release) {
        let Release { device, addr, by, freed, mark, give, named, failed } = release;
        let (heard, at_end) = (self.heard, self.at_end);
        let life = self.devices[device].life_at(&mark);
        if !heard.dma {
            // The function tracer's lines between this release and the next one are its free's.
            match (by, give) {
                (Some(taken), Some(given)) if taken.backend == given.backend => {
                    life.on(Rule::BACKEND).proved += 1;
                    life.on(Rule::BACKEND).how = Some("by call context");
                    life.on(Rule::MANAGED).proved += 1;
                    life.on(Rule::MANAGED).how = Some("by call context");
                }
                (Some(taken), Some(given)) => {
                    let known = if failed { SEED_PROBE } else { SEED };
                    let reset = life.reset.as_ref();
                    let since = reset.map_or_else(String::new, |reset| {
                        format!(", after the DMA ops were reset (line {})", reset.place.line)
                    });
                    let words = format!(
                        "managed memory was allocated through {} at line {} and freed by {} at line {}{since}",
                        taken.backend, taken.line, given.backend, given.line
                    );
                    let mut cites: Vec<_> = reset.map(Mark::cite).into_iter().collect();
                    cites.push(mark.cite());
                    cites.extend(named.map(|mark| mark.cite()));
                    life.find(Finding { rule: Rule::BACKEND, verdict: Verdict::Violated, words, cites, known: Some(known) });
                }
                _ => life.on(Rule::BACKEND).doubt(
                    "no line names the back-end of some managed memory; add iommu_dma_alloc iommu_dma_free dma_direct_alloc \
                     dma_direct_free to set_ftrace_filter",
                ),
            }
            return;
        }
        let taken = addr.and_then(|addr| self.devices[device].live.get(addr));
        let unnamed = by.is_none() && taken.is_none_or(|mapping| mapping.backend.is_none());
        if !freed && unnamed && self.devices[device].may_have_pool() {
            let life = self.devices[device].life_at(&mark);
            life.on(Rule::MANAGED).doubt(format!("no dma_free follows the release of managed memory; {POOL}"));
            return;
        }
        let life = self.devices[device].life_at(&mark);
        if !freed && at_end {
            life.on(Rule::MANAGED).doubt("the file ends with the release of managed memory");
        } else if !freed {
            let at = addr.map_or_else(String::new, |addr| format!(" at {addr:#x}"));
            let words = format!(
                "the managed memory{at} is released at line {}, but no dma_free follows: the free did not happen, or a pool of the \
                 device's own took it back",
                mark.place.line
            );
            let finding = Finding {
                rule: Rule::MANAGED,
                verdict: Verdict::Violated,
                words,
                cites: vec![mark.cite()],
                known: None,
            };
            life.suspect(finding);
        }
    }
}
