//! Execution of commands, one at a time: issue, wait for the interrupt, check the status.

use alloc::sync::Arc;
use core::time::Duration;

use bindery::binding::Bound;
use bindery::env::Instant;
use bindery::irq::Irq;
use bindery::sync::atomic::{AtomicBool, Ordering};

use super::controller::Controller;
use super::interrupts::{Causes, Interrupts};
use crate::ata::{AtaError, Command, Identity, Status, TaskFile};

/// Longest wait for a ready device before a command. Between two commands it should be ready at once.
const READY: Duration = Duration::from_secs(1);
/// Timeout of a command. A disk may retry a bad sector many times, and a flush writes the whole cache.
const fn timeout(command: Command) -> Duration {
    Duration::from_secs(match command {
        Command::ReadDmaExt | Command::WriteDmaExt | Command::SetFeatures => 10,
        Command::IdentifyDevice => 5,
        Command::FlushCacheExt => 30,
    })
}
/// Interval at which a waiting command checks the link and whether the driver is being unbound.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Time that a running command gets when the driver is being unbound.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Executor of commands. Callers ensure that there is one at a time.
pub(super) struct Host<'b> {
    pub(super) dev: Bound<'b>,
    pub(super) controller: Controller<'b>,
    pub(super) interrupts: Arc<Interrupts>,
    pub(super) irq: Irq<'b>,
    /// The driver is being unbound: no new command is started, and the running one is aborted soon.
    pub(super) closing: AtomicBool,
}

impl Host<'_> {
    /// Resets and identifies the device; with `reset_link`, resets the link first.
    pub(super) fn start(&self, reset_link: bool) -> Result<Identity, AtaError> {
        if reset_link {
            self.controller.start_link()?;
        }
        // Before the disk is identified: a link change from here on makes the identification invalid.
        self.interrupts.forget_link_change()?;
        self.controller.soft_reset()?;
        self.controller.unmask()?;
        // Requests that the handler could not recognise while the device was in error have masked the line as a storm.
        self.irq.unmask();
        let identity = self.identify()?;
        if let Some(mode) = identity.ultra_dma {
            self.exec_nodata(&TaskFile::set_ultra_dma(mode))?;
        }
        Ok(identity)
    }

    /// Executes IDENTIFY DEVICE by programmed I/O: the interrupt signals that a block can be read.
    fn identify(&self) -> Result<Identity, AtaError> {
        let tf = TaskFile::without_parameters(Command::IdentifyDevice);
        self.ready()?;
        self.controller.issue(&tf)?;
        let status = self.wait(tf.command)?;
        self.check_status(&tf, status, true)?;
        let words = self.controller.read_block()?;
        let after = self.controller.alternate_status()?;
        self.check_status(&tf, after, false)?;
        Ok(Identity::decode(&words)?)
    }

    /// Executes a command without data.
    pub(super) fn exec_nodata(&self, tf: &TaskFile) -> Result<(), AtaError> {
        self.ready()?;
        self.controller.issue(tf)?;
        let status = self.wait(tf.command)?;
        self.check_status(tf, status, false)
    }

    /// Executes a command that transfers the data described by the descriptor table at `table`. After success the engine is
    /// stopped; after an error it was requested to stop.
    pub(super) fn exec_dma(&self, tf: &TaskFile, table: u32) -> Result<(), AtaError> {
        let to_memory = tf.command == Command::ReadDmaExt;
        self.ready()?;
        self.controller.setup_dma(table, to_memory)?;
        self.controller.issue(tf)?;
        self.controller.start_dma(to_memory)?;
        let ended = self.wait(tf.command).and_then(|status| self.check_status(tf, status, false));
        let short = self.controller.device_terminated()?;
        let stopped = self.controller.stop_dma()?;
        match ended {
            Ok(()) if !stopped => Err(AtaError::Stuck),
            Ok(()) if short => Err(AtaError::Short { command: tf.command }),
            // After a link change, the disk that completed the command need not be the one that received it.
            Ok(()) if self.interrupts.link_changed()? => Err(AtaError::LinkChanged),
            other => other,
        }
    }

    /// Waits until the device accepts a command; what it requested before is about none that is sent now.
    fn ready(&self) -> Result<(), AtaError> {
        self.controller.wait_ready(READY)?;
        self.interrupts.take();
        Ok(())
    }

    /// Waits until the device has completed `command`, or is ready to transfer its data.
    fn wait(&self, command: Command) -> Result<Status, AtaError> {
        let after = timeout(command);
        let mut deadline = self.now() + after;
        let mut stopping = false;
        loop {
            if !stopping && self.closing.load(Ordering::Acquire) {
                stopping = true;
                deadline = deadline.min(self.now() + STOP_TIMEOUT);
            }
            let causes = self.interrupts.wait(self.dev, POLL_INTERVAL);
            if causes.contains(Causes::MEMORY) {
                return Err(AtaError::Memory { command });
            }
            if causes.contains(Causes::DEVICE) {
                let status = self.controller.alternate_status()?;
                if !status.contains(Status::BSY) {
                    return Ok(status);
                }
            }
            self.controller.check_link()?;
            if self.now() >= deadline {
                return Err(if stopping { AtaError::Stopping } else { AtaError::TimedOut { command, after } });
            }
        }
    }

    /// Checks that the device reports success, and DRQ exactly when `data` is expected now.
    fn check_status(&self, tf: &TaskFile, status: Status, data: bool) -> Result<(), AtaError> {
        let command = tf.command;
        if status.failed() {
            let (error, lba) = self.controller.read_error()?;
            return Err(AtaError::Failed { command, status, error, lba });
        }
        if status.contains(Status::DRQ) == data { Ok(()) } else { Err(AtaError::Protocol { command, status }) }
    }

    pub(super) fn now(&self) -> Instant {
        self.dev.system_clock().now()
    }
}
