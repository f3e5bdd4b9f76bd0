//! A QEMU process and the qtest protocol.

use std::fs::{self, File};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::interrupts::Inputs;
use crate::line::{Lines, NoLine};
use crate::machine::Options;
use crate::qmp::Monitor;
use crate::{Config, Error, Machine};

/// Bytes of QEMU's standard error that an error repeats.
const LAST_WORDS: usize = 400;

/// What QEMU says of a clock that has nothing to wait for, which is no news here.
const IDLE: &str = "icount sleep disabled and no active timers";

/// Beginning of a line that QEMU says itself.
const OWN_WORDS: &str = "qemu";

/// Most bytes of memory that one command moves.
const BLOCK: u64 = 64 << 10;

/// The clock of the machine `virt`.
const PL031: u64 = 0x0901_0000;

/// File with the machine's RAM, in the folder of its sockets.
const RAM_FILE: &str = "ram";

/// A QEMU process whose CPU does nothing. It ends when this is dropped.
pub struct Qemu {
    pub(crate) machine: Machine,
    within: Duration,
    qtest: Lines,
    monitor: Monitor,
    /// Inputs of the interrupt controller, where they are intercepted.
    pub(crate) inputs: Inputs,
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
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<&str> =
            text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.ends_with(IDLE)).collect();
        // It ends on a misused device with all registers of the CPU after the reason.
        if lines.iter().any(|line| line.starts_with(OWN_WORDS)) {
            lines.retain(|line| line.starts_with(OWN_WORDS));
        }
        let said = lines.join("; ");
        let from = (said.len().saturating_sub(LAST_WORDS)..said.len()).find(|at| said.is_char_boundary(*at));
        said[from.unwrap_or(0)..].to_owned()
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
        match options.shared {
            Some(bytes) => {
                let backend =
                    format!("memory-backend-file,id=ram,size={bytes},share=on,mem-path={}", path(RAM_FILE).display());
                command.arg("-machine").arg(format!("{},memory-backend=ram", kind.machine)).args([
                    "-object",
                    &backend,
                    "-S",
                    "-rtc",
                    "clock=vm,base=2020-01-01",
                ]);
            }
            None => drop(command.args(["-machine", kind.machine])),
        }
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
        let inputs = Inputs::default();
        let mut qemu = Self { machine: options.machine, within: options.within, qtest, monitor, inputs, process };
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
            if let Some(report) = answer.strip_prefix("IRQ ") {
                if self.inputs.take(report) {
                    continue;
                }
                return Err(Error::Protocol { doing: doing(), answer });
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

    /// File with the machine's RAM, where it is shared.
    pub(crate) fn ram_file(&self) -> std::path::PathBuf {
        self.process.folder.path().join(RAM_FILE)
    }

    /// Has QEMU tell of the inputs of the machine's interrupt controller, and stops what would use them from the start.
    pub(crate) fn intercept(&mut self) -> Result<(), Error> {
        let controller = match self.machine {
            Machine::Q35 => {
                // The timer of the PC, whose interrupts would come until somebody serves them: one shot, and no start.
                self.qtest("outb 0x43 0x30")?;
                self.qtest("outb 0x40 0x0")?;
                "ioapic".into()
            }
            Machine::Virt => {
                let parts = self.monitor("qom-list", &json!({ "path": "/machine/unattached" }))?;
                let is_gic = |part: &&Value| {
                    let kind = part["type"].as_str().unwrap_or_default();
                    ["child<arm_gic>", "child<arm-gicv3>"].contains(&kind)
                };
                let gic =
                    parts.as_array().and_then(|parts| parts.iter().find(is_gic)).and_then(|gic| gic["name"].as_str());
                let doing = || "its interrupt controller was looked for".to_owned();
                let gic = gic.ok_or_else(|| Error::Protocol { doing: doing(), answer: parts.to_string() })?;
                format!("/machine/unattached/{gic}")
            }
        };
        // Interrupt 8 of a PC, SPI 2 of the other.
        self.inputs.alarm = Some(if self.machine == Machine::Q35 { 8 } else { 2 });
        self.qtest(&format!("irq_intercept_in {controller}")).map(drop)
    }

    /// Sets the alarm of the machine's clock, by at most a second from now.
    pub(crate) fn set_alarm(&mut self) -> Result<(), Error> {
        self.inputs.rang = false;
        match self.machine {
            Machine::Q35 => {
                // The interrupt at the end of each update (MC146818, registers B and C).
                for command in ["outb 0x70 0xb", "outb 0x71 0x12", "outb 0x70 0xc", "inb 0x71"] {
                    self.qtest(command)?;
                }
            }
            Machine::Virt => {
                // PL031: cleared, enabled, and a second after what it reads now.
                self.qtest(&format!("writel {:#x} 1", PL031 + 0x1c))?;
                self.qtest(&format!("writel {:#x} 1", PL031 + 0x10))?;
                let now = self.number(&format!("readl {PL031:#x}"))? as u32;
                self.qtest(&format!("writel {:#x} {:#x}", PL031 + 4, now.wrapping_add(1)))?;
            }
        }
        // What was raised before it was set is none.
        self.inputs.rang = false;
        Ok(())
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
