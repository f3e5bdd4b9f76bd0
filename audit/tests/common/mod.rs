//! Auditing a text, and what to expect of the result.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

pub mod trace;

use std::io::Cursor;
use std::path::Path;

use bindery_audit::model::{Finding, Verdict};
use bindery_audit::report::Report;
use bindery_audit::{Auditor, Options, input};

pub struct Audited {
    pub report: Report,
    pub text: String,
}

pub fn fixture(name: &str) -> Audited {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let mut auditor = Auditor::new(Options::default());
    auditor.read(name, input::open(&path).unwrap(), &mut |_| ()).unwrap();
    done(auditor)
}

pub fn audit(text: &str) -> Audited {
    let mut auditor = Auditor::new(Options::default());
    auditor.read("text", Cursor::new(text.as_bytes().to_vec()), &mut |_| ()).unwrap();
    done(auditor)
}

pub fn done(auditor: Auditor) -> Audited {
    let report = auditor.finish();
    let text = report.text(&|_, words| words.to_owned());
    Audited { report, text }
}

impl Audited {
    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.report
            .devices
            .iter()
            .flat_map(|device| &device.lives)
            .flat_map(|life| &life.findings)
            .chain(&self.report.loose)
    }

    /// The rules that are violated, in order.
    pub fn violated(&self) -> Vec<String> {
        let mut found: Vec<_> = self
            .findings()
            .filter(|finding| finding.verdict == Verdict::Violated)
            .map(|finding| finding.rule)
            .collect();
        found.sort();
        found.dedup();
        found.iter().map(ToString::to_string).collect()
    }

    /// Exactly these rules are violated.
    #[track_caller]
    pub fn violates(&self, rules: &[&str]) -> &Self {
        let found = self.violated();
        assert_eq!(found, rules, "{}", self.text);
        assert_eq!(self.report.exit_code(), 1, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn cannot_tell(&self) -> &Self {
        assert_eq!((self.report.verdict(), self.report.exit_code()), (Verdict::CannotTell, 3), "{}", self.text);
        self
    }

    #[track_caller]
    pub fn nothing(&self) -> &Self {
        assert_eq!((self.report.verdict(), self.report.exit_code()), (Verdict::NothingToJudge, 3), "{}", self.text);
        self
    }

    /// The whole is proved, and these rules are among what was.
    #[track_caller]
    pub fn proves(&self, rules: &[&str]) -> &Self {
        assert_eq!((self.report.verdict(), self.report.exit_code()), (Verdict::Proved, 0), "{}", self.text);
        for rule in rules {
            let rule = rule.parse().unwrap();
            let lives = self.report.devices.iter().flat_map(|device| &device.lives);
            assert!(lives.clone().any(|life| life.outcome(rule).verdict() == Verdict::Proved), "{rule}: {}", self.text);
        }
        self
    }

    #[track_caller]
    pub fn says(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(self.text.contains(word), "{word:?} is not in: {}", self.text);
        }
        self
    }

    #[track_caller]
    pub fn hides(&self, words: &[&str]) -> &Self {
        for word in words {
            assert!(!self.text.contains(word), "{word:?} is in: {}", self.text);
        }
        self
    }

    /// The findings of `rule` cite these lines, and maybe others.
    #[track_caller]
    pub fn cites(&self, rule: &str, lines: &[u64]) -> &Self {
        let rule = rule.parse().unwrap();
        let cited: Vec<u64> = self
            .findings()
            .filter(|finding| finding.rule == rule)
            .flat_map(|f| &f.cites)
            .map(|cite| cite.place.line)
            .collect();
        for line in lines {
            assert!(cited.contains(line), "line {line} is not cited: {cited:?} in {}", self.text);
        }
        self
    }
}
