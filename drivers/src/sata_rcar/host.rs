//! Commands, one at a time: handing them over, waiting for the interrupt, judging how they ended.

use core::time::Duration;

use bindery::binding::Bound;
use bindery::env::Instant;
use bindery::irq::Irq;
use bindery::sync::atomic::{AtomicBool, Ordering};

use super::controller::Controller;
use super::regs::{Engine, Int};
use crate::ata::{AtaError, Command, Identity, Status, TaskFile};

/// Between two commands a device must be ready at once; this is generous.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long a command may take: a disk may try a bad sector again and again, and a flush writes a whole cache.
const fn limit(command: Command) -> Duration {
    Duration::from_secs(match command {
        Command::ReadDmaExt | Command::WriteDmaExt | Command::SetFeatures => 10,
        Command::IdentifyDevice => 5,
        Command::FlushCacheExt => 30,
    })
}
/// How often a waiting command looks whether the link still stands and whether the driver is to let go.
const LOOK: Duration = Duration::from_millis(50);
/// How long a command that is under way may go on when the driver is to let go.
const GRACE: Duration = Duration::from_millis(500);

/// What carries out commands. Callers see to it that there is one at a time.
pub(super) struct Host<'b> {
    pub(super) dev: &'b Bound,
    pub(super) controller: Controller<'b>,
    pub(super) irq: Irq<'b>,
    /// The driver is to let go: no new command, and the one under way is cut short.
    pub(super) closing: AtomicBool,
}

impl Host<'_> {
    /// Resets the device and asks it what it is. `whole` starts with the link, too.
    pub(super) fn begin(&self, whole: bool) -> Result<Identity, AtaError> {
        if whole {
            self.controller.start_link()?;
        }
        // Before the disk says who it is: what happens to the link from here on counts against the answer.
        self.controller.forget_link_change()?;
        self.controller.soft_reset()?;
        self.controller.unmask()?;
        let identity = self.identify()?;
        if let Some(mode) = identity.ultra_dma {
            self.exec_nodata(&TaskFile::set_ultra_dma(mode))?;
        }
        Ok(identity)
    }

    /// IDENTIFY DEVICE, by programmed I/O: the interrupt says that a block can be taken.
    fn identify(&self) -> Result<Identity, AtaError> {
        let tf = TaskFile::plain(Command::IdentifyDevice);
        self.controller.ready(BETWEEN)?;
        self.controller.issue(&tf)?;
        let status = self.wait(tf.command)?;
        self.check_status(&tf, status, true)?;
        let words = self.controller.take_block()?;
        let after = self.controller.status()?;
        self.check_status(&tf, after, false)?;
        Ok(Identity::decode(&words)?)
    }

    /// A command that moves no data.
    pub(super) fn exec_nodata(&self, tf: &TaskFile) -> Result<(), AtaError> {
        self.controller.ready(BETWEEN)?;
        self.controller.issue(tf)?;
        let status = self.wait(tf.command)?;
        self.check_status(tf, status, false)
    }

    /// A command that moves the data which the descriptor table at `table` describes. After a success the engine stands
    /// still; after an error it was told to.
    pub(super) fn dma(&self, tf: &TaskFile, table: u32) -> Result<(), AtaError> {
        let to_memory = tf.command == Command::ReadDmaExt;
        self.controller.ready(BETWEEN)?;
        self.controller.setup_dma(table, to_memory)?;
        self.controller.issue(tf)?;
        self.controller.start(to_memory)?;
        let ended = self.wait(tf.command).and_then(|status| self.check_status(tf, status, false));
        let short = self.controller.ended_short()?;
        let halted = self.controller.halt()?;
        match ended {
            Ok(()) if !halted => Err(AtaError::Stuck),
            Ok(()) if short => Err(AtaError::Short { command: tf.command }),
            // Whoever answered need not be the disk that was asked.
            Ok(()) if self.controller.link_changed()? => Err(AtaError::LinkChanged),
            other => other,
        }
    }

    /// Waits until the device is done with `command`, or offers its data.
    fn wait(&self, command: Command) -> Result<Status, AtaError> {
        let after = limit(command);
        let mut deadline = self.now() + after;
        let mut cut_short = false;
        loop {
            if !cut_short && self.closing.load(Ordering::Acquire) {
                cut_short = true;
                deadline = deadline.min(self.now() + GRACE);
            }
            if self.irq.wait(LOOK).is_ok() {
                let (pending, engine) = self.controller.acknowledge()?;
                if engine.contains(Engine::ERR) {
                    return Err(AtaError::Memory { command });
                }
                if pending.contains(Int::ATA) {
                    let status = self.controller.status()?;
                    if !status.contains(Status::BSY) {
                        return Ok(status);
                    }
                }
            }
            self.controller.link()?;
            if self.now() >= deadline {
                return Err(if cut_short { AtaError::Stopping } else { AtaError::TimedOut { command, after } });
            }
        }
    }

    /// Whether the device ended `tf` well; `data` says whether it must offer data now.
    fn check_status(&self, tf: &TaskFile, status: Status, data: bool) -> Result<(), AtaError> {
        let command = tf.command;
        if status.failed() {
            let (error, lba) = self.controller.failure()?;
            return Err(AtaError::Failed { command, status, error, lba });
        }
        if status.contains(Status::DRQ) == data { Ok(()) } else { Err(AtaError::Protocol { command, status }) }
    }

    pub(super) fn now(&self) -> Instant {
        self.dev.system_clock().now()
    }
}
