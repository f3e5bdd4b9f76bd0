//! Running a plan with a journal, and saying how it ended.

use std::time::Duration;

use serde_json::json;

use super::Exit;
use super::args::Cli;
use super::output::{SCHEMA, print, print_json};
use super::run::{Failure, Host, needs_root, store};
use crate::engine::{Ended, carry_out};
use crate::plan::{Action, Place, Step};

/// A plan that is ready to be run.
pub(super) use crate::engine::Order as Ready;

/// Runs the plan. `again` makes it anew once the locks are held: what has changed meanwhile is refused.
pub(super) fn run(
    cli: &Cli,
    host: &Host,
    ready: &Ready,
    timeout: u64,
    again: impl FnOnce(&Host) -> Result<Vec<Step>, Failure>,
) -> Result<Exit, Failure> {
    needs_root(host.face())?;
    let count = ready.steps.len();
    let mut progress = |index: usize, device: &Place, action: &Action, undo: bool| {
        let word = if undo { "undo" } else { "step" };
        if !cli.json {
            let _ = print(&[format!("  {word} {}/{count}  {device}  {action}", index + 1)]);
        }
    };
    let again = || again(&Host::open(cli)?);
    let timeout = Duration::from_secs(timeout);
    let ended = carry_out(host.face(), &store(cli), ready, timeout, again, &mut progress)?;
    report(cli, host, ready, &ended)
}

fn report(cli: &Cli, host: &Host, ready: &Ready, ended: &Ended) -> Result<Exit, Failure> {
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
        Ended::JournalFailed(why) => (Exit::Usage, "nothing was done", vec![why.clone()]),
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
