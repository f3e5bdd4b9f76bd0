//! `docs/teardown-orders.md`: the page that the runs write.

mod answers;
mod tables;

use std::fmt::Write;

use super::{Options, Order, engine, known, scenario};
use crate::engine::{Finding, Report};

/// The command that writes the page.
pub const COMMAND: &str = "cargo run -p bindery-explore --bin teardown-orders -- --update";

/// Runs every order, and writes the page. The same text each time.
pub fn render() -> String {
    let runs: Vec<Run> = Order::ALL.iter().map(|&order| Run::new(order, &Options::default())).collect();
    let mut page = String::new();
    page.push_str(&opening());
    page.push_str(&tables::findings(&runs));
    page.push_str(&tables::unbind());
    page.push_str(&tables::failure());
    page.push_str(&answers::seed(&runs));
    page.push_str(&answers::twin(&runs));
    page.push_str(&answers::bisection());
    page.push_str(&answers::arm32(&runs));
    page.push_str(&answers::windows(&runs));
    page.push_str(&tables::figures(&runs));
    page.push_str(&answers::limits(&runs));
    page
}

/// One order, walked.
struct Run {
    order: Order,
    report: Report,
}

impl Run {
    fn new(order: Order, options: &Options) -> Self {
        // One thread: the path that stands for a finding is then the same each time.
        Self { order, report: engine(order, options).threads(1).run(scenario(order, options)) }
    }

    /// The finding of this name with the shortest path.
    fn named(&self, name: &str) -> Option<&Finding> {
        let all = self.report.findings.iter().filter(|f| known(f).is_some_and(|known| known.name == name));
        // A crash or a hang tells more than the leak or the window that leads to it.
        all.min_by_key(|f| {
            (!f.kind.starts_with("crash") && !f.kind.starts_with("hang"), f.path.deviations(), f.path.answers().len())
        })
    }
}

/// The run of `order`.
fn of(runs: &[Run], order: Order) -> Option<&Run> {
    runs.iter().find(|run| run.order == order)
}

/// The story of `finding`, as a block.
fn story(order: Order, finding: &Finding) -> String {
    let mut block = format!("```text\n{order} --replay {}\n", finding.path);
    for line in &finding.story {
        writeln!(block, "{line}").unwrap_or_default();
    }
    block + "```\n\n"
}

fn opening() -> String {
    format!(
        "# In which order does Linux take a binding back?\n\n\
         This page is written by a run: `{COMMAND}`. A test fails when it is not what the run writes.\n\n\
         Each order below is a small model: the steps of one release, as a table, around one disk controller behind an \
         IOMMU (`explore/src/orders/`). No kernel code is in it. The explorer walks every life within its bounds: a fault at \
         each fallible call, deferrals, an unbind of the IOMMU's driver, a write to the group's `type`, a claim of the \
         group for a guest, a second writer to `unbind`, each between any two steps. It checks the promises P1 to P13 of \
         ARCHITECTURE.md. No model knows which bug it has; names are given afterwards, by what \
         happened, when, and after which step. The *seed* is the report that this project grew from: an unbind of the disk \
         controller of an R-Car H3 board, to give it to a guest, crashed the kernel (376991db4b64).\n\n"
    )
}
