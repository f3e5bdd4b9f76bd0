//! The auditor as a second judge: what it sees of a bug in the trace of a path.

use std::collections::BTreeSet;
use std::io::Cursor;

use bindery::mutant::Mutant;
use bindery_audit::model::Verdict;
use bindery_audit::report::Report;
use bindery_audit::{Auditor, Options};
use bindery_explore::engine::Engine;
use bindery_explore::{Life, Path};

/// Every n-th question of each life gets another answer, where the bug's own path shows the auditor nothing.
const EVERY: usize = 5;

/// Bugs that no trace can show, and why.
const UNSEEN: &[(Mutant, &str)] = &[
    (Mutant::ClaimNotExclusive, "no event tells of a group's claim"),
    (Mutant::NotBoundBeforeDevres, "notifiers leave no event"),
    (Mutant::EndNotTold, "notifiers leave no event"),
    (Mutant::UnlockedDriverCheck, "a lock that was not taken leaves no event"),
    (Mutant::SupplierFirst, "no event links a consumer to its supplier"),
    (Mutant::DriverRemovalKeepsDevices, "no event tells of a driver's removal, and what stays bound leaks nothing"),
    (Mutant::FreedBeforeInvalidation, "no event tells when a cached translation goes"),
    (Mutant::TimeoutIgnored, "the trace has no kernel log; there it is R16"),
    (Mutant::IovaReusedBeforeFlush, "no event tells when a cached translation goes"),
    (Mutant::AddressesExchanged, "faults where nothing was mapped are told as facts"),
    (Mutant::MissedSync, "no event records a CPU's read"),
    (Mutant::DirtyMemory, "no event tells what is in memory"),
    (Mutant::StopFailureIgnored, "no event tells whether a device stopped; its accesses would be R10"),
    (Mutant::DataAfterDevres, "no event tells of driver data"),
    (Mutant::HandlerAfterData, "no event tells of driver data"),
    (Mutant::HandleAfterDevres, "no event tells of register accesses"),
    (Mutant::LineLeftOn, "no event tells of an interrupt controller's lines"),
    (Mutant::LinksLeftOnEarlyExit, "links between devices leave no event"),
    (
        Mutant::UntranslatedFallback,
        "a device that joined no group is not known to be behind an IOMMU; at its next probe it would be R12",
    ),
    (Mutant::ForgottenHandleKeepsLine, "what is on no list of managed resources leaves no event"),
    (Mutant::SupplyLeaked, "what is on no list of managed resources leaves no event"),
    (Mutant::OwnershipLeaked, "no event tells of a group's claim"),
    (Mutant::ControlEntryLeft, "entries of sysfs leave no event"),
    (Mutant::LedgerGrows, "R7 wants three bindings, and a path has fewer"),
    (Mutant::WakeUpLost, "no event tells of the queue of deferred probes"),
    (Mutant::WakeUpLostInProbe, "no event tells of the queue of deferred probes"),
];

/// What the auditor sees of `mutant`: the rules that it finds violated on the path that the explorer found, or else on the
/// first of other paths. Where it sees nothing, the reason; an error where there is none.
pub(crate) fn seen(mutant: Mutant, life: &Life, path: Option<&Path>) -> Result<String, String> {
    let engine = life.engine();
    let reason = UNSEEN.iter().find(|(known, _)| *known == mutant).map(|(_, why)| *why);
    let found = find(life, &engine, path)?;
    match (found, reason) {
        (Some(rules), _) => Ok(rules),
        (None, Some(why)) => Ok(format!("no: {why}")),
        (None, None) => Err(format!("the auditor does not see {}, and nothing says why", mutant.name())),
    }
}

fn find(life: &Life, engine: &Engine, path: Option<&Path>) -> Result<Option<String>, String> {
    let audited = |path: &Path| -> Result<Option<String>, String> {
        let replay = life.replay(engine, path).map_err(|e| e.to_string())?;
        let rules = violated(&audit(&replay.ftrace())?);
        Ok((!rules.is_empty()).then(|| rules.into_iter().collect::<Vec<_>>().join(", ")))
    };
    if let Some(path) = path
        && let Some(rules) = audited(path)?
    {
        return Ok(Some(rules));
    }
    for path in life.samples(engine, EVERY).map_err(|e| e.to_string())? {
        if let Some(rules) = audited(&path)? {
            return Ok(Some(format!("{rules} on `{path}`")));
        }
    }
    Ok(None)
}

fn audit(text: &str) -> Result<Report, String> {
    let mut auditor = Auditor::new(Options::default());
    auditor.read("path", Cursor::new(text.as_bytes()), &mut |_| ()).map_err(|e| e.to_string())?;
    Ok(auditor.finish())
}

fn violated(report: &Report) -> BTreeSet<String> {
    let findings = report.devices.iter().flat_map(|device| &device.lives).flat_map(|life| &life.findings);
    let violated = findings.chain(&report.loose).filter(|finding| finding.verdict == Verdict::Violated);
    violated.map(|finding| finding.rule.to_string()).collect()
}
