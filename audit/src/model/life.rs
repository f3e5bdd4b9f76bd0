//! The life of a device under one driver: from probe to the end of its unbind.

use serde::Serialize;

use super::verdict::{Cite, Fact, Finding, Outcome, Verdict};
use super::{Mark, task::By};
use crate::rules::{COUNT, Rule};
use crate::shape::{Place, Stamp};

/// Most findings that are kept of a life; further ones are counted.
const MOST_FINDINGS: usize = 100;
/// Most facts that are kept of a life.
const MOST_FACTS: usize = 50;

/// End of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// An unbind.
    Unbound,
    /// A probe that failed or was deferred.
    ProbeFailed,
    /// The device left its group, and so the bus.
    Removed,
    /// Another probe began.
    Reprobed,
    /// A file ended.
    FileEnded,
}

/// A life.
#[derive(Debug)]
pub struct Life {
    /// Its number among those of the device, from 1.
    pub number: u32,
    /// Driver, where a line names it.
    pub driver: Option<String>,
    pub(crate) begin: Mark,
    /// True when the probe itself was recorded.
    pub(crate) probe_seen: bool,
    /// True when something that was given back had been taken before the recording began.
    pub(crate) before: bool,
    /// Mappings with no line that names a back-end, at neither end.
    pub(crate) unnamed: u64,
    /// True when a managed resource was removed whose address was hidden, and others looked the same.
    pub(crate) guessed: bool,
    pub(crate) teardown: Option<Mark>,
    pub(crate) end: Option<(Mark, End)>,
    /// The reason why the end may not be the unbind's.
    pub(crate) end_guessed: Option<&'static str>,
    /// A managed resource that was added after the end.
    pub(crate) came_back: Option<Place>,
    pub(crate) reset: Option<Mark>,
    pub(crate) dropped: Option<Mark>,
    pub(crate) last: (Place, Option<Stamp>),
    /// Outcomes by rule.
    pub outcomes: [Outcome; COUNT],
    /// Findings.
    pub findings: Vec<Finding>,
    /// Findings that were only counted.
    pub omitted: u64,
    /// Facts.
    pub facts: Vec<Fact>,
    /// Allocations and mappings.
    pub taken: u64,
    /// Those that were given back.
    pub given: u64,
    /// Managed resources that were added.
    pub added: u64,
    /// Managed resources that were released or removed.
    pub released: u64,
    /// Those of them in one release of everything.
    pub(crate) pass: Pass,
    /// Reason why nothing of this life can be proved.
    pub(crate) taint: Option<String>,
    pub(crate) candidates: Vec<Finding>,
    pub(crate) backend: Option<By>,
    /// What the direct path gave the device, if anything.
    pub(in crate::model) direct: Option<super::dma::Untranslated>,
    /// The first mapping that went through the IOMMU beyond doubt, and the losses before it.
    pub(crate) translated: Option<(Mark, u32)>,
    /// A change of the domain under live mappings that no second one has undone.
    pub(crate) moved: Option<Finding>,
    pub(crate) traced: bool,
    /// Managed memory that was freed during the release of managed resources: first and last address.
    pub(crate) freed_in_release: Vec<(u64, u64, Mark)>,
    /// Frees of managed memory by hand that wait for the removal of their node.
    pub(crate) by_hand: Vec<(u64, Mark)>,
    pub(crate) by_debug_lines: bool,
    /// True when a fault is recorded that no mapping explains.
    pub(crate) faulted: bool,
    pub(crate) bursts: super::bursts::Bursts,
    /// Pieces of managed memory.
    pub(crate) managed_memory: u64,
}

/// A release of all managed resources.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    pub(crate) last: Option<(u64, Mark)>,
    pub(crate) wrong: Option<(Mark, Mark)>,
    pub(crate) count: u64,
    pub(crate) unknown: u64,
    /// True when the addresses of some were not printed.
    pub(crate) hidden: bool,
}

impl Life {
    pub(crate) fn new(number: u32, begin: Mark) -> Self {
        Self {
            number,
            driver: None,
            last: (begin.place, begin.stamp),
            begin,
            probe_seen: false,
            before: false,
            unnamed: 0,
            guessed: false,
            teardown: None,
            end: None,
            end_guessed: None,
            came_back: None,
            reset: None,
            dropped: None,
            outcomes: std::array::from_fn(|_| Outcome::default()),
            findings: Vec::new(),
            omitted: 0,
            facts: Vec::new(),
            taken: 0,
            given: 0,
            added: 0,
            released: 0,
            pass: Pass::default(),
            taint: None,
            candidates: Vec::new(),
            backend: None,
            direct: None,
            translated: None,
            moved: None,
            traced: false,
            freed_in_release: Vec::new(),
            by_hand: Vec::new(),
            by_debug_lines: false,
            faulted: false,
            bursts: super::bursts::Bursts::default(),
            managed_memory: 0,
        }
    }

    /// The state of `rule`.
    pub fn outcome(&self, rule: Rule) -> &Outcome {
        &self.outcomes[rule.index()]
    }

    pub(crate) fn on(&mut self, rule: Rule) -> &mut Outcome {
        &mut self.outcomes[rule.index()]
    }

    /// First and last line that are about it.
    pub fn lines(&self) -> (Place, Place) {
        (self.begin.place, self.end.as_ref().map_or(self.last.0, |(mark, _)| mark.place.max(self.last.0)))
    }

    /// The verdict on the whole life.
    pub fn verdict(&self) -> Verdict {
        if Rule::all().any(|rule| self.outcome(rule).verdict() == Verdict::Violated) {
            return Verdict::Violated;
        }
        let clean = |verdict| Rule::all().any(|rule| rule.of_cleanness() && self.outcome(rule).verdict() == verdict);
        let doubt = Rule::all().any(|rule| self.outcome(rule).verdict() == Verdict::CannotTell);
        if self.teardown.is_none() && self.end.is_none() {
            return if doubt { Verdict::CannotTell } else { Verdict::NothingToJudge };
        }
        let open = self.findings.iter().any(|finding| finding.verdict == Verdict::CannotTell);
        if open || self.taint.is_some() || clean(Verdict::CannotTell) {
            Verdict::CannotTell
        } else if clean(Verdict::Proved) {
            Verdict::Proved
        } else if doubt {
            Verdict::CannotTell
        } else {
            Verdict::NothingToJudge
        }
    }

    /// True once its unbind has begun.
    pub fn torn_down(&self) -> bool {
        self.teardown.is_some()
    }

    /// The end, if there was one.
    pub fn ended(&self) -> Option<End> {
        self.end.as_ref().map(|(_, end)| *end)
    }

    /// The last line that is about it, where no line says that it is over.
    pub(crate) fn last_mark(&self) -> Mark {
        Mark { place: self.last.0, stamp: self.last.1, text: "".into() }
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        match finding.verdict {
            Verdict::Violated => self.on(finding.rule).violated += 1,
            _ => self.on(finding.rule).doubt(finding.words.clone()),
        }
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding);
        } else {
            self.omitted += 1;
        }
    }

    /// Events were lost after `from`: what is concluded from events that are not there is not known any more.
    pub(crate) fn excuse(&mut self, why: &str, from: Place) {
        self.taint.get_or_insert_with(|| why.to_owned());
        for finding in &mut self.findings {
            let late = finding.cites.iter().any(|cite| cite.place >= from);
            if finding.verdict == Verdict::Violated && finding.rule.needs_every_event() && late {
                finding.verdict = Verdict::CannotTell;
                finding.words = format!("{}; but {why}", finding.words);
                let outcome = &mut self.outcomes[finding.rule.index()];
                outcome.violated -= 1;
                outcome.doubt(finding.words.clone());
            }
        }
        if self.end.is_some() {
            for rule in [Rule::NOT_TAKEN, Rule::TWICE, Rule::LEAK, Rule::MANAGED] {
                self.on(rule).doubt(why);
            }
        }
    }

    pub(crate) fn note(&mut self, words: String, cites: Vec<Cite>) {
        if self.facts.len() < MOST_FACTS {
            self.facts.push(Fact { words, cites });
        }
    }

    /// Keeps a finding that is judged when the life is over and it is known how much of it was recorded.
    pub(crate) fn suspect(&mut self, finding: Finding) {
        if self.candidates.len() < MOST_FINDINGS {
            self.candidates.push(finding);
        } else {
            self.omitted += 1;
        }
    }
}
