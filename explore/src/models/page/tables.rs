//! The tables of the page.

use std::fmt::Write;

use super::super::known::BUGS;
use super::super::procedure::Procedure;
use super::super::step::TearDown;
use super::{Model, Run};

/// Models that have a column in the tables of steps: the others have the steps of one of these.
const STEPS: &[Model] = &[Model::Linux50Rc5, Model::Linux50, Model::Linux51, Model::Linux612, Model::Bindery];

fn row(out: &mut String, first: &str, cells: impl IntoIterator<Item = impl AsRef<str>>) {
    write!(out, "| {first} |").unwrap_or_default();
    for cell in cells {
        write!(out, " {} |", cell.as_ref()).unwrap_or_default();
    }
    out.push('\n');
}

fn heading(out: &mut String, first: &str, columns: &[&str]) {
    row(out, first, columns);
    writeln!(out, "|---|{}", "---|".repeat(columns.len())).unwrap_or_default();
}

/// Known bugs by model, with their descriptions.
pub(super) fn findings(runs: &[Run]) -> String {
    let found = |name: &str| runs.iter().find_map(|run| run.named(name));
    let columns: Vec<_> = BUGS.iter().filter_map(|bug| Some((bug, found(bug.name)?))).collect();
    let names: Vec<&str> = columns.iter().map(|(bug, _)| bug.name).collect();
    let mut out = String::new();
    heading(&mut out, "model", &names);
    for run in runs {
        let cell = |name: &&str| run.named(name).map_or("-".into(), |f| f.path.non_default().to_string());
        row(&mut out, &format!("`{}`", run.model), names.iter().map(cell));
    }
    out.push('\n');
    heading(&mut out, "name", &["promise", "what", "fixed by"]);
    for (bug, finding) in &columns {
        let fixed_by = if bug.fixed_by.is_empty() { "open in 6.12" } else { bug.fixed_by };
        row(&mut out, bug.name, [finding.promise.as_str(), bug.title, fixed_by]);
    }
    out.push('\n');
    for model in Model::ALL {
        writeln!(out, "- `{model}`: {}.", model.title()).unwrap_or_default();
    }
    out
}

/// Inversions of each order.
pub(super) fn inversions() -> String {
    let mut out = String::new();
    for model in STEPS {
        let procedure = model.procedure();
        let pairs = procedure.inversions(&procedure.unbind);
        let text = pairs.iter().map(|(early, late)| format!("`{}` before `{}`", early.call(), late.call()));
        let text = if pairs.is_empty() { "nothing".into() } else { text.collect::<Vec<_>>().join("; ") };
        writeln!(out, "- `{model}`: {text}.").unwrap_or_default();
    }
    out
}

/// The position of each step in the list of each model.
pub(super) fn steps(list: impl Fn(&Procedure) -> Vec<TearDown>) -> String {
    let mut out = String::new();
    let names: Vec<String> = STEPS.iter().map(|model| format!("`{model}`")).collect();
    heading(&mut out, "step", &names.iter().map(String::as_str).collect::<Vec<_>>());
    let lists: Vec<_> = STEPS.iter().map(|model| list(&model.procedure())).collect();
    for step in TearDown::ALL.iter().filter(|step| lists.iter().any(|list| list.contains(step))) {
        let place = |list: &Vec<TearDown>| list.iter().position(|known| known == step);
        let cell = |list| place(list).map_or_else(String::new, |at| (at + 1).to_string());
        row(&mut out, &format!("`{}`: {}", step.call(), step.text()), lists.iter().map(cell));
    }
    out
}

/// The size of each exploration.
pub(super) fn figures(runs: &[Run]) -> String {
    let mut out = String::new();
    heading(&mut out, "model", &["paths", "states", "most choice points on a path", "promises checked"]);
    for Run { model, report } in runs {
        let mut checks: Vec<&str> = report.checks.keys().map(String::as_str).collect();
        checks.sort_by_key(|id| (id.len(), *id));
        let numbers = [report.paths, report.states, report.longest_path].map(|number| number.to_string());
        row(&mut out, &format!("`{model}`"), numbers.into_iter().chain([checks.join(", ")]));
    }
    out
}
