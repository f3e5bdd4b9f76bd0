//! The command that is recorded.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::RecordError;

/// Time in which the command may end by itself after the first signal, which a terminal sends to it, too.
const GRACE: Duration = Duration::from_secs(2);

enum News {
    Signal,
    Ended(io::Result<ExitStatus>),
}

/// Signals that ask this process to end: they end the command, and what was recorded is saved.
pub(super) struct Signals {
    sender: Sender<News>,
    news: Receiver<News>,
}

impl Signals {
    /// Takes over SIGINT, SIGTERM and SIGHUP.
    pub(super) fn take() -> Self {
        let (sender, news) = channel();
        let handler = sender.clone();
        // Where the handler cannot be had, a signal ends the recorder, and the keeper puts everything back.
        let _ = ctrlc::set_handler(move || drop(handler.send(News::Signal)));
        Self { sender, news }
    }

    /// Runs `command`. Its standard output goes to standard error: standard output belongs to the report. It finds the file that marks
    /// repetitions in the recording in `TRACE_MARKER`.
    pub(super) fn run(&self, command: &[OsString], marker: &Path) -> Result<ExitStatus, RecordError> {
        if self.news.try_recv().is_ok() {
            return Err(RecordError::Interrupted);
        }
        let failed = |error| RecordError::Command { command: shown(command), error };
        let Some((program, arguments)) = command.split_first() else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        let out = io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(arguments).env("TRACE_MARKER", marker).stdout(Stdio::from(out));
        let mut child = command.spawn().map_err(failed)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let sender = self.sender.clone();
        std::thread::spawn(move || sender.send(News::Ended(child.wait())));
        let mut until: Option<Instant> = None;
        loop {
            let wait = until.map_or(Duration::from_hours(1), |until| until.saturating_duration_since(Instant::now()));
            let news = self.news.recv_timeout(wait);
            let end = match news {
                Ok(News::Ended(status)) => return status.map_err(failed),
                Ok(News::Signal) if until.is_none() => {
                    until = Some(Instant::now() + GRACE);
                    false
                }
                Ok(News::Signal) => true,
                Err(RecvTimeoutError::Timeout) => until.is_some(),
                Err(RecvTimeoutError::Disconnected) => return Err(failed(io::ErrorKind::BrokenPipe.into())),
            };
            if end {
                until = Some(Instant::now() + GRACE);
                // A command that has just ended cannot be told.
                let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
            }
        }
    }
}

/// Refuses a command that is not there, before anything is changed for it.
pub(super) fn check(command: &[OsString]) -> Result<(), RecordError> {
    let Some(program) = command.first() else { return Ok(()) };
    let there = if program.as_encoded_bytes().contains(&b'/') {
        Path::new(program).is_file()
    } else {
        // Without a PATH the C library has a default of its own.
        std::env::var_os("PATH").is_none_or(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
    };
    if there {
        return Ok(());
    }
    Err(RecordError::Command { command: shown(command), error: io::ErrorKind::NotFound.into() })
}

/// The command as one line.
pub(super) fn shown(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    words.join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
