//! The report for CI: a suite a life, a case a rule. Not knowing is skipped, not passed.

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::Report;
use crate::model::{Finding, Life, Verdict};
use crate::rules::Rule;

impl Report {
    /// The report as `JUnit` XML.
    pub fn junit(&self) -> String {
        let mut junit = Junit::new("bindery audit");
        for device in &self.devices {
            for life in &device.lives {
                let mut suite = TestSuite::new(format!("{} life {}", device.name, life.number));
                for rule in Rule::all() {
                    let verdict = life.outcome(rule).verdict();
                    let found = life.findings.iter().filter(|finding| finding.rule == rule);
                    suite.add_test_case(self.case(rule, verdict, &self.words(life, rule, found)));
                }
                junit.add_test_suite(suite);
            }
        }
        if !self.loose.is_empty() {
            let mut suite = TestSuite::new("not tied to a device");
            for finding in &self.loose {
                suite.add_test_case(self.case(finding.rule, finding.verdict, &self.one(finding)));
            }
            junit.add_test_suite(suite);
        }
        if junit.test_suites.is_empty() {
            // An empty report reads as success in many tools.
            let mut suite = TestSuite::new("nothing to judge");
            let mut status = TestCaseStatus::skipped();
            status.set_message("no tear-down is in the files");
            suite.add_test_case(TestCase::new("tear-down", status));
            junit.add_test_suite(suite);
        }
        junit.to_string().unwrap_or_default()
    }

    #[expect(clippy::unused_self, reason = "beside its siblings")]
    fn case(&self, rule: Rule, verdict: Verdict, words: &str) -> TestCase {
        let mut status = match verdict {
            Verdict::Proved => TestCaseStatus::success(),
            Verdict::Violated => TestCaseStatus::non_success(NonSuccessKind::Failure),
            Verdict::CannotTell | Verdict::NothingToJudge => TestCaseStatus::skipped(),
        };
        match verdict {
            Verdict::Proved => {}
            Verdict::Violated => {
                status.set_message(words.lines().next().unwrap_or("").to_owned());
                status.set_description(words.to_owned());
            }
            Verdict::CannotTell | Verdict::NothingToJudge => {
                let words = if words.is_empty() { verdict.to_string() } else { format!("{verdict}: {words}") };
                status.set_message(words);
            }
        }
        TestCase::new(format!("{rule}: {}", rule.text().title), status)
    }

    fn words<'a>(&self, life: &Life, rule: Rule, found: impl Iterator<Item = &'a Finding>) -> String {
        let mut words: Vec<String> = found.map(|finding| self.one(finding)).collect();
        if words.is_empty() {
            words.extend(life.outcome(rule).unknown.iter().cloned());
        }
        words.join("\n")
    }

    fn one(&self, finding: &Finding) -> String {
        let lines: Vec<String> =
            finding.cites.iter().map(|cite| format!("{} | {}", self.place(cite.place), cite.text)).collect();
        format!("{}\n{}", finding.words, lines.join("\n"))
    }
}
