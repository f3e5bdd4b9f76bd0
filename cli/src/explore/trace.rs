//! A path as a trace file.

use bindery::env::Instant;
use bindery_explore::engine::{MachineEvent, Replay};

use crate::failure::Result;
use crate::record::{LogEntry, TraceFile};

/// Name of the step of each event: a path is one step.
const STEP: &str = "replay";
/// Duration of a line of a model, in nanoseconds: a model has no clock.
const TICK: u64 = 1000;

/// Writes what happened on the path: the events of the machines as a run's trace holds them, and between them, as
/// instants, the lines that have no event (preemptions, ends of steps, violations).
pub(super) fn write(mut trace: TraceFile, replay: &Replay) -> Result<()> {
    let mut events = replay.events.iter().peekable();
    let start = replay.events.first().map(|happened| happened.event.at);
    for (number, line) in (0..).zip(&replay.trace) {
        if let Some(MachineEvent { machine, event, .. }) = events.next_if(|happened| happened.line == number) {
            trace.add(&LogEntry { step: STEP.into(), machine, event: event.clone() })?;
        } else {
            trace.note(line, start.unwrap_or(Instant(TICK * (number as u64 + 1))))?;
        }
    }
    trace.finish()
}
