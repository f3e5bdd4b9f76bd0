//! The tables of the page.

use std::fmt::Write;

use super::super::step::TearDown;
use super::super::table::Procedure;
use super::super::{Model, SetUp, known};
use super::Run;

/// Known bugs that have a column, in this order.
const COLUMNS: &[&str] = &[
    "unbind-crash",
    "probe-failure-crash",
    "arm32-leak",
    "swallowed",
    "BUG_ON",
    "group-window",
    "group-type",
    "group-claim",
    "links-probe",
    "links-unbind",
    "power",
    "early-event",
    "stuck-link",
    "unlocked-unbind",
];

/// Models that have a column in the tables of steps: the others have the steps of one of these.
const STEPS: &[Model] = &[Model::Linux50Rc5, Model::Linux50, Model::Linux51, Model::Linux612, Model::Bindery];

/// Steps in the order of the rows.
const ROWS: &[TearDown] = &[
    TearDown::NotifyUnbind,
    TearDown::RemoveGroups,
    TearDown::Remove,
    TearDown::PmDetach,
    TearDown::SysfsRemove,
    TearDown::NotifyNotBound,
    TearDown::DevresGroup,
    TearDown::Devres,
    TearDown::Teardown,
    TearDown::ClearDriver,
    TearDown::ClearData,
    TearDown::Dismiss,
    TearDown::ReleaseLinks,
    TearDown::NotifyUnbound,
];

fn heading(out: &mut String, first: &str, columns: &[&str]) {
    writeln!(out, "| {first} | {} |", columns.join(" | ")).unwrap_or_default();
    writeln!(out, "|---|{}", "---|".repeat(columns.len())).unwrap_or_default();
}

/// What is found in which model.
pub(super) fn findings(runs: &[Run]) -> String {
    let mut out = String::from(
        "## What is found\n\nA number is how many faults, preemptions and unusual drivers the shortest path needs: 0 is a plain bind \
         and unbind. A dash: no path within the bounds leads there; a path ends where it first crashes, so a model that crashes early \
         hides what would follow.\n\n",
    );
    heading(&mut out, "model", COLUMNS);
    for run in runs {
        let cell = |name: &&str| match run.named(name) {
            Some(finding) => finding.path.non_default().to_string(),
            None => "-".to_owned(),
        };
        let cells: Vec<String> = COLUMNS.iter().map(cell).collect();
        writeln!(out, "| `{}` | {} |", run.model, cells.join(" | ")).unwrap_or_default();
    }
    out.push_str("\n| name | promise | what | fixed by |\n|---|---|---|---|\n");
    for name in COLUMNS {
        let Some(finding) = runs.iter().find_map(|run| run.named(name)) else { continue };
        let Some(known) = known(finding) else { continue };
        let fixed_by = if known.fixed_by.is_empty() { "open in 6.12" } else { known.fixed_by };
        writeln!(out, "| {name} | {} | {} | {fixed_by} |", finding.promise, known.title).unwrap_or_default();
    }
    out.push('\n');
    for model in Model::ALL {
        writeln!(out, "- `{model}`: {}.", model.title()).unwrap_or_default();
    }
    out + "\n"
}

/// The tear-down of a bound device.
pub(super) fn unbind() -> String {
    let mut out = String::from("## Tear-down of a bound device\n\nThe position of each step, from 1.\n\n");
    out.push_str(&steps(|procedure| procedure.unbind));
    out.push_str("Inversions: links, power, group or translation taken away before what depends on them.\n\n");
    for model in STEPS {
        let procedure = model.procedure();
        let pairs: Vec<String> = procedure
            .inversions(procedure.unbind)
            .iter()
            .map(|(early, late)| format!("`{}` before `{}`", early.call(), late.call()))
            .collect();
        let pairs = if pairs.is_empty() { "nothing".to_owned() } else { pairs.join("; ") };
        writeln!(out, "- `{model}`: {pairs}.").unwrap_or_default();
    }
    out + "\n"
}

/// The tear-down of a failed probe.
pub(super) fn failure() -> String {
    let mut out = String::from("## Tear-down when the driver's probe fails\n\n");
    out.push_str(&steps(|procedure| procedure.exit(SetUp::Probe)));
    out
}

fn steps(list: impl Fn(&Procedure) -> &'static [TearDown]) -> String {
    let mut out = String::new();
    let names: Vec<String> = STEPS.iter().map(|model| format!("`{model}`")).collect();
    heading(&mut out, "step", &names.iter().map(String::as_str).collect::<Vec<_>>());
    for row in ROWS {
        let place = |model: &Model| list(&model.procedure()).iter().position(|step| step == row);
        if STEPS.iter().any(|model| place(model).is_some()) {
            let cell = |model| place(model).map_or_else(String::new, |at| (at + 1).to_string());
            let cells: Vec<String> = STEPS.iter().map(cell).collect();
            writeln!(out, "| `{}`: {} | {} |", row.call(), row.text(), cells.join(" | ")).unwrap_or_default();
        }
    }
    out + "\n"
}

/// How much was explored.
pub(super) fn figures(runs: &[Run]) -> String {
    let mut out = String::from(
        "## How much was explored\n\nAll of it, within one fault and one preemption on a path; a path that comes into a \
         state already explored ends there.\n\n",
    );
    heading(&mut out, "model", &["paths", "states", "most choice points on a path", "promises checked"]);
    for run in runs {
        let report = &run.report;
        let mut checks: Vec<(u8, &str)> =
            report.checks.keys().map(|id| (id.trim_start_matches('P').parse().unwrap_or(0), id.as_str())).collect();
        checks.sort_unstable();
        let checks: Vec<&str> = checks.into_iter().map(|(_, id)| id).collect();
        let (paths, states, longest_path) = (report.paths, report.states, report.longest_path);
        writeln!(out, "| `{}` | {paths} | {states} | {longest_path} | {} |", run.model, checks.join(", "))
            .unwrap_or_default();
    }
    out + "\n"
}
