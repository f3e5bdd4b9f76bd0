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
/// Reason why nothing is known of frees.
const UNFREED: &str = "functions or events of the IOMMU show frees, and dma:* none at all: enable all of events/dma";

/// Judges `life`, which left mappings and `nodes` unreleased. Of those `left` coherent memory may be of a `pool` of the device's own.
pub(super) fn judge(life: &mut Life, (left, pool): (&[Mapping], bool), nodes: &[Node], heard: Heard, epoch: u32) {
    // Everything that was released had been seen to be added: nothing is older than the recording.
    let whole = life.probe_seen || !life.before && life.added > 0 && life.pass.unknown == 0;
    if heard.missed {
        life.taint.get_or_insert_with(|| "events were lost, and the recorder's comments do not say where".to_owned());
    }
    if heard.unprinted {
        life.taint.get_or_insert_with(|| "some events could not be parsed by trace-cmd".to_owned());
    }
    candidates(life, heard, whole);
    if let Some((words, cites)) = std::mem::take(&mut life.bursts).finding() {
        let verdict = if life.taint.is_some() { Verdict::CannotTell } else { Verdict::Violated };
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
    order(life);
    unnamed(life, heard);
    if !heard.dma && life.managed_memory > 0 {
        let missing = "no dma:* event was recorded: echo 1 > events/dma/enable (Linux 6.12 and later; kprobes before)";
        for rule in [Rule::NOT_TAKEN, Rule::TWICE, Rule::DIFFERS] {
            life.on(rule).doubt(missing);
        }
    }
    if life.end.is_some() {
        leaks(life, (left, pool), nodes, heard, whole, epoch);
    }
}

fn candidates(life: &mut Life, heard: Heard, whole: bool) {
    let taint = life.taint.clone();
    for mut finding in std::mem::take(&mut life.candidates) {
        if finding.rule == Rule::BACKEND && !heard.iommu_unmap {
            life.on(Rule::BACKEND).doubt(UNNAMED);
            continue;
        }
        if let Some(taint) = &taint {
            finding.verdict = Verdict::CannotTell;
            finding.words = format!("{}; but {taint}", finding.words);
        } else if finding.verdict == Verdict::CannotTell {
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

fn order(life: &mut Life) {
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
    let words = format!(
        "the managed resource added at line {} is released after an older one (line {}): the order is not newest first",
        earlier.place.line, later.place.line
    );
    let verdict = if life.taint.is_some() { Verdict::CannotTell } else { Verdict::Violated };
    life.find(Finding { rule: Rule::ORDER, verdict, words, cites: vec![earlier.cite(), later.cite()], known: None });
}

fn leaks(life: &mut Life, (left, pool): (&[Mapping], bool), nodes: &[Node], heard: Heard, whole: bool, epoch: u32) {
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
        } else if mapping.epoch != epoch {
            verdict = Verdict::CannotTell;
            words = format!("{words}; but events were lost since");
        } else if !heard.gave && (heard.frees || heard.iommu_unmap) {
            verdict = Verdict::CannotTell;
            words = format!("{words}; but {UNFREED}");
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
    } else if left.is_empty() && heard.dma && life.taint.is_none() {
        life.on(Rule::LEAK).proved += life.taken;
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
