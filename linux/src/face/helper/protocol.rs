//! Requests to a helper process, and its answers, over a socket that is its standard input.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use crate::face::{Face, Host, Kind, MAX_READ};

/// Most locks that go with one request: `SCM_MAX_FD` of the kernel.
const MAX_LOCKS: usize = 253;
/// Longest request, in bytes: a path and a value.
const MAX_REQUEST: usize = 1 << 16;

type Answer = Result<Vec<u8>, Errno>;

/// A request of which there is no answer.
pub(super) enum Missing {
    Late,
    Broken(Errno),
}

/// A helper process that answers.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    socket: UnixStream,
}

impl Running {
    pub(super) fn start(program: &Path) -> Result<Self, Errno> {
        let (socket, theirs) = UnixStream::pair().map_err(|error| errno(&error))?;
        let mut command = Command::new(program);
        command.arg(super::WORD).stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        // A terminal's Ctrl-C goes to the whole process group: the helper is not in ours.
        command.process_group(0);
        let child = command.spawn().map_err(|error| errno(&error))?;
        Ok(Self { child, socket })
    }

    /// Sends a request and waits for its answer: the file's contents, or the kernel's error.
    pub(super) fn call(&mut self, words: [&str; 3], until: Instant, locks: &[File]) -> Result<Answer, Missing> {
        // A path or value with a zero byte is none of the kernel's.
        if words.iter().any(|word| word.contains('\0')) {
            return Ok(Err(Errno::INVAL));
        }
        send(&self.socket, words.join("\0").as_bytes(), locks).map_err(Missing::Broken)?;
        let mut head = [0; 8];
        receive(&mut self.socket, &mut head, until)?;
        let [error, length] = [0, 4].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        if error != 0 {
            return Ok(Err(Errno::from_raw_os_error(error.cast_signed())));
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= 2 * MAX_READ);
        let mut bytes = vec![0; length.ok_or(Missing::Broken(Errno::IO))?];
        receive(&mut self.socket, &mut bytes, until)?;
        Ok(Ok(bytes))
    }

    /// Leaves the process to itself: it ends once the kernel has answered.
    pub(super) fn leave(self) -> Child {
        self.child
    }

    /// Ends a process that does not keep to the protocol.
    pub(super) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends a process that waits for requests: the end of them ends it.
    pub(super) fn end(self) {
        let Self { mut child, socket } = self;
        drop(socket);
        let _ = child.wait();
    }
}

/// Sends a request with its length before it, and the locks with its first byte.
fn send(socket: &UnixStream, request: &[u8], locks: &[File]) -> Result<(), Errno> {
    let length =
        u32::try_from(request.len()).ok().filter(|_| request.len() <= MAX_REQUEST).ok_or(Errno::NAMETOOLONG)?;
    let locks: Vec<BorrowedFd<'_>> = locks.iter().take(MAX_LOCKS).map(AsFd::as_fd).collect();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(locks.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !locks.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&locks));
    }
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(request);
    let sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    // The process may have died of the first part.
    let mut socket = socket;
    socket.write_all(&bytes[sent..]).map_err(|error| errno(&error))
}

fn receive(socket: &mut UnixStream, mut into: &mut [u8], until: Instant) -> Result<(), Missing> {
    while !into.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if !readable(socket, left) {
            if left.is_zero() {
                return Err(Missing::Late);
            }
            // A signal has ended the wait, or nothing came: only the deadline decides.
            continue;
        }
        match socket.read(into) {
            Ok(0) => return Err(Missing::Broken(Errno::IO)),
            Ok(n) => into = &mut into[n..],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Missing::Broken(errno(&error))),
        }
    }
    Ok(())
}

/// True once `from` can be read, or has ended; false after `timeout`.
pub(super) fn readable(from: &impl AsFd, timeout: Duration) -> bool {
    // Rounded up: a wait of nothing would spin.
    let timeout = timeout + Duration::from_millis(1);
    let wait = Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
    matches!(poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&wait)), Ok(1..))
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Answers requests until there are no more: an error number and a length, 32 bits each in little-endian order, and that
/// many bytes.
pub(super) fn serve() -> Result<(), Errno> {
    let host = Host::open().map_err(|error| errno(&error))?;
    let mut socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| errno(&error))?);
    while let Some((request, locks)) = next(&mut socket)? {
        let answer = match request.split('\0').collect::<Vec<_>>()[..] {
            ["read", path, _] => host.read(path).map_err(|error| error.errno().unwrap_or(Errno::IO)),
            ["write", path, value] => match host.write(path, value.as_bytes()) {
                Ok(()) => Ok(Vec::new()),
                Err(error) => Err(error.errno().unwrap_or(Errno::IO)),
            },
            ["claimed", path, _] => claimed(&host, path),
            ["addresses", ..] => crate::face::addresses::read(),
            _ => Err(Errno::INVAL),
        };
        // The kernel has answered: whoever was left behind lets go of the locks before it notices that nobody listens.
        drop(locks);
        let (error, bytes) = match answer {
            Ok(bytes) => (0, bytes),
            Err(errno) => (errno.raw_os_error(), Vec::new()),
        };
        let mut out = error.to_le_bytes().to_vec();
        out.extend(u32::try_from(bytes.len()).map_err(|_| Errno::FBIG)?.to_le_bytes());
        out.extend(bytes);
        socket.write_all(&out).map_err(|error| errno(&error))?;
    }
    Ok(())
}

fn claimed(host: &Host, path: &str) -> Answer {
    match host.kind(path) {
        Ok(Kind::Node(node)) => match host.claimed(path, node) {
            Some(true) => Err(Errno::BUSY),
            Some(false) => Ok(Vec::new()),
            None => Err(Errno::NODEV),
        },
        _ => Err(Errno::NODEV),
    }
}

/// The next request with the locks that came with it; `None` when there is no more.
fn next(socket: &mut UnixStream) -> Result<Option<(String, Vec<OwnedFd>)>, Errno> {
    let mut head = [0; 4];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_LOCKS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(&*socket, &mut [IoSliceMut::new(&mut head)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut locks = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            locks.extend(files);
        }
    }
    if got == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut head[got..]).map_err(|error| errno(&error))?;
    let length = u32::from_le_bytes(head) as usize;
    if length > MAX_REQUEST {
        return Err(Errno::INVAL);
    }
    let mut request = vec![0; length];
    socket.read_exact(&mut request).map_err(|error| errno(&error))?;
    String::from_utf8(request).map(|request| Some((request, locks))).map_err(|_| Errno::ILSEQ)
}
