//! Calls that may wait without end, made by a process of their own.
//!
//! A process that waits inside the kernel for a device's lock cannot be killed, not even by SIGKILL. So the command does
//! not make such calls itself: a helper process does, and is left behind when it is late.

mod left;
mod protocol;

use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{ADDRESSES, FaceError, Result};
use crate::path;
use left::Left;
use protocol::{Missing, Running};

/// The first argument of a helper process.
const WORD: &str = "--bindery-linux-helper";

/// Does the work of a helper process, if this process is one. A program that uses [`Host::with_helper`] with itself calls
/// it before anything else, and ends with the code.
///
/// [`Host::with_helper`]: super::Host::with_helper
pub fn intercept() -> Option<ExitCode> {
    let asked = std::env::args().nth(1)? == WORD;
    asked.then(|| protocol::serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

/// Calls through one process for as long as it answers.
///
/// A process that is late is left behind, and what it was asked about is not asked again until it has ended, by later commands
/// neither: one for each device waits beside an unbind that hangs, however often its attributes are wanted.
#[derive(Debug)]
pub(super) struct Helper {
    program: PathBuf,
    running: RefCell<Option<Running>>,
    /// Folders of which something was asked that is not answered, with who waits.
    late: RefCell<Vec<(String, Child)>>,
    left: Left,
}

impl Helper {
    /// Calls through processes of `program`, those left behind noted in the first of `notes` that can be written.
    pub(super) fn new(program: PathBuf, notes: Vec<PathBuf>) -> Self {
        Self { program, running: RefCell::default(), late: RefCell::default(), left: Left::new(notes) }
    }

    /// Reads a file.
    pub(super) fn read(&self, path: &str, deadline: Duration) -> Result<Vec<u8>> {
        // Whatever of a device is asked waits for the same lock.
        let whose = path::parent(path);
        self.known_late(whose, path, deadline)?;
        self.ask(whose, ["read", path, ""], deadline, &[])
    }

    /// Writes a file. The process keeps the locks until the kernel has answered, however long that takes.
    pub(super) fn write(&self, path: &str, value: &[u8], deadline: Duration, locks: &[File]) -> Result<()> {
        let value = String::from_utf8_lossy(value);
        self.ask(path, ["write", path, &value], deadline, locks).map(drop)
    }

    /// True when some user has the block device open exclusively, or the group's node at all. One that does not answer is being
    /// removed, and nothing is known of it.
    pub(super) fn claimed(&self, path: &str, deadline: Duration) -> Option<bool> {
        // Nodes of many devices share one folder: each is asked for itself.
        let asked =
            self.known_late(path, path, deadline).and_then(|()| self.ask(path, ["claimed", path, ""], deadline, &[]));
        match asked {
            Ok(_) => Some(false),
            Err(error) if error.errno() == Some(Errno::BUSY) => Some(true),
            Err(_) => None,
        }
    }

    /// The interfaces' addresses.
    pub(super) fn addresses(&self, deadline: Duration) -> Result<Vec<u8>> {
        self.known_late(ADDRESSES, ADDRESSES, deadline)?;
        self.ask(ADDRESSES, ["addresses", ADDRESSES, ""], deadline, &[])
    }

    /// Fails when a process that was asked about this before still waits.
    fn known_late(&self, whose: &str, path: &str, deadline: Duration) -> Result<()> {
        let mut late = self.late.borrow_mut();
        late.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        let own = late.iter().find(|(known, _)| known == whose).map(|(_, child)| child.id());
        match own.or_else(|| self.left.waits_for(whose, deadline)) {
            Some(pid) => Err(FaceError::Late { path: path.into(), after: deadline, helper: Some(pid) }),
            None => Ok(()),
        }
    }

    fn ask(&self, whose: &str, request: [&str; 3], deadline: Duration, locks: &[File]) -> Result<Vec<u8>> {
        let [doing, path, _] = request;
        let doing = if doing == "write" { "write" } else { "read" };
        let fail = |errno| FaceError::Kernel { doing, path: path.into(), errno };
        let started = Instant::now();
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.program).map_err(|errno| FaceError::Kernel {
                doing: "start a helper for",
                path: path.into(),
                errno,
            })?,
        };
        match running.call(request, started + deadline, locks) {
            Ok(answer) => {
                self.running.replace(Some(running));
                answer.map_err(fail)
            }
            Err(Missing::Late) => {
                let child = running.leave();
                let pid = child.id();
                if doing == "read" {
                    self.left.note(whose, pid);
                }
                self.late.borrow_mut().push((whose.into(), child));
                Err(FaceError::Late { path: path.into(), after: deadline, helper: Some(pid) })
            }
            Err(Missing::Broken(errno)) => {
                running.kill();
                Err(fail(errno))
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
    }
}
