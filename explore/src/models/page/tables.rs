//! The tables of the page.

use super::super::known::BUGS;
use super::super::procedure::Procedure;
use super::super::step::TearDown;
use super::{Model, Run};

/// Models that have a column in the tables of steps: the others have the steps of one of these.
const STEPS: &[Model] = &[Model::Linux50Rc5, Model::Linux50, Model::Linux51, Model::Linux612, Model::Bindery];

/// A table: the headings of its columns, and its rows.
fn table<'c>(headings: impl IntoIterator<Item = &'c str>, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let headings: Vec<String> = headings.into_iter().map(str::to_owned).collect();
    let body: String = rows.into_iter().map(|row| line(&row)).collect();
    format!("{}|{}\n{body}", line(&headings), "---|".repeat(headings.len()))
}

/// Known bugs by model, with their descriptions.
pub(super) fn findings(runs: &[Run]) -> String {
    let found = |name: &str| runs.iter().find_map(|run| run.named(name));
    let columns: Vec<_> = BUGS.iter().filter_map(|bug| Some((bug, found(bug.name)?))).collect();
    let names: Vec<&str> = columns.iter().map(|(bug, _)| bug.name).collect();
    let by_model = table(
        ["model"].into_iter().chain(names.iter().copied()),
        runs.iter().map(|run| {
            let cell = |name: &&str| run.named(name).map_or("-".into(), |f| f.path.non_default().to_string());
            [format!("`{}`", run.model)].into_iter().chain(names.iter().map(cell)).collect()
        }),
    );
    let bugs = table(
        ["name", "promise", "what", "fixed by"],
        columns.iter().map(|(bug, finding)| {
            let fixed_by = if bug.fixed_by.is_empty() { "open in 6.12" } else { bug.fixed_by };
            [bug.name, &finding.promise, bug.title, fixed_by].map(String::from).into()
        }),
    );
    let titles: Vec<_> = Model::ALL.iter().map(|model| format!("- `{model}`: {}.\n", model.title())).collect();
    [by_model, bugs, titles.concat()].join("\n")
}

/// Inversions of each order.
pub(super) fn inversions() -> String {
    let line = |model: &Model| {
        let procedure = model.procedure();
        let pairs = procedure.inversions(&procedure.unbind).into_iter();
        let pairs: Vec<_> = pairs.map(|(early, late)| format!("`{}` before `{}`", early.call(), late.call())).collect();
        format!("- `{model}`: {}.\n", if pairs.is_empty() { "nothing".into() } else { pairs.join("; ") })
    };
    STEPS.iter().map(line).collect()
}

/// The position of each step in the list of each model.
pub(super) fn steps(list: impl Fn(&Procedure) -> Vec<TearDown>) -> String {
    let names: Vec<String> = STEPS.iter().map(|model| format!("`{model}`")).collect();
    let lists: Vec<_> = STEPS.iter().map(|model| list(&model.procedure())).collect();
    let taken = TearDown::ALL.iter().filter(|step| lists.iter().any(|list| list.contains(step)));
    let rows = taken.map(|step| {
        let place = |list: &Vec<TearDown>| list.iter().position(|known| known == step);
        let cell = |list| place(list).map_or_else(String::new, |at| (at + 1).to_string());
        [format!("`{}`: {}", step.call(), step.text())].into_iter().chain(lists.iter().map(cell)).collect()
    });
    table(["step"].into_iter().chain(names.iter().map(String::as_str)), rows)
}

/// The size of each exploration.
pub(super) fn figures(runs: &[Run]) -> String {
    let rows = runs.iter().map(|Run { model, report }| {
        let mut checks: Vec<&str> = report.checks.keys().map(String::as_str).collect();
        checks.sort_by_key(|id| (id.len(), *id));
        let [paths, states, longest] = [report.paths, report.states, report.longest_path].map(|n| n.to_string());
        vec![format!("`{model}`"), paths, states, longest, checks.join(", ")]
    });
    table(["model", "paths", "states", "most choice points on a path", "promises checked"], rows)
}
