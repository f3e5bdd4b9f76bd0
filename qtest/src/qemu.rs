//! A QEMU process and the qtest protocol.

use std::fs::{self, File};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::line::{Lines, NoLine};
use crate::machine::Options;
use crate::qmp::Monitor;
use crate::{Config, Error, Machine};

/// Bytes of QEMU's standard error that an error repeats.
const LAST_WORDS: usize = 400;

/// Most bytes of memory that one command moves.
const BLOCK: u64 = 64 << 10;

/// A QEMU process whose CPU does nothing. It ends when this is dropped.
pub struct Qemu {
    pub(crate) machine: Machine,
    within: Duration,
    qtest: Lines,
    monitor: Monitor,
    process: Process,
}

/// The process and its files.
struct Process {
    child: Child,
    folder: TempDir,
}

impl Process {
    fn said(&self) -> String {
        let text = fs::read(self.folder.path().join("stderr")).unwrap_or_default();
        let end = &text[text.len().saturating_sub(LAST_WORDS)..];
        String::from_utf8_lossy(end).trim().replace('\n', "; ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    /// Starts a machine. Its devices are as a reset leaves them.
    ///
    /// # Errors
    ///
    /// QEMU is not there, does not take the options, or does not answer.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let kind = options.machine.kind();
        let folder =
            tempfile::tempdir().map_err(|source| Error::File { what: "a folder for sockets".into(), source })?;
        let file = |name: &str, source: io::Error| Error::File { what: name.into(), source };
        let path = |name: &str| folder.path().join(name);
        fs::write(path("firmware"), (kind.firmware)()).map_err(|e| file("firmware", e))?;
        let errors = File::create(path("stderr")).map_err(|e| file("stderr", e))?;
        let listen = |name: &'static str| UnixListener::bind(path(name)).map_err(|e| file(name, e));
        // QEMU connects to sockets that are there, so nothing has to be tried repeatedly.
        let (qtest, monitor) = (listen("qtest")?, listen("qmp")?);
        let program = options.program.as_deref().unwrap_or(kind.program);
        let mut command = Command::new(program);
        command.args(kind.arguments).args(["-m", "64M", "-display", "none", "-nodefaults", "-no-user-config"]);
        // The virtual clock goes to the next timer at once when the CPU halts, the same way each time.
        command.args(["-accel", "tcg", "-icount", "shift=0,sleep=off", "-bios"]).arg(path("firmware"));
        for (option, name) in [("-qtest", "qtest"), ("-qmp", "qmp")] {
            command.arg(option).arg(format!("unix:{}", path(name).display()));
        }
        // Its log would fill a pipe that nobody reads.
        command.args(["-qtest-log", "/dev/null"]).args(&options.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).current_dir(folder.path());
        let child =
            command.spawn().map_err(|source| Error::Start { program: kind.program, package: kind.package, source })?;
        let mut process = Process { child, folder };
        let qtest = accept(&qtest, &mut process, options.within)?;
        let monitor = accept(&monitor, &mut process, options.within)?;
        let (qtest, monitor) = (Lines::new(qtest, options.within), Monitor::new(Lines::new(monitor, options.within)));
        let mut qemu = Self { machine: options.machine, within: options.within, qtest, monitor, process };
        let doing = || "its monitor was greeted".to_owned();
        qemu.monitor.greet().map_err(|e| e.into_error(doing(), |no| qemu.process_error(doing(), &no)))?;
        Ok(qemu)
    }

    /// The end of what QEMU has written to its standard error.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Sends a command of the qtest protocol. Returns the words after `OK`.
    ///
    /// # Errors
    ///
    /// QEMU does not take it or does not answer.
    pub fn qtest(&mut self, command: &str) -> Result<String, Error> {
        let doing = || format!("asked for {:?}", command.get(..64).unwrap_or(command));
        self.qtest.send(command).map_err(|no| self.process_error(doing(), &no))?;
        loop {
            let answer = self.qtest.receive().map_err(|no| self.process_error(doing(), &no))?;
            // Interrupt lines are reported between answers.
            if answer.starts_with("IRQ ") {
                continue;
            }
            return match answer.split_once(' ').unwrap_or((&answer, "")) {
                ("OK", words) => Ok(words.to_owned()),
                ("ERR" | "FAIL", why) => Err(Error::Refused { doing: command.into(), why: why.into() }),
                _ => Err(Error::Protocol { doing: doing(), answer }),
            };
        }
    }

    /// A command whose answer is a number.
    pub(crate) fn number(&mut self, command: &str) -> Result<u64, Error> {
        let answer = self.qtest(command)?;
        let digits = answer.strip_prefix("0x").unwrap_or("none");
        u64::from_str_radix(digits, 16)
            .map_err(|_| Error::Protocol { doing: format!("asked for {command:?}"), answer: answer.clone() })
    }

    /// Reads `len` bytes of memory at the physical address `from`.
    ///
    /// # Errors
    ///
    /// QEMU does not answer, or not with as many bytes.
    pub fn memory(&mut self, from: u64, len: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < len {
            let at = from + bytes.len() as u64;
            let command = format!("read {at:#x} {:#x}", (len - bytes.len() as u64).min(BLOCK));
            let answer = self.qtest(&command)?;
            let digits = answer.strip_prefix("0x").unwrap_or_default();
            let byte = |i: usize| u8::from_str_radix(digits.get(i..i + 2)?, 16).ok();
            let block: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
            match block.filter(|block| !block.is_empty()) {
                Some(block) => bytes.extend(block),
                None => return Err(Error::Protocol { doing: format!("asked for {command:?}"), answer }),
            }
        }
        bytes.truncate(len as usize);
        Ok(bytes)
    }

    /// Sends a command to the monitor (QMP) and returns its result.
    ///
    /// # Errors
    ///
    /// QEMU refuses it or does not answer.
    pub fn monitor(&mut self, command: &str, arguments: &Value) -> Result<Value, Error> {
        let doing = || format!("its monitor was asked for {command}");
        let answer = self.monitor.execute(command, arguments);
        answer.map_err(|e| e.into_error(doing(), |no| self.process_error(doing(), &no)))
    }

    /// Configuration space of the functions behind the machine's PCI host bridge.
    ///
    /// # Errors
    ///
    /// QEMU does not answer.
    pub fn config_space(&mut self) -> Result<Config<'_>, Error> {
        Config::new(self)
    }

    fn process_error(&self, doing: String, no: &NoLine) -> Error {
        let said = self.process.said();
        match no {
            NoLine::Closed => Error::Ended { doing, said },
            NoLine::Late => Error::Hangs { doing, within: self.within, said },
            NoLine::TooLong => Error::Protocol { doing, answer: "a line of more than 4 MiB".into() },
        }
    }
}

/// The connection of a process to one of its sockets. Ends early when the process does.
fn accept(listener: &UnixListener, process: &mut Process, within: Duration) -> Result<UnixStream, Error> {
    let doing = || "it was started".to_owned();
    let until = Instant::now() + within;
    let file = |source| Error::File { what: "a socket".into(), source };
    listener.set_nonblocking(true).map_err(file)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(file)?;
                return Ok(stream);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(file(e)),
        }
        if process.child.try_wait().map_err(file)?.is_some() {
            return Err(Error::Ended { doing: doing(), said: process.said() });
        }
        if Instant::now() >= until {
            return Err(Error::Hangs { doing: doing(), within, said: process.said() });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl std::fmt::Debug for Qemu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let folder: &Path = self.process.folder.path();
        write!(f, "Qemu({:?}, process {}, {})", self.machine, self.process.child.id(), folder.display())
    }
}
