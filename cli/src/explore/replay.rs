//! Replays one path with logging on.

use bindery_explore::Path;
use bindery_explore::engine::Replay;
use serde_json::json;

use super::origin::Origin;
use super::panics::without_panic_output;
use super::refusal::Refusal;
use super::{Explore, Subject, trace};
use crate::failure::{BROKEN, GOOD, Result};
use crate::output::{DIM, ERROR, GOOD as WELL, HEADING, Output, count};
use crate::record::TraceFile;

/// Runs `bindery explore --replay`; the exit code.
pub(super) fn command(args: &Explore, subject: &Subject, path: &Path) -> Result<u8> {
    let trace = args.trace.as_deref().map(TraceFile::create).transpose()?;
    let replay = without_panic_output(|| subject.replay(path))?;
    let origin = subject.origin();
    // An execution that ends before its path does belongs to another scenario, too.
    let over = (path.choices().len() > replay.steps.len()).then_some(replay.steps.len());
    if let Some(at) = replay.diverged_at.or(over) {
        let why = match replay.steps.get(at) {
            Some(step) => format!("choice {} is at {} `{}`, which has no such choice,", at + 1, step.kind, step.what),
            None => format!("it has {}, and there are only {at} choice points", count(path.choices().len(), "choice")),
        };
        let refusal = Refusal::WrongPath { path: path.to_string(), name: origin.name(), why };
        return Err(Box::new(refusal).into());
    }
    if let Some(trace) = trace {
        trace::write(trace, &replay)?;
    }
    let mut output = Output::stdout(args.color).quiet(args.quiet);
    if args.json {
        output.raw(object(&origin, path, &replay).to_string().as_bytes())?;
        output.raw(b"\n")?;
    } else {
        text(&origin, path, &replay, &mut output)?;
    }
    output.flush()?;
    Ok(if replay.violations.is_empty() { GOOD } else { BROKEN })
}

fn text(origin: &Origin, path: &Path, replay: &Replay, output: &mut Output<'_>) -> Result<()> {
    output.line(format_args!("{}  {}", output.paint(HEADING, origin.name()), origin.title()))?;
    let points = count(replay.steps.len(), "choice point");
    output.row("path", format_args!("{path}: {points}, {}", count(path.non_default(), "non-default choice")))?;
    output.line("")?;
    let broken: Vec<String> = replay.violations.iter().map(|v| format!("BROKEN {v}")).collect();
    for (number, line) in (1..).zip(&replay.trace) {
        let number = output.paint(DIM, format_args!("{number:5}"));
        if broken.contains(line) {
            output.always(format_args!("{number}  {}", output.paint(ERROR, line)))?;
        } else {
            output.line(format_args!("{number}  {line}"))?;
        }
    }
    output.line("")?;
    match replay.violations.len() {
        0 => output.line(format_args!("   {}  no promise was broken on this path", output.paint(WELL, "ok"))),
        broken => output.line(format_args!("   {}  {}", output.paint(ERROR, "BROKEN"), count(broken, "promise"))),
    }
}

fn object(origin: &Origin, path: &Path, replay: &Replay) -> serde_json::Value {
    json!({
        "name": origin.name(),
        "path": path,
        "steps": replay.steps.iter().map(|s| json!({"kind": s.kind, "what": s.what, "choice": s.choice})).collect::<Vec<_>>(),
        "trace": replay.trace,
        "violations": replay.violations.iter()
            .map(|v| json!({"promise": v.promise_id(), "kind": v.kind, "detail": v.detail}))
            .collect::<Vec<_>>(),
    })
}
