//! A process that reads what may not be answered.

use std::cell::RefCell;
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{errno, readable, start};
use crate::face::{Face, FaceError, Host, Kind, MAX_READ, Result};
use crate::path;

/// Reads through one process for as long as it answers.
///
/// A process that is late is left behind, and its device is not asked again until that process has ended: one for each device
/// waits beside an unbind that hangs, however many attributes are wanted.
#[derive(Debug)]
pub(in crate::face) struct Reader {
    program: PathBuf,
    running: RefCell<Option<Running>>,
    /// Folders of which something was asked that is not answered, with who waits.
    late: RefCell<Vec<(String, Child)>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    requests: ChildStdin,
    answers: ChildStdout,
}

/// A request of which there is no answer.
enum Missing {
    Late,
    Broken(Errno),
}

impl Reader {
    /// Reads through processes of `program`.
    pub(in crate::face) fn new(program: PathBuf) -> Self {
        Self { program, running: RefCell::default(), late: RefCell::default() }
    }

    /// The program.
    pub(in crate::face) fn program(&self) -> &Path {
        &self.program
    }

    /// Reads a file.
    pub(in crate::face) fn read(&self, path: &str, deadline: Duration) -> Result<Vec<u8>> {
        self.ask("read", path, deadline)
    }

    /// True when some user has the block device open exclusively, or the group's node at all. One that does not answer is being
    /// removed, and nothing is known of it.
    pub(in crate::face) fn claimed(&self, path: &str, deadline: Duration) -> Option<bool> {
        match self.ask("claimed", path, deadline) {
            Ok(_) => Some(false),
            Err(error) if error.errno() == Some(Errno::BUSY) => Some(true),
            Err(_) => None,
        }
    }

    fn ask(&self, what: &'static str, path: &str, deadline: Duration) -> Result<Vec<u8>> {
        let fail = |errno| FaceError::Kernel { doing: "read", path: path.into(), errno };
        let late = |child: &Child| FaceError::Late { path: path.into(), after: deadline, helper: Some(child.id()) };
        if path.contains('\n') {
            return Err(fail(Errno::INVAL));
        }
        // Nodes of many devices share one folder.
        let whose = if what == "read" { path::parent(path) } else { path };
        let mut waiting = self.late.borrow_mut();
        waiting.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        if let Some((_, child)) = waiting.iter().find(|(known, _)| known == whose) {
            return Err(late(child));
        }
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.program).map_err(fail)?,
        };
        match running.answer(what, path, deadline) {
            Ok(answer) => {
                self.running.replace(Some(running));
                answer.map_err(fail)
            }
            Err(Missing::Late) => {
                let error = late(&running.child);
                waiting.push((whose.into(), running.child));
                Err(error)
            }
            Err(Missing::Broken(errno)) => {
                let _ = running.child.kill();
                let _ = running.child.wait();
                Err(fail(errno))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It waits for requests: the end of them ends it.
        if let Some(Running { mut child, requests, .. }) = self.running.take() {
            drop(requests);
            let _ = child.wait();
        }
    }
}

impl Running {
    fn start(program: &Path) -> std::result::Result<Self, Errno> {
        let mut child = start(program, &["answer"], Stdio::piped(), Stdio::piped())?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        Ok(Self { child, requests: requests.ok_or(Errno::IO)?, answers: answers.ok_or(Errno::IO)? })
    }

    /// Sends a request; the answer is the file's contents, or the kernel's error.
    fn answer(
        &mut self,
        what: &str,
        path: &str,
        deadline: Duration,
    ) -> std::result::Result<std::result::Result<Vec<u8>, Errno>, Missing> {
        let broken = |error| Missing::Broken(errno(&error));
        let until = Instant::now() + deadline;
        self.requests.write_all(format!("{what} {path}\n").as_bytes()).map_err(broken)?;
        let mut head = [0; 8];
        self.receive(&mut head, until)?;
        let [error, length] = [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        if error != 0 {
            return Ok(Err(Errno::from_raw_os_error(error.cast_signed())));
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= 2 * MAX_READ);
        let mut bytes = vec![0; length.ok_or(Missing::Broken(Errno::IO))?];
        self.receive(&mut bytes, until)?;
        Ok(Ok(bytes))
    }

    fn receive(&mut self, mut into: &mut [u8], until: Instant) -> std::result::Result<(), Missing> {
        while !into.is_empty() {
            if !readable(&self.answers, until.saturating_duration_since(Instant::now())) {
                return Err(Missing::Late);
            }
            match self.answers.read(into) {
                Ok(0) => return Err(Missing::Broken(Errno::IO)),
                Ok(n) => into = &mut into[n..],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Missing::Broken(errno(&error))),
            }
        }
        Ok(())
    }
}

/// Answers requests from standard input until it ends: a line each, answered by an error number and a length, 32 bits each
/// in little-endian order, and that many bytes.
pub(super) fn answer() -> std::result::Result<(), Errno> {
    let host = Host::open().map_err(|error| errno(&error))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| errno(&error))?;
        let answer = match line.split_once(' ') {
            Some(("read", path)) => host.read(path).map_err(|error| error.errno().unwrap_or(Errno::IO)),
            Some(("claimed", path)) => match host.kind(path) {
                Ok(Kind::Node(node)) => match host.claimed(path, node) {
                    Some(true) => Err(Errno::BUSY),
                    Some(false) => Ok(Vec::new()),
                    None => Err(Errno::NODEV),
                },
                _ => Err(Errno::NODEV),
            },
            _ => Err(Errno::INVAL),
        };
        let (error, bytes) = match answer {
            Ok(bytes) => (0, bytes),
            Err(errno) => (errno.raw_os_error(), Vec::new()),
        };
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::FBIG)?;
        let mut out = error.to_le_bytes().to_vec();
        out.extend(length.to_le_bytes());
        out.extend(bytes);
        let sent = std::io::stdout().write_all(&out).and_then(|()| std::io::stdout().flush());
        sent.map_err(|error| errno(&error))?;
    }
    Ok(())
}
