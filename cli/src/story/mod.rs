//! The main job: the story of a disk controller that is bound, unbound, handed to a guest and taken back, each step with
//! its evidence. What is printed comes from events and from looking at the machine, never from here.

mod hand_over;
mod io;
mod machine;
mod probe;
mod shell;
mod take_back;
mod unbind;
pub mod verdict;

use crate::args::Run;
use crate::failure::Result;
use crate::output::Output;
use crate::record::{FtraceFile, TraceFile};
use crate::reporter::Reporter;
use crate::script;
use crate::session::Session;

pub use shell::type_in;

/// A step of the story.
pub struct Step {
    /// Its name in events.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Does it.
    pub run: fn(&mut Session, &mut Reporter<'_>) -> Result<()>,
}

/// The steps, in their order. Each looks at the session as it finds it, and says when what it shows is not possible there.
pub const STEPS: [Step; 7] = [
    Step { name: "machine", title: "Machine: devices, drivers, supplier graph", run: machine::run },
    Step { name: "probe", title: "Probe: who waits for whom, and who is bound", run: probe::run },
    Step { name: "io", title: "I/O: sectors through the controller's DMA", run: io::run },
    Step { name: "unbind", title: "Unbind: quiet first, then the ledger, newest first", run: unbind::run },
    Step { name: "hand-over", title: "Hand-over: the same driver in a guest", run: hand_over::run },
    Step { name: "return", title: "Return: asked, and cut off", run: take_back::run },
    Step { name: "verdict", title: "Verdict", run: verdict::run },
];

/// Runs `bindery run`; the exit code.
pub fn command(args: &Run) -> Result<u8> {
    let script = args.script.as_deref().map(script::open).transpose()?;
    let mut session = Session::new(&args.config())?;
    // Before anything is told: a tree that cannot be read, or a trace that cannot be written, ends it here.
    session.read_device_tree()?;
    let trace = args.trace.as_deref().map(TraceFile::create).transpose()?;
    let ftrace = args.ftrace.as_deref().map(FtraceFile::create).transpose()?;
    let output = Output::stdout(args.color).quiet(args.quiet);
    let mut reporter = Reporter::new(output, &session.log, args.json, trace).ftrace(ftrace);
    match script {
        Some(script) => script::run(&script, &mut session, &mut reporter)?,
        None => tell(&mut session, &mut reporter)?,
    }
    reporter.finish()
}

/// Tells the whole story.
pub fn tell(session: &mut Session, reporter: &mut Reporter<'_>) -> Result<()> {
    for (at, step) in STEPS.iter().enumerate() {
        reporter.begin(step.name, at + 1, step.title)?;
        (step.run)(session, reporter)?;
        reporter.end()?;
    }
    Ok(())
}
