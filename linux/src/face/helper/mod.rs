//! Calls that may wait without end, made by a process of their own.
//!
//! A process that waits inside the kernel for a device's lock cannot be killed, not even by SIGKILL. So the command does
//! not make such calls itself: a helper process does, and is left behind when it is late.

mod reader;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub(super) use reader::Reader;

use super::{Face, FaceError, Host, Result};

/// The first argument of a helper process.
const WORD: &str = "--bindery-linux-helper";

/// Does the work of a helper process, if this process is one. A program that uses [`Host::with_helper`] with itself calls
/// it before anything else, and ends with the code.
pub fn intercept() -> Option<ExitCode> {
    let mut arguments = std::env::args();
    if arguments.nth(1)? != WORD {
        return None;
    }
    let words: Vec<String> = arguments.collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["answer"] => reader::answer(),
        ["write", path, value] => Host::open()
            .map_err(|_| Errno::IO)
            .and_then(|host| host.write(path, value.as_bytes()).map_err(|e| e.errno().unwrap_or(Errno::IO))),
        _ => Err(Errno::INVAL),
    };
    // An exit code is a byte; Linux's error numbers up to 133 fit.
    Some(
        done.map_or_else(
            |errno| ExitCode::from(u8::try_from(errno.raw_os_error()).unwrap_or(5)),
            |()| ExitCode::SUCCESS,
        ),
    )
}

/// Writes a file through a helper, which keeps the locks until the kernel has answered.
pub(super) fn write(program: &Path, path: &str, value: &[u8], deadline: Duration, locks: &[File]) -> Result<()> {
    let value = String::from_utf8_lossy(value);
    // A lock of flock() lives as long as any descriptor of the same open file. Descriptors are closed in a new program,
    // apart from the three standard ones, so the first lock goes there; the others end with it in the same plan.
    let lock = locks.first().map(File::try_clone).transpose();
    let start = || -> std::result::Result<Child, Errno> {
        let lock = lock.map_err(|error| errno(&error))?.map_or_else(Stdio::null, Stdio::from);
        start(program, &["write", path, &value], lock, Stdio::null())
    };
    let fail = |errno| FaceError::Kernel { doing: "start a helper to write", path: path.into(), errno };
    finish(&mut start().map_err(fail)?, "write", path, deadline)
}

fn start(program: &Path, words: &[&str], input: Stdio, out: Stdio) -> std::result::Result<Child, Errno> {
    let mut command = Command::new(program);
    command.arg(WORD).args(words).stdin(input).stdout(out).stderr(Stdio::null());
    // A terminal's Ctrl-C goes to the whole process group: the helper is not in ours.
    command.process_group(0);
    command.spawn().map_err(|error| errno(&error))
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

fn finish(child: &mut Child, doing: &'static str, path: &str, deadline: Duration) -> Result<()> {
    let started = Instant::now();
    let ending = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).ok();
    loop {
        let fail = |errno| FaceError::Kernel { doing, path: path.into(), errno };
        match child.try_wait() {
            Ok(Some(status)) => {
                return match status.code() {
                    Some(0) => Ok(()),
                    Some(code) => Err(fail(Errno::from_raw_os_error(code))),
                    None => Err(fail(Errno::INTR)),
                };
            }
            Ok(None) => {}
            Err(error) => return Err(fail(errno(&error))),
        }
        let Some(left) = deadline.checked_sub(started.elapsed()) else {
            return Err(FaceError::Late { path: path.into(), after: deadline, helper: Some(child.id()) });
        };
        match &ending {
            Some(ending) => drop(readable(ending, left)),
            // Kernels before 5.3 have no descriptors of processes.
            None => std::thread::sleep(left.min(Duration::from_millis(5))),
        }
    }
}

/// True once `from` can be read, or has ended; false after `timeout`.
fn readable(from: &impl AsFd, timeout: Duration) -> bool {
    // Rounded up: a wait of nothing would spin.
    let timeout = timeout + Duration::from_millis(1);
    let wait = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
    matches!(poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&wait)), Ok(1..))
}
