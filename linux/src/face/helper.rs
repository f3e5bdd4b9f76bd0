//! Calls that may wait without end, made by a process of their own.
//!
//! A process that waits inside the kernel for a device's lock cannot be killed, not even by SIGKILL. So the command does
//! not make such calls itself: a helper process does, and is left behind when it is late.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;

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
        ["read", path] => Host::open().map_err(|_| Errno::IO).and_then(|host| {
            let bytes = host.read(path).map_err(|error| error.errno().unwrap_or(Errno::IO))?;
            std::io::stdout().write_all(&bytes).map_err(|_| Errno::IO)
        }),
        ["write", path, value] => Host::open()
            .map_err(|_| Errno::IO)
            .and_then(|host| host.write(path, value.as_bytes()).map_err(|e| e.errno().unwrap_or(Errno::IO))),
        ["claimed", path] => Host::open().map_err(|_| Errno::IO).and_then(|host| {
            let Ok(super::Kind::Node(node)) = host.kind(path) else { return Err(Errno::NODEV) };
            match host.claimed(path, node) {
                Some(true) => Err(Errno::BUSY),
                Some(false) => Ok(()),
                None => Err(Errno::NODEV),
            }
        }),
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

/// Reads a file through a helper.
pub(super) fn read(program: &Path, path: &str, deadline: Duration) -> Result<Vec<u8>> {
    let mut child = start(program, &["read", path], Stdio::piped(), &[]).map_err(|errno| FaceError::Kernel {
        doing: "start a helper to read",
        path: path.into(),
        errno,
    })?;
    // Attributes are at most a page, which fits into the pipe: the helper does not wait for its reader.
    finish(&mut child, "read", path, deadline)?;
    let mut bytes = Vec::new();
    if let Some(mut out) = child.stdout.take() {
        let fail = |_| FaceError::Kernel { doing: "read", path: path.into(), errno: Errno::IO };
        out.read_to_end(&mut bytes).map_err(fail)?;
    }
    Ok(bytes)
}

/// Whether somebody has the block device open exclusively, asked through a helper. One that does not answer is being
/// removed, and nothing can be told of it.
pub(super) fn claimed(program: &Path, path: &str, deadline: Duration) -> Option<bool> {
    let mut child = start(program, &["claimed", path], Stdio::null(), &[]).ok()?;
    match finish(&mut child, "open", path, deadline) {
        Ok(()) => Some(false),
        Err(error) if error.errno() == Some(Errno::BUSY) => Some(true),
        Err(_) => None,
    }
}

/// Writes a file through a helper, which keeps the locks until the kernel has answered.
pub(super) fn write(program: &Path, path: &str, value: &[u8], deadline: Duration, locks: &[File]) -> Result<()> {
    let value = String::from_utf8_lossy(value);
    let mut child = start(program, &["write", path, &value], Stdio::null(), locks)
        .map_err(|errno| FaceError::Kernel { doing: "start a helper to write", path: path.into(), errno })?;
    finish(&mut child, "write", path, deadline)
}

fn start(program: &Path, words: &[&str], out: Stdio, locks: &[File]) -> std::result::Result<Child, Errno> {
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut command = Command::new(program);
    command.arg(WORD).args(words).stdout(out).stderr(Stdio::null());
    // A terminal's Ctrl-C goes to the whole process group: the helper is not in ours.
    command.process_group(0);
    // A lock of flock() lives as long as any descriptor of the same open file. Descriptors are closed in a new program,
    // apart from the three standard ones, so the first lock goes there; the others end with it in the same plan.
    command.stdin(match locks.first() {
        Some(lock) => Stdio::from(lock.try_clone().map_err(errno)?),
        None => Stdio::null(),
    });
    command.spawn().map_err(errno)
}

fn finish(child: &mut Child, doing: &'static str, path: &str, deadline: Duration) -> Result<()> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(200);
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
            Ok(None) if started.elapsed() >= deadline => {
                return Err(FaceError::Late { path: path.into(), after: deadline, helper: Some(child.id()) });
            }
            Ok(None) => std::thread::sleep(pause),
            Err(error) => return Err(fail(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
