//! The tables of the page.

use std::fmt::Write;

use super::super::step::Down;
use super::super::table::Procedure;
use super::super::{Order, Up, known};
use super::Run;

/// Names that have a column, in this order.
const COLUMNS: &[&str] =
    &["seed", "twin", "arm32", "swallowed", "BUG_ON", "window", "W1", "W2", "W3", "W3, unbind", "W4", "W5", "W6", "W7"];

/// Orders that have a column in the tables of steps: the others have the steps of one of these.
const STEPS: &[Order] = &[Order::Linux50Rc5, Order::Linux50, Order::Linux51, Order::Linux612, Order::Bindery];

/// Steps in the order of the rows.
const ROWS: &[Down] = &[
    Down::NotifyUnbind,
    Down::RemoveGroups,
    Down::Remove,
    Down::PmDetach,
    Down::SysfsRemove,
    Down::NotifyNotBound,
    Down::ReleaseGroup,
    Down::Devres,
    Down::Teardown,
    Down::ClearDriver,
    Down::ClearData,
    Down::Dismiss,
    Down::ReleaseLinks,
    Down::NotifyUnbound,
];

fn heading(out: &mut String, first: &str, columns: &[&str]) {
    writeln!(out, "| {first} | {} |", columns.join(" | ")).unwrap_or_default();
    writeln!(out, "|---|{}", "---|".repeat(columns.len())).unwrap_or_default();
}

/// What is found in which order.
pub(super) fn findings(runs: &[Run]) -> String {
    let mut out = String::from(
        "## What is found\n\nA number is how many faults, interruptions and odd drivers the shortest path needs: 0 is a plain bind and \
         unbind. A dash: no path within the bounds leads there; a path ends where it first crashes, so an order that crashes early \
         hides what would follow.\n\n",
    );
    heading(&mut out, "order", COLUMNS);
    for run in runs {
        let cell = |name: &&str| match run.named(name) {
            Some(finding) => finding.path.deviations().to_string(),
            None => "-".to_owned(),
        };
        let cells: Vec<String> = COLUMNS.iter().map(cell).collect();
        writeln!(out, "| `{}` | {} |", run.order, cells.join(" | ")).unwrap_or_default();
    }
    out.push_str("\n| name | promise | what | mended by |\n|---|---|---|---|\n");
    for name in COLUMNS {
        let Some(finding) = runs.iter().find_map(|run| run.named(name)) else { continue };
        let Some(known) = known(finding) else { continue };
        let mended = if known.mended.is_empty() { "open in 6.12" } else { known.mended };
        writeln!(out, "| {name} | {} | {} | {mended} |", finding.promise, known.title).unwrap_or_default();
    }
    out.push('\n');
    for order in Order::ALL {
        writeln!(out, "- `{order}`: {}.", order.title()).unwrap_or_default();
    }
    out + "\n"
}

/// The way back of a bound device.
pub(super) fn unbind() -> String {
    let mut out = String::from("## The way back of a bound device\n\nThe place of each step, from 1.\n\n");
    out.push_str(&steps(|procedure| procedure.unbind));
    out.push_str("Out of line: links, power, group or translation taken away before what stood on them.\n\n");
    for order in STEPS {
        let procedure = order.procedure();
        let pairs: Vec<String> = procedure
            .inversions(procedure.unbind)
            .iter()
            .map(|(early, late)| format!("`{}` before `{}`", early.call(), late.call()))
            .collect();
        let pairs = if pairs.is_empty() { "nothing".to_owned() } else { pairs.join("; ") };
        writeln!(out, "- `{order}`: {pairs}.").unwrap_or_default();
    }
    out + "\n"
}

/// The way back of a failed probe.
pub(super) fn failure() -> String {
    let mut out = String::from("## The way back when the driver's probe fails\n\n");
    out.push_str(&steps(|procedure| procedure.exit(Up::Probe)));
    out
}

fn steps(list: impl Fn(&Procedure) -> &'static [Down]) -> String {
    let mut out = String::new();
    let names: Vec<String> = STEPS.iter().map(|order| format!("`{order}`")).collect();
    heading(&mut out, "step", &names.iter().map(String::as_str).collect::<Vec<_>>());
    for row in ROWS {
        let place = |order: &Order| list(&order.procedure()).iter().position(|step| step == row);
        if STEPS.iter().any(|order| place(order).is_some()) {
            let cell = |order| place(order).map_or_else(String::new, |at| (at + 1).to_string());
            let cells: Vec<String> = STEPS.iter().map(cell).collect();
            writeln!(out, "| `{}`: {} | {} |", row.call(), row.text(), cells.join(" | ")).unwrap_or_default();
        }
    }
    out + "\n"
}

/// How much was walked.
pub(super) fn figures(runs: &[Run]) -> String {
    let mut out = String::from(
        "## How much was walked\n\nAll of it, within one fault and one interruption on a path; a path that comes into a \
         state already walked from ends there.\n\n",
    );
    heading(&mut out, "order", &["paths", "states", "most questions on a path", "promises checked"]);
    for run in runs {
        let report = &run.report;
        let mut checks: Vec<(u8, &str)> =
            report.checks.keys().map(|id| (id.trim_start_matches('P').parse().unwrap_or(0), id.as_str())).collect();
        checks.sort_unstable();
        let checks: Vec<&str> = checks.into_iter().map(|(_, id)| id).collect();
        let (paths, states, longest) = (report.paths, report.states, report.longest);
        writeln!(out, "| `{}` | {paths} | {states} | {longest} | {} |", run.order, checks.join(", "))
            .unwrap_or_default();
    }
    out + "\n"
}
