//! `bindery run`: the main job, or a script of the user's.

use crate::args::Run;
use crate::failure::Result;
use crate::output::Output;
use crate::record::{FtraceFile, TraceFile};
use crate::reporter::Reporter;
use crate::script::{Runner, Script};
use crate::session::{Hardware, Session};

/// Runs `bindery run`; the exit code.
pub fn command(args: &Run) -> Result<u8> {
    // Before anything is printed: a tree or script that cannot be read, or a trace that cannot be written, ends it here.
    let config = args.config()?;
    let mut session = Session::new(&config)?;
    let script = match (&args.script, &config.hardware) {
        (Some(path), _) => Some(Script::open(path, &session)?),
        (None, Hardware::Salvator) => Some(Script::lifecycle(&session)?),
        (None, Hardware::Virt | Hardware::Qemu(..)) => None,
    };
    let trace = args.trace.as_deref().map(TraceFile::create).transpose()?;
    let ftrace = args.ftrace.as_deref().map(FtraceFile::create).transpose()?;
    let output = Output::stdout(args.color).quiet(args.quiet);
    let mut reporter = Reporter::new(output, &session.log, args.json, trace).ftrace(ftrace);
    let mut runner = Runner::new(&mut session, &mut reporter);
    match script {
        Some(script) => runner.run(&script)?,
        None => runner.run_pci()?,
    }
    reporter.finish()
}
