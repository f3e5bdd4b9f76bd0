//! Lines of text on a socket, with a limit of time and of length.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Longest line: an answer with a MiB of memory in hexadecimal digits, and a monitor's list of all devices, are shorter.
const LONGEST: usize = 4 << 20;

/// A connected socket.
pub(crate) struct Lines {
    stream: UnixStream,
    within: Duration,
    /// Bytes that were read and not yet returned.
    read: Vec<u8>,
}

/// Reason why there is no line.
#[derive(Debug)]
pub(crate) enum NoLine {
    Closed,
    Late,
    TooLong,
}

impl Lines {
    pub(crate) fn new(stream: UnixStream, within: Duration) -> Self {
        Self { stream, within, read: Vec::new() }
    }

    pub(crate) fn send(&mut self, line: &str) -> Result<(), NoLine> {
        let deadline = |e: &io::Error| matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let sent = self.stream.set_write_timeout(Some(self.within)).and_then(|()| {
            self.stream.write_all(line.as_bytes())?;
            self.stream.write_all(b"\n")
        });
        sent.map_err(|e| if deadline(&e) { NoLine::Late } else { NoLine::Closed })
    }

    /// The next line, without its end.
    pub(crate) fn receive(&mut self) -> Result<String, NoLine> {
        let until = Instant::now() + self.within;
        let mut searched = 0;
        loop {
            if let Some(end) = self.read[searched..].iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=searched + end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            searched = self.read.len();
            if searched > LONGEST {
                return Err(NoLine::TooLong);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoLine::Late);
            }
            let mut buffer = [0; 4096];
            match self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut buffer)) {
                Ok(0) => return Err(NoLine::Closed),
                Ok(n) => self.read.extend(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(NoLine::Late);
                }
                Err(_) => return Err(NoLine::Closed),
            }
        }
    }
}
