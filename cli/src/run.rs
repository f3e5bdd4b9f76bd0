//! `bindery run`: the main job, or a script of the user's.

use crate::args::Run;
use crate::failure::Result;
use crate::output::Output;
use crate::record::{FtraceFile, TraceFile};
use crate::reporter::Reporter;
use crate::script::{Runner, Script};
use crate::session::Session;

/// Runs `bindery run`; the exit code.
pub fn command(args: &Run) -> Result<u8> {
    // Before anything is printed: a tree or script that cannot be read, or a trace that cannot be written, ends it here.
    let mut session = Session::new(&args.config())?;
    let script = match &args.script {
        Some(path) => Script::open(path, &session)?,
        None => Script::lifecycle(&session)?,
    };
    let trace = args.trace.as_deref().map(TraceFile::create).transpose()?;
    let ftrace = args.ftrace.as_deref().map(FtraceFile::create).transpose()?;
    let output = Output::stdout(args.color).quiet(args.quiet);
    let mut reporter = Reporter::new(output, &session.log, args.json, trace).ftrace(ftrace);
    Runner::new(&mut session, &mut reporter).run(&script)?;
    reporter.finish()
}
