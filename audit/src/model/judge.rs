//! The judgement of a life that is over.

use super::device::Node;
use super::dma::UNNAMED;
use super::life::{End, Life};
use super::verdict::{Finding, Verdict};
use super::{Heard, Mapping, Mark};
use crate::event::Family;
use crate::rules::Rule;
use crate::shape::Span;

/// Most mappings that are named one by one when they are left over.
const MOST_NAMED: usize = 8;

/// Doubt about a fault that follows no tear-down.
pub(super) const NO_TEAR_DOWN: &str = "there are faults, but no tear-down in the file that they could follow";

/// Reason why memory whose back-end is not known may be free.
pub(super) const POOL: &str = "no line names its back-end, and memory of a device's own pool is freed without an event: add iommu_dma_alloc \
     dma_direct_alloc to set_ftrace_filter";
/// Reason why nothing is known of what was given back before the next probe.
pub(super) const UNENDED: &str = "the end of its unbind is not recorded, and its frees may not be either: add device_unbind_cleanup \
                                  devres_release_all device_links_driver_cleanup to set_ftrace_filter, and read the buffers of all CPUs";
/// Reason why an end may not be that of the unbind.
pub(super) const EMPTIED: &str = "that the unbind is over is concluded from the release of its last managed resource, which a driver may do \
                                  earlier: add device_release_driver_internal device_unbind_cleanup devres_release_all \
                                  device_links_driver_cleanup to set_ftrace_filter";
/// Reason why an end may be another device's.
pub(super) const GUESSED: &str = "that this unbind was of this device is concluded from its frees alone, which a child's unbind may make, \
                                  too: echo 1 > events/dev/devres_log/enable";
/// Reason why nothing is known of frees.
const UNFREED: &str =
    "no free or unmap of any device is recorded, so that its own may not be: echo 1 > events/dma/enable";
/// Reason why nothing is known of the frees of one kind.
const UNFREED_KIND: &str = "none of several of its kind is given back in the whole recording, so that its free may not be recorded: \
                            echo 1 > events/dma/enable";
/// Reason why a release's free may not be recorded.
const UNFREED_MANAGED: &str = "no dma_free of any device is recorded, so that none would be seen behind the release of managed memory: echo \
                               1 > events/dma/enable";
/// Reason why an unmap may not be recorded.
const ONE_TASK: &str = "events of one task are recorded only, and drivers unmap in interrupts and other tasks: empty set_event_pid \
                        (trace-cmd record without -P and -F)";
/// Takes of one kind without any give from which on their frees are taken for not recorded.
const MANY: u64 = 4;

/// Judges `life`, which left mappings and `nodes` unreleased. Of those `left` coherent memory may be of a `pool` of the device's own.
pub(super) fn judge(life: &mut Life, (left, pool): (&[Mapping], bool), nodes: &[Node], heard: Heard) {
    // Everything that was released had been seen to be added: nothing is older than the recording.
    let whole = life.probe_seen || !life.before && life.added > 0 && life.pass.unknown == 0;
    if heard.missed {
        life.taint.get_or_insert_with(|| "events were lost, and the recorder's comments do not say where".to_owned());
    }
    if heard.unprinted {
        life.taint.get_or_insert_with(|| "some events could not be parsed by trace-cmd".to_owned());
    }
    candidates(life, heard, whole);
    if let Some((verdict, words, cites)) = std::mem::take(&mut life.bursts).finding() {
        let verdict = if life.taint.is_some() { Verdict::CannotTell } else { verdict };
        life.find(Finding { rule: Rule::GROWS, verdict, words, cites, known: None });
    }
    if life.faulted && life.end.is_none() && life.teardown.is_none() {
        life.on(Rule::LATE).doubt(NO_TEAR_DOWN);
    }
    if !life.traced || life.end.is_none() && life.teardown.is_none() {
        return;
    }
    if let Some(taint) = life.taint.clone() {
        for rule in [Rule::NOT_TAKEN, Rule::TWICE, Rule::LEAK, Rule::MANAGED] {
            life.on(rule).doubt(taint.clone());
        }
    }
    by_hand(life);
    order(life, heard);
    unnamed(life, heard);
    if !heard.dma && life.managed_memory > 0 {
        let missing = "no dma:* event was recorded: echo 1 > events/dma/enable (Linux 6.12 and later; kprobes before)";
        for rule in [Rule::NOT_TAKEN, Rule::TWICE, Rule::DIFFERS] {
            life.on(rule).doubt(missing);
        }
    }
    if life.end.is_some() {
        leaks(life, (left, pool), nodes, heard, whole);
    }
}

fn candidates(life: &mut Life, heard: Heard, whole: bool) {
    let taint = life.taint.clone();
    for mut finding in std::mem::take(&mut life.candidates) {
        if finding.rule == Rule::BACKEND && !heard.iommu_unmap {
            life.on(Rule::BACKEND).doubt(UNNAMED);
            continue;
        }
        if finding.rule == Rule::GROUP
            && let Some(why) = unseen_gives(heard)
        {
            life.on(Rule::GROUP).doubt(format!("{}; but {why}", finding.words));
            continue;
        }
        if finding.rule == Rule::LEAK
            && let Some(why) = life.end_guessed
        {
            life.on(Rule::LEAK).doubt(format!("{}; but {why}", finding.words));
            continue;
        }
        if finding.rule == Rule::MANAGED && !heard.gives_of(Family::Coherent) {
            life.on(Rule::MANAGED).doubt(UNFREED_MANAGED);
            continue;
        }
        if let Some(taint) = &taint {
            finding.verdict = Verdict::CannotTell;
            finding.words = format!("{}; but {taint}", finding.words);
        } else if finding.verdict == Verdict::CannotTell && finding.rule == Rule::NOT_TAKEN {
            if whole {
                finding.verdict = Verdict::Violated;
            } else {
                finding.words =
                    format!("{}, as far as is recorded: the recording began in the middle of its life", finding.words);
            }
        }
        life.find(finding);
    }
}

fn by_hand(life: &mut Life) {
    for (addr, mark) in std::mem::take(&mut life.by_hand) {
        let words = format!(
            "the managed memory at {addr:#x} is freed by hand at line {}, and stays on the device's list of managed resources: its \
             release frees it again",
            mark.place.line
        );
        let verdict = if life.taint.is_some() { Verdict::CannotTell } else { Verdict::Violated };
        life.find(Finding { rule: Rule::MANAGED, verdict, words, cites: vec![mark.cite()], known: None });
    }
}

/// Takes mappings without an event of the IOMMU at either end for direct ones, where these events are recorded.
fn unnamed(life: &mut Life, heard: Heard) {
    if life.unnamed == 0 {
        return;
    }
    if heard.iommu_map && heard.iommu_unmap {
        life.on(Rule::BACKEND).proved += life.unnamed;
        life.on(Rule::BACKEND).how = Some("by the absence of the IOMMU's events at both ends");
    } else {
        life.on(Rule::BACKEND).doubt(UNNAMED);
    }
}

fn order(life: &mut Life, heard: Heard) {
    if life.guessed {
        life.pass.wrong = None;
        life.on(Rule::ORDER).doubt(
            "the addresses of managed resources are hidden (as early in a boot), and of several that look the same one was removed: \
             which is not known",
        );
        return;
    }
    let Some((later, earlier)) = life.pass.wrong.take() else {
        if life.pass.count > 1 && life.taint.is_none() {
            life.on(Rule::ORDER).proved += life.pass.count;
            if life.pass.hidden {
                life.on(Rule::ORDER).how = Some("by names and sizes, for the addresses are hidden");
            }
        }
        return;
    };
    if !heard.release_all {
        life.on(Rule::ORDER).doubt(
            "a newer resource is released after an older one, but where the release of all begins is not recorded, and a driver may \
             have released a group of its own before: add devres_release_all to set_ftrace_filter",
        );
        return;
    }
    let words = format!(
        "the managed resource added at line {} is released after an older one (line {}): the order is not newest first",
        earlier.place.line, later.place.line
    );
    let verdict = if life.taint.is_some() { Verdict::CannotTell } else { Verdict::Violated };
    life.find(Finding { rule: Rule::ORDER, verdict, words, cites: vec![earlier.cite(), later.cite()], known: None });
}

fn leaks(life: &mut Life, (left, pool): (&[Mapping], bool), nodes: &[Node], heard: Heard, whole: bool) {
    let mut left: Vec<&Mapping> = left.iter().filter(|mapping| before_end(life, mapping)).collect();
    left.sort_by_key(|mapping| mapping.mark.place);
    let end = life.end.as_ref().map(|(mark, end)| (mark.clone(), *end));
    let Some((end, how)) = end else { return };
    let when = match how {
        End::Unbound => "at the end of the unbind",
        End::ProbeFailed => "after the cleanup of the failed probe",
        End::Removed => "when the device left its group",
        End::Reprobed => "when the next probe began",
        End::FileEnded => "at the end of the file",
    };
    for mapping in left.iter().take(MOST_NAMED) {
        let age = end.age(&mapping.mark).map_or_else(String::new, |age| format!(", {} old", Span(age)));
        let mut words = format!(
            "{} of {} bytes at {:#x}, taken at line {}, was still live {when} (line {}{age})",
            mapping.family, mapping.size, mapping.addr, mapping.mark.place.line, end.place.line
        );
        let mut verdict = Verdict::Violated;
        if let Some(taint) = &life.taint {
            verdict = Verdict::CannotTell;
            words = format!("{words}; but {taint}, and its free may be among them");
        } else if let Some(why) = life.end_guessed {
            verdict = Verdict::CannotTell;
            words = format!("{words}; but {why}");
        } else if let Some(why) = unfreed(heard, mapping, &left) {
            verdict = Verdict::CannotTell;
            words = format!("{words}; but {why}");
        } else if pool && mapping.backend.is_none() && mapping.family == Family::Coherent {
            verdict = Verdict::CannotTell;
            words = format!("{words}; but {POOL}");
        }
        life.find(Finding {
            rule: Rule::LEAK,
            verdict,
            words,
            cites: vec![mapping.mark.cite(), end.cite()],
            known: None,
        });
    }
    let more = left.len().saturating_sub(MOST_NAMED) as u64;
    life.omitted += more;
    let managed: Vec<&Node> =
        nodes.iter().filter(|node| node.addr.is_none() && &*node.name == "dmam_release").collect();
    left_over(life, nodes, heard, whole, (&end, when));
    if how == End::Unbound && !managed.is_empty() && life.released > 0 && !heard.dma {
        for node in managed.iter().take(MOST_NAMED) {
            let words = format!(
                "managed memory added at line {} is not released {when} (line {})",
                node.mark.place.line, end.place.line
            );
            let verdict = if life.taint.is_some() { Verdict::CannotTell } else { Verdict::Violated };
            life.find(Finding {
                rule: Rule::LEAK,
                verdict,
                words,
                cites: vec![node.mark.cite(), end.cite()],
                known: None,
            });
        }
    } else if !heard.dma && life.taint.is_none() && life.added > 0 {
        life.on(Rule::LEAK).how = Some("by call context, managed memory only");
        life.on(Rule::LEAK).doubt(
            "of managed memory everything was released, but other mappings are not recorded: echo 1 > events/dma/enable (Linux \
             6.12 and later; kprobes before)",
        );
    }
    if !whole && life.taint.is_none() {
        life.on(Rule::LEAK).doubt(
            "the recording began in the middle of its life: what it took before is not known; start it before the probe",
        );
    } else if !heard.takes_allocations() && heard.dma && life.taint.is_none() {
        life.on(Rule::LEAK).doubt(
            "functions show allocations, and dma:* none at all, so that what it allocated is not known: echo 1 > events/dma/enable",
        );
    } else if left.is_empty() && heard.dma && life.taint.is_none() {
        life.on(Rule::LEAK).proved += life.taken;
    }
}

/// The reason why what was mapped may have been unmapped unseen.
fn unseen_gives(heard: Heard) -> Option<&'static str> {
    if !heard.gives() && !heard.maps_only() {
        Some(UNFREED)
    } else if !heard.tasks.1 && !heard.recorder {
        Some(ONE_TASK)
    } else {
        None
    }
}

/// The reason why the free of `mapping`, one of those `left`, may not be recorded.
fn unfreed(heard: Heard, mapping: &Mapping, left: &[&Mapping]) -> Option<&'static str> {
    let streams = matches!(mapping.family, Family::Single | Family::Sg | Family::Resource);
    let same = left.iter().filter(|other| other.family == mapping.family).count() as u64;
    // The IOMMU's own events are a second source of a few mappings; that of many none is given back says that gives are not recorded.
    let twice = heard.maps_only() && (left.len() as u64) < MANY;
    if !heard.gives() && !twice {
        Some(UNFREED)
    } else if !heard.gives_of(mapping.family) && same >= MANY {
        Some(UNFREED_KIND)
    } else if streams && !heard.tasks.1 && !heard.recorder {
        Some(ONE_TASK)
    } else {
        None
    }
}

/// Managed resources that stay although the release of all of them was recorded.
fn left_over(life: &mut Life, nodes: &[Node], heard: Heard, whole: bool, (end, when): (&Mark, &str)) {
    if !whole || !heard.release_all || life.pass.count == 0 || life.pass.hidden || life.taint.is_some() {
        return;
    }
    let stays = |node: &&Node| {
        let memory = &*node.name == "dmam_release" && !heard.dma;
        !memory && !node.name.starts_with("grp") && node.mark.place < end.place
    };
    for node in nodes.iter().filter(stays).take(MOST_NAMED) {
        let words = format!(
            "the managed resource {} added at line {} is not released {when} (line {})",
            node.name, node.mark.place.line, end.place.line
        );
        let cites = vec![node.mark.cite(), end.cite()];
        life.find(Finding { rule: Rule::LEAK, verdict: Verdict::Violated, words, cites, known: None });
    }
}

/// True for what was taken before the life's end: what comes later is DMA after the tear-down.
fn before_end(life: &Life, mapping: &Mapping) -> bool {
    life.end.as_ref().is_none_or(|(end, _)| mapping.mark.place <= end.place)
}
