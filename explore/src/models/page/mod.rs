//! `docs/teardown-models.md`: the page that the runs write.

mod answers;
mod tables;

use std::fmt::Write;

use super::{Model, Options, engine, known, scenario};
use crate::engine::{Finding, Report};

/// The command that writes the page.
pub const COMMAND: &str = "cargo run -p bindery-explore --bin teardown-models -- --update";

/// Explores every model, and writes the page. The same text each time.
pub fn render() -> String {
    let runs: Vec<Run> = Model::ALL.iter().map(|&model| Run::new(model, &Options::default())).collect();
    let mut page = String::new();
    page.push_str(&opening());
    page.push_str(&tables::findings(&runs));
    page.push_str(&tables::unbind());
    page.push_str(&tables::failure());
    page.push_str(&answers::unbind_crash(&runs));
    page.push_str(&answers::probe_failure_crash(&runs));
    page.push_str(&answers::bisection());
    page.push_str(&answers::arm32(&runs));
    page.push_str(&answers::windows(&runs));
    page.push_str(&tables::figures(&runs));
    page.push_str(&answers::limits(&runs));
    page
}

/// One model, explored.
struct Run {
    model: Model,
    report: Report,
}

impl Run {
    fn new(model: Model, options: &Options) -> Self {
        // One thread: the path that stands for a finding is then the same each time.
        Self { model, report: engine(model, options).threads(1).run(scenario(model, options)) }
    }

    /// The finding of this name with the shortest path.
    fn named(&self, name: &str) -> Option<&Finding> {
        let all = self.report.findings.iter().filter(|f| known(f).is_some_and(|known| known.name == name));
        // A crash or a hang says more than the leak or the window that leads to it.
        all.min_by_key(|f| {
            (!f.kind.starts_with("crash") && !f.kind.starts_with("hang"), f.path.non_default(), f.path.choices().len())
        })
    }
}

/// The run of `model`.
fn of(runs: &[Run], model: Model) -> Option<&Run> {
    runs.iter().find(|run| run.model == model)
}

/// The trace of `finding`, as a block.
fn trace(model: Model, finding: &Finding) -> String {
    let mut block = format!("```text\n{model} --replay {}\n", finding.path);
    for line in &finding.story {
        writeln!(block, "{line}").unwrap_or_default();
    }
    block + "```\n\n"
}

fn opening() -> String {
    format!(
        "# In which order does Linux tear a binding down?\n\n\
         This page is written by a run: `{COMMAND}`. A test fails when it is not what the run writes.\n\n\
         Each model below has the steps of one release, as a table, around one disk controller behind an \
         IOMMU (`explore/src/models/`). It contains no kernel code. The explorer executes every path within its bounds: a fault at \
         each fallible call, deferrals, an unbind of the IOMMU's driver, a write to the group's `type`, a claim of the \
         group for a guest, a second writer to `unbind`, each between any two steps. It checks the promises P1 to P13 of \
         ARCHITECTURE.md. No model knows which bug it has; names are given afterwards, by what \
         happened, when, and after which step. `unbind-crash` is the report that this project grew from: an unbind of the disk \
         controller of an R-Car H3 board, to pass it to a guest, crashed the kernel (376991db4b64).\n\n"
    )
}
