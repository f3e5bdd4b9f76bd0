//! From a bug to the shortest path that shows it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bindery::mutant::Mutant;
use bindery_explore::{Bounds, boards, device};
use serde::Serialize;

use super::audited;

/// Whose life is explored.
pub(crate) const DEVICE: &str = "ee300000.sata";

/// Faults and interrupts of each stage. A bug that one stage shows is not looked for in the next.
const STAGES: [(u32, u32); 4] = [(0, 0), (1, 0), (0, 1), (1, 1)];

/// Most time for a stage: what shows itself at all does so in a part of it.
const STAGE: Duration = Duration::from_mins(1);

/// Bugs that no path of the explorer can show, and who notices each instead.
const ELSEWHERE: &[(Mutant, &str)] = &[];

/// How a bug was shown.
#[derive(Clone, Serialize)]
pub(crate) struct Kill {
    /// `"P1"` to `"P14"`, or who else saw it: `"panic"`, `"model"`, `"dma checker"`, `"scenario"`.
    pub(crate) promise: String,
    pub(crate) kind: String,
    pub(crate) detail: String,
    pub(crate) path: String,
    /// Answers on the path other than the ordinary ones.
    pub(crate) deviations: usize,
    /// Answers on the path.
    pub(crate) answers: usize,
    /// The stage: most faults and interrupts on a path.
    pub(crate) faults: u32,
    pub(crate) interrupts: u32,
    pub(crate) story: Vec<String>,
}

/// One bug, and what became of it.
#[derive(Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) history: &'static str,
    pub(crate) breaks: &'static str,
    pub(crate) kill: Option<Kill>,
    /// Who notices it when no path of the explorer does.
    pub(crate) elsewhere: Option<&'static str>,
    /// Why the walk was not the whole of a stage, when nothing was found and it was not.
    pub(crate) unsure: Option<String>,
    /// The auditor's rules that its trace breaks, or why it breaks none; an error where nobody knows.
    pub(crate) audited: Result<String, String>,
    pub(crate) paths: u64,
    pub(crate) millis: u64,
}

/// The core without a bug, within the widest stage.
pub(crate) struct Control {
    pub(crate) paths: u64,
    pub(crate) millis: u64,
    /// What is wrong with it, if anything is.
    pub(crate) trouble: Option<String>,
}

/// Everything.
pub(crate) struct Hunt {
    pub(crate) control: Control,
    pub(crate) rows: Vec<Row>,
    pub(crate) millis: u64,
}

impl Hunt {
    /// Why the command has to fail.
    pub(crate) fn trouble(&self) -> Option<String> {
        if let Some(trouble) = &self.control.trouble {
            return Some(format!("without any bug: {trouble}"));
        }
        let survived = self.rows.iter().filter(|r| r.kill.is_none() && r.elsewhere.is_none());
        let survived: Vec<_> = survived.map(|r| r.name).collect();
        if !survived.is_empty() {
            return Some(format!("no path shows {}", survived.join(", ")));
        }
        self.rows.iter().find_map(|row| row.audited.clone().err())
    }
}

/// Explores the core without a bug, then with each.
pub(crate) fn all() -> Result<Hunt, String> {
    let began = Instant::now();
    let control = control()?;
    let next = AtomicUsize::new(0);
    let rows: Mutex<Vec<(usize, Result<Row, String>)>> = Mutex::default();
    // Each walk is on one thread, so that it is the same every time; the walks share the cores.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = one(*mutant);
                    if let Ok(row) = &row {
                        eprintln!("{}", super::page::line(row));
                    }
                    let place = Mutant::ALL.iter().position(|m| m == mutant).unwrap_or(usize::MAX);
                    rows.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((place, row));
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    rows.sort_by_key(|(place, _)| *place);
    let rows = rows.into_iter().map(|(_, row)| row).collect::<Result<_, _>>()?;
    Ok(Hunt { control, rows, millis: millis(began) })
}

fn control() -> Result<Control, String> {
    let began = Instant::now();
    let (faults, interrupts) = STAGES[STAGES.len() - 1];
    let life = device(DEVICE).on(boards::salvator_xs()).faults(faults).interrupts(interrupts);
    let report = life.run(&life.engine()).map_err(|e| e.to_string())?;
    let trouble = (!report.passed() || !report.complete()).then(|| report.to_string());
    Ok(Control { paths: report.paths, millis: millis(began), trouble })
}

/// Explores the core with `mutant`, stage by stage, until a path shows it.
pub(crate) fn one(mutant: Mutant) -> Result<Row, String> {
    let began = Instant::now();
    let elsewhere = ELSEWHERE.iter().find(|(m, _)| *m == mutant).map(|(_, who)| *who);
    let mut row = Row {
        name: mutant.name(),
        history: mutant.history(),
        breaks: mutant.breaks().id(),
        kill: None,
        elsewhere,
        unsure: None,
        audited: Ok(String::new()),
        paths: 0,
        millis: 0,
    };
    for (faults, interrupts) in STAGES {
        let bounds = Bounds { faults, interrupts, time: Some(STAGE), ..Bounds::default() };
        let life = device(DEVICE).on(boards::salvator_xs().mutant(mutant)).bounds(bounds);
        let report = life.run(&life.engine().threads(1).first_only()).map_err(|e| format!("{}: {e}", mutant.name()))?;
        row.paths += report.paths;
        let shortest = |f: &&bindery_explore::Finding| (f.path.deviations(), f.path.answers().len(), f.promise.clone());
        if let Some(finding) = report.findings.iter().min_by_key(shortest) {
            row.kill = Some(Kill {
                promise: finding.promise.clone(),
                kind: finding.kind.clone(),
                detail: finding.detail.clone(),
                path: finding.path.to_string(),
                deviations: finding.path.deviations(),
                answers: finding.path.answers().len(),
                faults,
                interrupts,
                story: finding.story.clone(),
            });
            break;
        }
        if !report.complete() {
            row.unsure = Some(report.strayed.clone().unwrap_or_else(|| format!("{:?}", report.mode)));
        }
    }
    row.millis = millis(began);
    let life = device(DEVICE).on(boards::salvator_xs().mutant(mutant)).faults(1).interrupts(1);
    row.audited = audited::seen(mutant, &life, row.kill.as_ref().and_then(|kill| kill.path.parse().ok()).as_ref());
    Ok(row)
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
