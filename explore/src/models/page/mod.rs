//! `docs/teardown-models.md`: a page whose tables, traces and verdicts are filled in by explorations.

mod tables;

use std::fmt::Write;

use bindery::promise::Promise;

use super::{Boot, DriverVariant, Model, Options, engine, known, scenario};
use crate::engine::{Finding, Report};

/// The command that writes the page.
pub const COMMAND: &str = "cargo run -p bindery-explore --bin teardown-models -- --update";

/// The page, with `{{placeholders}}`.
const TEMPLATE: &str = include_str!("teardown-models.md");

/// Explores every model, and writes the page. The same text each time.
///
/// # Panics
///
/// When the template has a placeholder without a value; a test renders all of it.
pub fn render() -> String {
    let runs: Vec<Run> = Model::ALL.iter().map(|&model| Run::new(model, &Options::default())).collect();
    let mut parts = TEMPLATE.split("{{");
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (placeholder, text) = part.split_once("}}").expect("each `{{` has its `}}`");
        let words: Vec<&str> = placeholder.split(' ').collect();
        page.push_str(value(&runs, &words).trim_end());
        page.push_str(text);
    }
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

    /// Runs of this variant of the driver only, without faults and preemptions.
    fn of_variant(model: Model, variant: DriverVariant) -> Self {
        Self::new(model, &Options { variants: vec![variant], faults: 0, preemptions: 0, ..Options::default() })
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

/// The text for the placeholder of these `words`.
fn value(runs: &[Run], words: &[&str]) -> String {
    let run = |name: &str| runs.iter().find(|run| run.model.name() == name).expect("each model has a run");
    match *words {
        ["command"] => COMMAND.into(),
        ["findings"] => tables::findings(runs),
        ["steps", "unbind"] => tables::steps(|procedure| procedure.unbind.to_vec()),
        ["steps", "probe-failure"] => tables::steps(|procedure| procedure.exit(super::SetUp::Probe).collect()),
        ["inversions"] => tables::inversions(),
        ["figures"] => tables::figures(runs),
        ["trace", model, name] => trace(run(model), name),
        ["finding", model, "own-detach"] => {
            finding(&Run::of_variant(run(model).model, DriverVariant::DetachesItself), "own-detach")
        }
        ["finding", model, name] => finding(run(model), name),
        ["test-remove", what] => test_remove(what),
        ["swallowed", boot, faults] => {
            let boot = if boot == "first" { Boot::IommuFirst } else { Boot::IommuLater };
            let faults = u32::from(faults != "0");
            let run = Run::new(Model::Linux50Rc5Swallowed, &Options { faults, boot, ..Options::default() });
            run.named("unbind-crash").map_or("no crash", |_| "the crash").into()
        }
        ["arm32", model] => match run(model).named("arm32-leak") {
            Some(_) => "a warning, and pages that are never freed; no crash".into(),
            None => "everything goes back to the back-end that allocated it".into(),
        },
        ["forgotten", model] => {
            let run = Run::of_variant(run(model).model, DriverVariant::ForgottenMapping);
            let stays = run.report.findings.iter().any(|f| f.kind.contains("translation is left"));
            if stays { "stays for ever" } else { "goes" }.into()
        }
        ["claims", model] => {
            let refused = run(model).report.coverage.get("a claim of the group is refused");
            match (run(model).named("group-claim"), refused) {
                (None, Some(times)) => format!("refused ({times} claims refused in all)"),
                _ => "granted".into(),
            }
        }
        ["unchecked"] => {
            let checked = |id: &str| runs.iter().any(|run| run.report.checks.contains_key(id));
            let ids = Promise::ALL.map(Promise::id).into_iter().take(12);
            ids.filter(|id| !checked(id)).collect::<Vec<_>>().join(" and ")
        }
        _ => panic!("the page has no value for {words:?}"),
    }
}

/// The shortest trace to the bug of this name, as a block.
fn trace(run: &Run, name: &str) -> String {
    let Some(finding) = run.named(name) else { return format!("Nothing of this kind is found in `{}`.", run.model) };
    let mut block = format!("```text\n{} --replay {}\n", run.model, finding.path);
    for line in &finding.trace {
        writeln!(block, "{line}").unwrap_or_default();
    }
    block + "```"
}

fn finding(run: &Run, name: &str) -> String {
    run.named(name).map_or("not found".into(), |f| format!("{}: {}", f.promise, f.kind))
}

/// Results of an exploration of 5.0 built with `CONFIG_DEBUG_TEST_DRIVER_REMOVE`.
fn test_remove(what: &str) -> String {
    let options = Options { test_remove: true, faults: 0, preemptions: 0, ..Options::default() };
    let report = Run::new(Model::Linux50, &options).report;
    match what {
        "checks" => report.checks.get("P1").copied().unwrap_or(0).to_string(),
        _ if report.findings.iter().all(|f| f.promise != "P1") => "does not see it".into(),
        _ => "sees it".into(),
    }
}
