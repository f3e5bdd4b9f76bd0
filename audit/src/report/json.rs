//! The report for programs.

use serde::Serialize;

use super::{FileReport, Report};
use crate::model::{Cite, End, Fact, Finding, Known, Life, Verdict};
use crate::rules::Rule;

/// Version of the JSON's schema. Fields may be added within a version; none changes its meaning.
pub const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Root<'a> {
    schema: u32,
    verdict: Verdict,
    exit: u8,
    lost: u64,
    files: &'a [FileReport],
    devices: Vec<Device<'a>>,
    findings: Vec<Found<'a>>,
    facts: Vec<Noted<'a>>,
}

#[derive(Serialize)]
struct Device<'a> {
    name: &'a str,
    lives: Vec<Lived<'a>>,
}

#[derive(Serialize)]
struct Lived<'a> {
    number: u32,
    driver: Option<&'a str>,
    verdict: Verdict,
    end: Option<End>,
    torn_down: bool,
    first: At<'a>,
    last: At<'a>,
    taken: u64,
    given_back: u64,
    managed_added: u64,
    managed_released: u64,
    rules: Vec<Ruled<'a>>,
    findings: Vec<Found<'a>>,
    omitted: u64,
    facts: Vec<Noted<'a>>,
}

#[derive(Serialize)]
struct Ruled<'a> {
    rule: String,
    verdict: Verdict,
    proved: u64,
    violated: u64,
    how: Option<&'a str>,
    reasons: &'a [String],
}

#[derive(Serialize)]
struct Found<'a> {
    rule: String,
    title: &'a str,
    verdict: Verdict,
    words: &'a str,
    known: Option<Known>,
    cites: Vec<At<'a>>,
}

#[derive(Serialize)]
struct Noted<'a> {
    words: &'a str,
    cites: Vec<At<'a>>,
}

#[derive(Serialize)]
struct At<'a> {
    file: &'a str,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl Report {
    /// The report as one JSON object.
    pub fn json(&self) -> String {
        let root = Root {
            schema: SCHEMA,
            verdict: self.verdict(),
            exit: self.exit_code(),
            lost: self.lost,
            files: &self.files,
            devices: self
                .devices
                .iter()
                .map(|device| Device {
                    name: &device.name,
                    lives: device.lives.iter().map(|life| self.lived(life)).collect(),
                })
                .collect(),
            findings: self.loose.iter().map(|finding| self.found(finding)).collect(),
            facts: self.facts.iter().map(|fact| self.noted(fact)).collect(),
        };
        serde_json::to_string_pretty(&root).unwrap_or_default()
    }

    fn lived<'a>(&'a self, life: &'a Life) -> Lived<'a> {
        let (first, last) = life.lines();
        let at = |place: crate::shape::Place| At { file: self.name_of(place.file), line: place.line, text: None };
        Lived {
            number: life.number,
            driver: life.driver.as_deref(),
            verdict: life.verdict(),
            end: life.ended(),
            torn_down: life.torn_down(),
            first: at(first),
            last: at(last),
            taken: life.taken,
            given_back: life.given,
            managed_added: life.added,
            managed_released: life.released,
            rules: Rule::all().map(|rule| ruled(life, rule)).collect(),
            findings: life.findings.iter().map(|finding| self.found(finding)).collect(),
            omitted: life.omitted,
            facts: life.facts.iter().map(|fact| self.noted(fact)).collect(),
        }
    }

    fn found<'a>(&'a self, finding: &'a Finding) -> Found<'a> {
        Found {
            rule: finding.rule.to_string(),
            title: finding.rule.text().title,
            verdict: finding.verdict,
            words: &finding.words,
            known: finding.known,
            cites: self.cites(&finding.cites),
        }
    }

    fn noted<'a>(&'a self, fact: &'a Fact) -> Noted<'a> {
        Noted { words: &fact.words, cites: self.cites(&fact.cites) }
    }

    fn cites<'a>(&'a self, cites: &'a [Cite]) -> Vec<At<'a>> {
        cites
            .iter()
            .map(|cite| At {
                file: self.name_of(cite.place.file),
                line: cite.place.line,
                text: Some(cite.text.as_str()),
            })
            .collect()
    }

    fn name_of(&self, file: u32) -> &str {
        self.files.get(file as usize).map_or("?", |file| file.name.as_str())
    }
}

fn ruled(life: &Life, rule: Rule) -> Ruled<'_> {
    let outcome = life.outcome(rule);
    Ruled {
        rule: rule.to_string(),
        verdict: outcome.verdict(),
        proved: outcome.proved,
        violated: outcome.violated,
        how: outcome.how,
        reasons: &outcome.unknown,
    }
}
