//! A terminal: `script` of util-linux runs a command on a pseudo terminal of its own.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Only against a test that hangs: nothing is concluded from how long something takes.
const HANGS: Duration = Duration::from_mins(2);

/// Width that `script` gives to a terminal whose size nobody set.
const COLUMNS: usize = 80;

/// Contents of the terminal: complete lines, and the one that the cursor is on.
#[derive(Default)]
pub struct Screen {
    pub above: Vec<String>,
    pub line: String,
    /// Lines that the terminal broke, because they were wider than it is.
    pub broken: usize,
    column: usize,
    escape: String,
}

impl Screen {
    fn show(&mut self, c: char) {
        if !self.escape.is_empty() || c == '\x1b' {
            self.escape.push(c);
            if c.is_ascii_alphabetic() {
                assert!(self.escape == "\x1b[K" || c == 'm', "only the rest of a line is ever erased");
                if c == 'K' {
                    self.line.truncate(self.column);
                }
                self.escape.clear();
            }
            return;
        }
        match c {
            '\r' => self.column = 0,
            '\n' => self.feed(),
            _ => {
                if self.column == COLUMNS {
                    self.broken += 1;
                    self.feed();
                }
                // Progress overwrites its line, and is ASCII; nothing else moves the cursor back.
                if self.column < self.line.chars().count() {
                    assert!(self.line.is_ascii() && c.is_ascii(), "{c:?}");
                    self.line.truncate(self.column);
                }
                self.line.push(c);
                self.column += 1;
            }
        }
    }

    fn feed(&mut self) {
        self.above.push(std::mem::take(&mut self.line));
        self.column = 0;
    }
}

/// A command on a terminal.
pub struct Terminal {
    script: Child,
    shown: Receiver<Vec<u8>>,
    until: Instant,
    /// The beginning of a character.
    bytes: Vec<u8>,
    pub screen: Screen,
}

impl Terminal {
    /// Runs `line`, a command of the shell, on a terminal.
    pub fn run(line: &str) -> Self {
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` of util-linux is there");
        let mut out = script.stdout.take().unwrap();
        let (send, shown) = channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut chunk) {
                if send.send(chunk[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { script, shown, until: Instant::now() + HANGS, bytes: Vec::new(), screen: Screen::default() }
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&mut self) {
        self.script.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    }

    /// Looks on until the line under the cursor is as it should be.
    #[track_caller]
    pub fn watch_until(&mut self, line_is: impl Fn(&str) -> bool) {
        while !line_is(&self.screen.line) {
            assert!(self.look(), "it ended with {:?}", self.screen.line);
        }
    }

    /// Looks on until the command ends; its exit code.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        while self.look() {}
        self.script.wait().unwrap().code().expect("ended by itself")
    }

    /// Takes in what is shown next. False: the command has ended.
    #[track_caller]
    fn look(&mut self) -> bool {
        assert!(Instant::now() < self.until, "it hangs, with {:?}", self.screen.line);
        match self.shown.recv_timeout(HANGS) {
            Ok(chunk) => {
                self.bytes.extend(chunk);
                // The end of a character may be in the next chunk.
                let whole = std::str::from_utf8(&self.bytes).map_or_else(|error| error.valid_up_to(), str::len);
                let rest = self.bytes.split_off(whole);
                let shown = std::mem::replace(&mut self.bytes, rest);
                assert!(self.bytes.len() < 4, "not UTF-8: {:?}", self.bytes);
                String::from_utf8(shown).unwrap().chars().for_each(|c| self.screen.show(c));
            }
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => panic!("nothing new is shown: {:?}", self.screen.line),
        }
        true
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The command on the terminal goes with it: it is hung up.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
