//! The report for people.

use std::fmt::Write;

use super::Report;
use crate::model::{Cite, End, Finding, Life, Verdict};
use crate::rules::{COUNT, Rule};

/// Lives of one device that are shown one by one when there is nothing to say of them.
const MOST_QUIET: usize = 20;

impl Report {
    /// The report as text; `paint` puts colours around a verdict.
    pub fn text(&self, paint: &dyn Fn(Verdict, &str) -> String) -> String {
        let mut out = String::new();
        self.write(&mut out, paint).map_or_else(|_| String::new(), |()| out)
    }

    fn write(&self, out: &mut String, paint: &dyn Fn(Verdict, &str) -> String) -> std::fmt::Result {
        for file in &self.files {
            let counts = file.counts;
            write!(out, "{}: {} lines", file.name, counts.lines)?;
            for (n, what) in [
                (counts.trace, "of a trace"),
                (counts.log, "of a kernel log"),
                (counts.continued, "that continue others"),
                (counts.foreign, "of other programs"),
                (counts.other, "not understood"),
                (counts.damaged, "damaged"),
                (counts.cut, "too long and cut"),
            ] {
                if n > 0 {
                    write!(out, ", {n} {what}")?;
                }
            }
            writeln!(out)?;
        }
        if self.lost > 0 {
            writeln!(out, "{} events were lost", self.lost)?;
        }
        if self.untold > 0 {
            writeln!(out, "{} events of further devices were not followed", self.untold)?;
        }
        for device in &self.devices {
            let quiet = device.lives.iter().filter(|life| is_quiet(life)).count();
            let mut shown = 0;
            for life in &device.lives {
                shown += usize::from(is_quiet(life));
                if is_quiet(life) && shown > MOST_QUIET {
                    continue;
                }
                self.life(out, &device.name, life, device.lives.len(), paint)?;
            }
            if quiet > MOST_QUIET {
                writeln!(out, "\n{}: {} more lives without a violation", device.name, quiet - MOST_QUIET)?;
            }
        }
        if !self.loose.is_empty() {
            writeln!(out, "\nnot tied to a device")?;
            for finding in &self.loose {
                self.finding(out, finding, paint)?;
            }
        }
        if !self.facts.is_empty() {
            writeln!(out, "\nfacts")?;
            for fact in &self.facts {
                writeln!(out, "  {}{}", fact.words, self.at(&fact.cites))?;
            }
        }
        let verdict = self.verdict();
        writeln!(out, "\nverdict: {}{}", paint(verdict, &verdict.to_string()), tail(self))
    }

    fn life(
        &self,
        out: &mut String,
        name: &str,
        life: &Life,
        of: usize,
        paint: &dyn Fn(Verdict, &str) -> String,
    ) -> std::fmt::Result {
        let verdict = life.verdict();
        let (from, to) = life.lines();
        let number = if of > 1 { format!(", life {}", life.number) } else { String::new() };
        let driver = life.driver.as_deref().map_or_else(String::new, |driver| format!(" ({driver})"));
        writeln!(
            out,
            "\n{name}{driver}{number}, lines {} to {}: {}",
            self.place(from),
            self.place(to),
            paint(verdict, &verdict.to_string())
        )?;
        writeln!(out, "  {}", course(life))?;
        for finding in &life.findings {
            self.finding(out, finding, paint)?;
        }
        if life.omitted > 0 {
            writeln!(out, "  and {} more of the same kind, so at least that many", life.omitted)?;
        }
        for rule in Rule::all() {
            let outcome = life.outcome(rule);
            match outcome.verdict() {
                Verdict::Proved => {
                    let how = outcome.how.map_or_else(String::new, |how| format!(", {how}"));
                    writeln!(
                        out,
                        "  {rule:<4}{} ({}{how}): {}",
                        paint(Verdict::Proved, "proved"),
                        if outcome.proved == 1 { "once".to_owned() } else { format!("{} times", outcome.proved) },
                        not(rule)
                    )?;
                }
                Verdict::CannotTell => {
                    let shown: Vec<&str> =
                        life.findings.iter().filter(|finding| finding.rule == rule).map(|f| f.words.as_str()).collect();
                    for reason in outcome.unknown.iter().filter(|reason| !shown.contains(&reason.as_str())) {
                        let title = paint(Verdict::CannotTell, "cannot tell");
                        writeln!(out, "  {rule:<4}{title}: {reason}")?;
                    }
                }
                Verdict::Violated | Verdict::NothingToJudge => {}
            }
        }
        for fact in &life.facts {
            writeln!(out, "  fact: {}{}", fact.words, self.at(&fact.cites))?;
        }
        Ok(())
    }

    fn finding(
        &self,
        out: &mut String,
        finding: &Finding,
        paint: &dyn Fn(Verdict, &str) -> String,
    ) -> std::fmt::Result {
        let title = finding.rule.text().title;
        let rule = finding.rule;
        writeln!(out, "  {rule:<4}{}: {title}", paint(finding.verdict, &finding.verdict.to_string()))?;
        writeln!(out, "      {}", finding.words)?;
        if let Some(known) = finding.known {
            writeln!(out, "      looks like {} ({})", known.commit, known.title)?;
        }
        for cite in finding.cites.iter().filter(|cite| !cite.text.is_empty()) {
            writeln!(out, "      {:>8} | {}", self.place(cite.place), cite.text)?;
        }
        Ok(())
    }

    fn at(&self, cites: &[Cite]) -> String {
        match cites {
            [] => String::new(),
            [one] => format!(" [line {}]", self.place(one.place)),
            many => {
                let lines: Vec<String> = many.iter().map(|cite| self.place(cite.place)).collect();
                format!(" [lines {}]", lines.join(", "))
            }
        }
    }
}

fn is_quiet(life: &Life) -> bool {
    matches!(life.verdict(), Verdict::Proved | Verdict::NothingToJudge) && life.facts.is_empty()
}

/// The course of a life in a line.
fn course(life: &Life) -> String {
    let mut parts = Vec::new();
    parts.push(match (life.ended(), life.torn_down()) {
        (Some(End::Unbound), _) => "unbound".to_owned(),
        (Some(End::ProbeFailed), _) => "its probe failed or was deferred".to_owned(),
        (Some(End::Removed), _) => "removed".to_owned(),
        (Some(End::Reprobed), _) => "ended before another driver's probe".to_owned(),
        (Some(End::FileEnded), _) | (None, true) => "its tear-down has begun".to_owned(),
        (None, false) => "no tear-down in the file: what it holds is in use".to_owned(),
    });
    if life.taken > 0 || life.given > 0 {
        parts.push(format!("{} allocated or mapped, {} given back", life.taken, life.given));
    }
    if life.added > 0 || life.released > 0 {
        parts.push(format!("{} managed resources added, {} released or removed", life.added, life.released));
    }
    parts.join("; ")
}

/// Words for a rule that was proved.
fn not(rule: Rule) -> &'static str {
    match rule.index() + 1 {
        1 => "everything given back had been taken",
        2 => "nothing was given back twice",
        3 => "everything was given back as it was taken",
        4 => "nothing was live at the end",
        5 => "freed through the back-end that allocated it",
        6 => "each managed release freed its memory",
        8 => "managed resources were released newest first",
        11 => "groups and domains changed only without live mappings",
        _ => "holds",
    }
}

/// Meaning of the whole verdict.
fn tail(report: &Report) -> String {
    match report.verdict() {
        Verdict::Proved => ": every tear-down in the files was clean".to_owned(),
        Verdict::Violated => {
            let lives = report.devices.iter().flat_map(|device| &device.lives);
            let found = lives.flat_map(|life| &life.findings).chain(&report.loose);
            let mut rules: Vec<Rule> =
                found.filter(|finding| finding.verdict == Verdict::Violated).map(|finding| finding.rule).collect();
            rules.sort();
            rules.dedup();
            let names: Vec<String> = rules.iter().map(|rule| format!("{rule} ({})", rule.text().title)).collect();
            format!(": {}", names.join("; "))
        }
        Verdict::CannotTell => ": nothing is shown to be wrong, and not everything is shown to be right".to_owned(),
        Verdict::NothingToJudge => ": no tear-down is in the files".to_owned(),
    }
}

/// All rules, one a line.
pub fn rules() -> String {
    Rule::all().fold(String::new(), |mut out, rule| {
        let _ = writeln!(out, "{rule:<4} {}", rule.text().title);
        out
    })
}

/// A rule with its reasons.
pub fn explain(rule: Rule) -> String {
    let text = rule.text();
    let mut out =
        format!("{rule} of {COUNT}: {}\n\n{}\n\nWhy: {}\n\nNeeds: {}\n", text.title, text.says, text.why, text.needs);
    if !text.from.is_empty() {
        let _ = write!(out, "\nComes from: {}\n", text.from);
    }
    out
}
