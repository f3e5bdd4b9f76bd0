//! A report as text.

use std::path::Path;

use bindery::promise::Promise;
use bindery_explore::Report;
use bindery_explore::engine::{Bounds, Finding, Mode};

use super::origin::Origin;
use crate::failure::Result;
use crate::output::{ERROR, GOOD, HEADING, Output, WARNING, count};

/// The findings in order: P1 before P10, and fewer non-default choices before more.
pub(super) fn sorted_findings(report: &Report) -> Vec<&Finding> {
    let place = |f: &&Finding| Promise::ALL.iter().position(|p| p.id() == f.promise);
    let mut findings: Vec<&Finding> = report.findings.iter().collect();
    findings.sort_by_key(|f| (place(f), f.path.non_default()));
    findings
}

/// Prints a report; the path of its first finding is in the file `trace`.
pub(super) fn report(report: &Report, trace: Option<&Path>, output: &mut Output<'_>) -> Result<()> {
    let origin = Origin::of(report);
    let shard = report.shard.map(|shard| format!(", shard {shard}")).unwrap_or_default();
    let title = origin.as_ref().map(|origin| format!("  {}", origin.title())).unwrap_or_default();
    output.line(format_args!("{}{shard}{title}", output.paint(HEADING, &report.name)))?;
    output.row("mode", mode(report, output))?;
    output.row("within", within(&report.bounds))?;
    output.row("explored", explored(report))?;
    if report.truncated > 0 {
        output.row(
            "",
            format_args!("{} longer than the bound and known up to it only", count_of(report.truncated, "path")),
        )?;
    }
    match report.bounds.states {
        0 => output.row("", "no states were remembered: every path was executed to its end")?,
        most if report.states_full => {
            output.row("", format_args!("no room for more than {most} states: some were explored more than once"))?;
        }
        _ => {}
    }
    output.row("checked", checked(report))?;
    output.row("reached", reached(report))?;
    if let Some(diverged) = &report.diverged {
        output.always(format_args!("   {}  {diverged}", output.paint(ERROR, "NONDETERMINISTIC")))?;
    }
    for name in report.overlooked() {
        if report.complete() {
            output.always(format_args!("   {}  {name}", output.paint(ERROR, "NEVER REACHED")))?;
        } else {
            output.line(format_args!("   {}  {name}", output.paint(WARNING, "not reached yet")))?;
        }
    }
    let mut trace = trace.map(Path::display);
    for finding in sorted_findings(report) {
        output.line("")?;
        show(finding, origin.as_ref(), &report.bounds, output)?;
        if let Some(file) = trace.take() {
            output.always(format_args!("   trace: {file}"))?;
        }
    }
    if trace.is_some() {
        output.row("trace", "none was written: there is no path that breaks a promise")?;
    }
    output.line("")?;
    verdict(report, output)
}

fn mode(report: &Report, output: &Output<'_>) -> String {
    match &report.mode {
        Mode::Exhaustive => "exhaustive".into(),
        Mode::Partial { why } => format!("{}: {why}, the rest is unknown", output.paint(WARNING, "partial")),
        Mode::Sampled { why, explored, samples, seed } => format!(
            "{}: {why}; after {} of the whole {} at random, seed {seed}",
            output.paint(WARNING, "sampled"),
            count_of(*explored, "path"),
            count_of(*samples, "path"),
        ),
    }
}

fn within(bounds: &Bounds) -> String {
    let mut parts = vec![count_of(bounds.faults.into(), "fault"), count_of(bounds.preemptions.into(), "preemption")];
    parts.extend(bounds.non_default.map(|most| count_of(most.into(), "non-default choice")));
    parts.extend(bounds.depth.map(|most| count_of(most.into(), "choice point")));
    format!("at most {} on a path", parts.join(", "))
}

fn explored(report: &Report) -> String {
    format!(
        "{} ({} ended in a known state), {}, at most {} on a path, {}.{:03} s",
        count_of(report.paths, "path"),
        report.pruned,
        count_of(report.states, "state"),
        count_of(report.longest_path, "choice point"),
        report.millis / 1000,
        report.millis % 1000
    )
}

/// Number of checks of each promise, P1 first.
fn checked(report: &Report) -> String {
    let times = |promise: &Promise| Some(format!("{} x {}", promise.id(), report.checks.get(promise.id())?));
    let all: Vec<String> = Promise::ALL.iter().filter_map(times).collect();
    if all.is_empty() { "nothing".into() } else { all.join(", ") }
}

/// Number of coverage points that were reached, by kind.
fn reached(report: &Report) -> String {
    let kinds = [("fault ", "fault point"), ("preemption ", "preemption point"), ("", "coverage point")];
    let kind_of = |name: &str| kinds.iter().position(|(prefix, _)| name.starts_with(prefix)).unwrap_or(2);
    let mut sums = [(0usize, 0usize); 3];
    for (name, times) in &report.coverage {
        let (hit, all) = &mut sums[kind_of(name)];
        *hit += usize::from(*times > 0);
        *all += 1;
    }
    for name in report.required.iter().filter(|name| !report.coverage.contains_key(*name)) {
        sums[kind_of(name)].1 += 1;
    }
    let text = |((_, one), (hit, all)): (&(&str, &str), (usize, usize))| format!("{hit} of {}", count(all, one));
    let parts: Vec<String> = kinds.iter().zip(sums).filter(|(_, (_, all))| *all > 0).map(text).collect();
    if parts.is_empty() { "no coverage point has a name".into() } else { parts.join(", ") }
}

fn show(finding: &Finding, origin: Option<&Origin>, bounds: &Bounds, output: &mut Output<'_>) -> Result<()> {
    let title = Promise::ALL.iter().find(|p| p.id() == finding.promise).map_or("", |p| p.title());
    let title = if title.is_empty() { String::new() } else { format!(" ({title})") };
    let head = output.paint(ERROR, format_args!("BROKEN {}{title}", finding.promise));
    output.always(format_args!("{head}: {}", finding.kind))?;
    if let Some(known) = origin.and_then(|origin| origin.known(finding)) {
        let fixed = if known.fixed_by.is_empty() { String::new() } else { format!("; fixed by {}", known.fixed_by) };
        output.always(format_args!("   known as {}: {}{fixed}", known.name, known.title))?;
    }
    let sure = if finding.shortest { "shortest" } else { "shortest known" };
    let non_default = count(finding.path.non_default(), "non-default choice");
    output.always(format_args!("   seen {}; the {sure} path has {non_default}:", count_of(finding.times, "time")))?;
    for line in &finding.trace {
        output.always(format_args!("     {line}"))?;
    }
    let command = origin.map_or_else(|| "bindery explore".into(), |origin| origin.command(bounds));
    output.whole(format_args!("   again: {command} --replay {}", finding.path))
}

fn verdict(report: &Report, output: &mut Output<'_>) -> Result<()> {
    if report.further > 0 {
        output.always(format_args!("{} of further kinds", count_of(report.further, "violation")))?;
    }
    if report.passed() {
        let known =
            if report.complete() { "on every path within the bounds" } else { "on the paths that were executed" };
        return output.line(format_args!("   {}  no promise was broken {known}", output.paint(GOOD, "ok")));
    }
    let mut parts = Vec::new();
    if !report.findings.is_empty() {
        parts.push(format!("promises were broken in {}", count(report.findings.len(), "way")));
    }
    if !report.missing.is_empty() {
        let when = if report.complete() { "never reached" } else { "not reached yet" };
        parts.push(format!("{} {when}", count(report.missing.len(), "coverage point")));
    }
    if report.diverged.is_some() {
        parts.push("the results are not valid".into());
    }
    output.line(format_args!("   {}  {}", output.paint(ERROR, "FAILED"), parts.join("; ")))
}

/// `1 path`, `2 paths`.
fn count_of(n: u64, one: &str) -> String {
    count(usize::try_from(n).unwrap_or(usize::MAX), one)
}
