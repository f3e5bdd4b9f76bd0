//! Running a plan with a journal, and saying how it ended.

use std::fs::File;
use std::time::Duration;

use serde_json::json;

use super::Exit;
use super::args::Cli;
use super::output::{SCHEMA, print, print_json};
use super::run::{Failure, Host, needs_root, store};
use crate::engine::{Ended, Engine};
use crate::plan::{Memory, Step};
use crate::state::{self, FORMAT, Header, Store};

/// A plan that is ready to be run.
pub(super) struct Ready {
    pub(super) purpose: &'static str,
    pub(super) devices: Vec<String>,
    pub(super) steps: Vec<Step>,
    pub(super) remembered: Vec<Memory>,
    pub(super) takes: Option<String>,
}

/// Runs the plan. `again` makes it anew once the locks are held: what has changed meanwhile is refused.
pub(super) fn run(
    cli: &Cli,
    host: &Host,
    ready: &Ready,
    timeout: u64,
    again: impl FnOnce(&Host) -> Result<Vec<Step>, Failure>,
) -> Result<Exit, Failure> {
    needs_root()?;
    let store = store(cli);
    store.prepare()?;
    refuse_unfinished(&store, ready)?;
    let face = host.face();
    let names = state::lock_names(face, ready.steps.iter().map(|step| &step.device));
    let locks = state::lock_all(&store, &names, &format!("{} {}", ready.purpose, ready.devices.join(" ")))?;
    if again(&Host::open(cli)?)? != ready.steps {
        return Err(Failure::Policy("the host has changed while it was looked at: nothing was done; try again".into()));
    }
    let header = Header {
        format: FORMAT,
        id: state::new_id(),
        boot: state::boot(face),
        purpose: ready.purpose.into(),
        pid: std::process::id(),
        devices: ready.devices.clone(),
        steps: ready.steps.clone(),
        remembered: ready.remembered.clone(),
        takes: ready.takes.clone(),
    };
    let mut journal = store.begin(&header)?;
    let copies: Vec<File> = locks.iter().filter_map(|lock| lock.copy().ok()).collect();
    let count = ready.steps.len();
    let mut progress = |index: usize, device: &crate::plan::Place, action: &crate::plan::Action, undo: bool| {
        let word = if undo { "undo" } else { "step" };
        if !cli.json {
            let _ = print(&[format!("  {word} {}/{count}  {device}  {action}", index + 1)]);
        }
    };
    let timeout = Duration::from_secs(timeout);
    let mut engine = Engine { face, log: &mut journal, timeout, locks: &copies, progress: &mut progress };
    let ended = engine.run(&ready.steps);
    match &ended {
        Ended::Done => store.close(&header, true)?,
        Ended::RolledBack { .. } => store.close(&header, false)?,
        Ended::RollbackFailed { .. } | Ended::TimedOut { .. } | Ended::JournalFailed(_) => {}
    }
    tell(cli, host, ready, &ended)
}

/// A plan that was cut short comes first.
fn refuse_unfinished(store: &Store, ready: &Ready) -> Result<(), Failure> {
    for path in store.unfinished()? {
        let resumed = state::Journal::read(&path).map_err(crate::state::StoreError::Log)?;
        let touched = |step: &Step| resumed.header.steps.iter().any(|other| other.device == step.device);
        if ready.steps.iter().any(touched) {
            let devices = resumed.header.devices.join(", ");
            return Err(Failure::Policy(format!(
                "an unfinished {} of {devices} is in the way ({}): run `bindctl recover` first",
                resumed.header.purpose,
                path.display()
            )));
        }
    }
    Ok(())
}

fn tell(cli: &Cli, host: &Host, ready: &Ready, ended: &Ended) -> Result<Exit, Failure> {
    let (exit, outcome, details) = match ended {
        Ended::Done => (Exit::Done, "done", Vec::new()),
        Ended::RolledBack { why, untouched: true } => (Exit::Kernel, "failed, nothing was changed", vec![why.clone()]),
        Ended::RolledBack { why, untouched: false } => (Exit::RolledBack, "rolled back", vec![why.clone()]),
        Ended::RollbackFailed { why, then } => {
            let mut details = vec![why.clone()];
            details.extend(then.iter().map(|text| format!("not undone: {text}")));
            details.push("`bindctl recover` tries again".into());
            (Exit::RollbackFailed, "rollback failed", details)
        }
        Ended::TimedOut { why, helper } => {
            let mut details = vec![why.clone()];
            if let Some(pid) = helper {
                details.push(format!("process {pid} waits for the kernel and keeps the lock"));
                let stack = host.face().try_text(&format!("/proc/{pid}/stack")).unwrap_or_default();
                details.extend(stack.lines().map(|line| format!("  {}", line.trim())));
            }
            details.push("find and end the holder, then `bindctl recover`".into());
            (Exit::TimedOut, "timed out", details)
        }
        Ended::JournalFailed(why) => (Exit::RollbackFailed, "journal failed", vec![why.clone()]),
    };
    if cli.json {
        print_json(&json!({
            "schema": SCHEMA,
            "outcome": outcome,
            "exit": exit as u8,
            "purpose": ready.purpose,
            "devices": ready.devices,
            "details": details,
        }))?;
    } else {
        let mut lines = vec![format!("{outcome}: {} {}", ready.purpose, ready.devices.join(" "))];
        lines.extend(details.iter().map(|text| format!("  {text}")));
        print(&lines)?;
    }
    Ok(exit)
}
