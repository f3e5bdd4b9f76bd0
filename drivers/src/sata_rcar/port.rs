//! A port with a disk: the interface to users of the driver.

mod buffers;

use core::ops::Range;
use core::time::Duration;

use bindery::binding::Bound;
use bindery::dma::DmaBuffer;
use bindery::driver::{Driver, ProbeError, QuiesceError, Quiesced};
use bindery::env::{Instant, IoError};
use bindery::sync::Mutex;
use bindery::sync::atomic::{AtomicBool, Ordering};

use super::SataRcar;
use super::controller::Controller;
use super::dma::{self, DmaArea};
use super::host::Host;
use crate::ata::{AtaError, Command, Identity, TaskFile};
use crate::block::{BlockDevice, BlockError};

/// The controller and the disk on its port.
///
/// Any thread may use it. Commands run one at a time, in no particular order between threads.
pub struct Port<'b> {
    host: Host<'b>,
    identity: Identity,
    /// Lock order: this is the driver's only lock; the core's leaf locks are taken inside.
    state: Mutex<State<'b>>,
}

struct State<'b> {
    area: DmaArea<'b>,
    health: Health,
}

/// Availability of the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    /// Commands can be sent.
    Online,
    /// The disk was removed or is spinning up. A command checks for it when the link, which was `down`, is up, or at
    /// `next`.
    Lost { why: &'static str, down: bool, next: Instant },
    /// Disabled for good, for this reason.
    Disabled(&'static str),
}

/// Shortest time between resets of a port whose disk is absent: each takes seconds, for which the caller waits.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

impl<'b> Port<'b> {
    /// Starts the controller and the disk, and offers the disk.
    pub(super) fn start(dev: Bound<'b>) -> Result<Self, ProbeError> {
        let controller = Controller::new(dev)?;
        if !controller.reset()? {
            return Err(ProbeError::Device("the DMA engine runs on in reset"));
        }
        // The reset has cleared all DMA addresses: quarantined memory of an earlier binding can be freed, and new memory
        // allocated.
        dev.mark_quiesced(Quiesced::stopped());
        let area = DmaArea::new(dev)?;
        let interrupts = controller.interrupts();
        let irq = interrupts.request(dev)?;
        SataRcar.provide_client::<dyn BlockDevice>(dev)?;
        let host = Host { dev, controller, interrupts, irq, closing: AtomicBool::new(false) };
        match host.start(true) {
            Ok(identity) => {
                dev.log(format_args!(
                    "{} {}, firmware {}, {} sectors of {} bytes",
                    identity.model, identity.serial, identity.firmware, identity.sectors, identity.sector_size
                ));
                Ok(Self { host, identity, state: Mutex::new(State { area, health: Health::Online }) })
            }
            Err(e) => {
                dev.log(format_args!("{e}"));
                if let Ok(true) = host.controller.shutdown() {
                    dev.mark_quiesced(Quiesced::stopped());
                }
                Err(match e {
                    AtaError::Io(io) => ProbeError::Io(io),
                    other => ProbeError::Device(other.description()),
                })
            }
        }
    }

    /// Stops the controller for good. Waiting commands fail with [`AtaError::Stopping`]; a running one gets half a second to
    /// complete.
    pub(super) fn stop(&self) -> Result<Quiesced, QuiesceError> {
        self.host.closing.store(true, Ordering::Release);
        let _idle = self.state.lock();
        match self.host.controller.shutdown() {
            Ok(true) => Ok(Quiesced::stopped()),
            Ok(false) => Err(QuiesceError("STOP was written, and ACT stays set")),
            // The registers are revoked after DMA was blocked, or because the device was removed.
            Err(IoError::Gone) => Ok(Quiesced::gone()),
            Err(IoError::Bad { .. }) => Err(QuiesceError("the registers refuse the stop")),
        }
    }

    /// Identification of the disk, as read when the port was started.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Number of sectors.
    pub fn capacity(&self) -> u64 {
        self.identity.sectors
    }

    /// Reads whole sectors from `lba` on into `to`.
    ///
    /// # Errors
    ///
    /// When the range is not on the disk or not whole sectors, the command fails, the port is disabled, or the driver is
    /// being unbound. `to` may be filled in part.
    pub fn read(&self, lba: u64, to: &mut [u8]) -> Result<(), AtaError> {
        self.read_vectored(lba, &mut [to])
    }

    /// Writes whole sectors from `lba` on. They may stay in the disk's cache until [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); some sectors may have been written.
    pub fn write(&self, lba: u64, from: &[u8]) -> Result<(), AtaError> {
        self.write_vectored(lba, &[from])
    }

    /// Reads whole sectors from `lba` on into one buffer after the other. Their total length is a whole number of sectors;
    /// each may have any length.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn read_vectored(&self, lba: u64, to: &mut [&mut [u8]]) -> Result<(), AtaError> {
        let len = to.iter().map(|b| b.len() as u64).sum();
        let mut cursor = Cursor::default();
        let nothing = |_: &mut DmaArea<'_>, _| {};
        self.exec_all(Command::ReadDmaExt, lba, len, nothing, |area, bytes| {
            let mut at = 0;
            while let Some((i, part)) = cursor.next(bytes - at, |i| to.get(i).map(|b| b.len())) {
                area.copy_out(at, &mut to[i][part.clone()]);
                at += part.len();
            }
        })
    }

    /// Writes whole sectors from `lba` on from one buffer after the other; see [`read_vectored`](Self::read_vectored)
    /// and [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_vectored(&self, lba: u64, from: &[&[u8]]) -> Result<(), AtaError> {
        let len = from.iter().map(|b| b.len() as u64).sum();
        let mut cursor = Cursor::default();
        let fill = |area: &mut DmaArea<'_>, bytes| {
            let mut at = 0;
            while let Some((i, part)) = cursor.next(bytes - at, |i| from.get(i).map(|b| b.len())) {
                area.copy_in(at, &from[i][part.clone()]);
                at += part.len();
            }
        };
        self.exec_all(Command::WriteDmaExt, lba, len, fill, |_, _| {})
    }

    /// Waits until everything that was written is on the medium.
    ///
    /// # Errors
    ///
    /// When the command fails, the port is disabled, or the driver is being unbound.
    pub fn flush(&self) -> Result<(), AtaError> {
        let mut state = self.state.lock();
        self.check_online(&mut state)?;
        let done = self.host.exec_nodata(&TaskFile::without_parameters(Command::FlushCacheExt));
        self.handle_error(&mut state, done)
    }

    /// Transfers `len` bytes from `lba` on by as many commands as needed. `before` and `after` copy the given number of
    /// bytes to and from the start of the buffers around each.
    fn exec_all(
        &self,
        command: Command,
        mut lba: u64,
        len: u64,
        mut before: impl FnMut(&mut DmaArea<'_>, usize),
        mut after: impl FnMut(&mut DmaArea<'_>, usize),
    ) -> Result<(), AtaError> {
        let sector = self.identity.sector_size;
        let out_of_range = self.check_sectors(lba, len)?;
        let mut left = len;
        while left > 0 {
            // A whole number of sectors: a sector is no larger than the buffers, and both sizes are powers of two.
            let bytes = left.min(dma::CAPACITY as u64) as usize;
            let sectors = bytes as u32 / sector;
            let tf = TaskFile::transfer(command, lba, sectors).ok_or(out_of_range)?;
            let mut state = self.state.lock();
            self.check_online(&mut state)?;
            before(&mut state.area, bytes);
            self.exec(&mut state, &tf, bytes)?;
            after(&mut state.area, bytes);
            lba += u64::from(sectors);
            left -= bytes as u64;
        }
        Ok(())
    }

    /// Checks that `len` bytes from `lba` on are whole sectors of the disk. Returns the error for those that are not on it.
    fn check_sectors(&self, lba: u64, len: u64) -> Result<AtaError, AtaError> {
        let sector = self.identity.sector_size;
        if !len.is_multiple_of(u64::from(sector)) {
            return Err(AtaError::Unaligned { len, sector });
        }
        let (sectors, capacity) = (len / u64::from(sector), self.capacity());
        let out_of_range = AtaError::OutOfRange { lba, sectors, capacity };
        let inside = lba.checked_add(sectors).is_some_and(|end| end <= capacity);
        if inside { Ok(out_of_range) } else { Err(out_of_range) }
    }

    /// Executes one command with the first `bytes` bytes of the buffers.
    fn exec(&self, state: &mut State<'b>, tf: &TaskFile, bytes: usize) -> Result<(), AtaError> {
        let transfer = state.area.map(bytes, tf.command == Command::ReadDmaExt)?;
        let done = self.host.exec_dma(tf, transfer.table());
        let done = self.handle_error(state, done);
        // Mappings of an engine that does not stop stay until the binding ends (P11).
        if done.is_err() && !matches!(self.host.controller.stop_dma(), Ok(true) | Err(IoError::Gone)) {
            state.health = Health::Disabled(AtaError::Stuck.description());
            return done;
        }
        let unmapped = state.area.unmap(&transfer);
        if unmapped.is_err() {
            state.health = Health::Disabled("a buffer could not be unmapped");
        }
        done.and(unmapped.map_err(AtaError::Dma))
    }

    /// Checks before a command that the disk is connected and is the one that the port was started with. Recovers the
    /// port if its disk may be back.
    fn check_online(&self, state: &mut State<'_>) -> Result<(), AtaError> {
        if self.host.closing.load(Ordering::Acquire) {
            return Err(AtaError::Stopping);
        }
        match state.health {
            Health::Disabled(why) => return Err(AtaError::Dead(why)),
            Health::Lost { why, down, next } => {
                let linked = down && self.host.controller.check_link().is_ok();
                if !linked && self.host.now() < next {
                    return Err(AtaError::Dead(why));
                }
            }
            Health::Online if self.host.interrupts.link_changed()? => {
                self.host.dev.log(format_args!("the link was lost; identifying the disk again"));
            }
            Health::Online => return Ok(()),
        }
        self.recover(state)
    }

    /// Resets the port if the error of a command requires it, and returns the command's result.
    fn handle_error(&self, state: &mut State<'_>, done: Result<(), AtaError>) -> Result<(), AtaError> {
        let Err(error) = done else { return Ok(()) };
        if error.needs_reset() && !self.host.closing.load(Ordering::Acquire) {
            self.host.dev.log(format_args!("{error}; resetting the port"));
            // The caller gets the error of its own command; the next command reports a failed recovery.
            let _ = self.recover(state);
        }
        Err(error)
    }

    /// Resets the port; disables it when it does not work afterwards.
    fn recover(&self, state: &mut State<'_>) -> Result<(), AtaError> {
        match self.reset() {
            Ok(()) => {
                self.host.dev.log(format_args!("the port works again"));
                state.health = Health::Online;
                Ok(())
            }
            Err(e) if e.may_come_back() => {
                if state.health == Health::Online {
                    self.host.dev.log(format_args!("the disk is absent ({e}); later commands check for it"));
                }
                let down = matches!(e, AtaError::LinkDown { .. });
                state.health = Health::Lost { why: e.description(), down, next: self.host.now() + RETRY_INTERVAL };
                Err(AtaError::Dead(e.description()))
            }
            Err(e) => {
                self.host.dev.log(format_args!("the port is disabled: {e}"));
                state.health = Health::Disabled(e.description());
                Err(AtaError::Dead(e.description()))
            }
        }
    }

    /// Stops the DMA engine, or resets the controller if it does not stop; resets the device, and the link if that is not
    /// enough; then checks that the same disk is connected.
    fn reset(&self) -> Result<(), AtaError> {
        let controller = &self.host.controller;
        let stopped = controller.stop_dma()?;
        if !stopped && !controller.reset()? {
            return Err(AtaError::Stuck);
        }
        let reset_link = !stopped || controller.check_link().is_err();
        let identity = match self.host.start(reset_link) {
            Err(AtaError::NotReady(_)) if !reset_link => self.host.start(true)?,
            other => other?,
        };
        self.identity.same_disk(&identity)?;
        // Checked last: only without a link change is this the disk that was identified.
        if self.host.interrupts.link_changed()? { Err(AtaError::LinkChanged) } else { Ok(()) }
    }
}

impl BlockDevice for Port<'_> {
    fn sector_size(&self) -> u32 {
        self.identity.sector_size
    }

    fn capacity(&self) -> u64 {
        Port::capacity(self)
    }

    fn read(&self, lba: u64, to: &mut [u8]) -> Result<(), BlockError> {
        Ok(Port::read(self, lba, to)?)
    }

    fn write(&self, lba: u64, from: &[u8]) -> Result<(), BlockError> {
        Ok(Port::write(self, lba, from)?)
    }

    fn read_buffer(&self, lba: u64, buffer: &mut DmaBuffer, range: Range<u64>) -> Result<(), BlockError> {
        Ok(Port::read_buffer(self, lba, buffer, range)?)
    }

    fn write_buffer(&self, lba: u64, buffer: &mut DmaBuffer, range: Range<u64>) -> Result<(), BlockError> {
        Ok(Port::write_buffer(self, lba, buffer, range)?)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(Port::flush(self)?)
    }
}

/// Position in a list of buffers.
#[derive(Default)]
struct Cursor {
    buffer: usize,
    offset: usize,
}

impl Cursor {
    /// Advances by at most `most` bytes within one buffer; returns its index and the range of its bytes. `None` when `most`
    /// is 0 or at the end of the last buffer. `len_of` gives the length of a buffer, or `None` past the last.
    fn next(&mut self, most: usize, len_of: impl Fn(usize) -> Option<usize>) -> Option<(usize, Range<usize>)> {
        if most == 0 {
            return None;
        }
        while len_of(self.buffer)? == self.offset {
            (self.buffer, self.offset) = (self.buffer + 1, 0);
        }
        let part = self.offset..len_of(self.buffer)?.min(self.offset.saturating_add(most));
        self.offset = part.end;
        Some((self.buffer, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_cursor_crosses_buffers_of_any_length_and_continues_where_it_stopped() {
        let lens = [0, 5, 3, 0, 10];
        let mut cursor = Cursor::default();
        let mut walk = |mut bytes: usize| {
            let mut seen = Vec::new();
            while let Some((i, part)) = cursor.next(bytes, |i| lens.get(i).copied()) {
                bytes -= part.len();
                seen.push((i, part));
            }
            seen
        };
        assert_eq!(walk(4), [(1, 0..4)]);
        assert_eq!(walk(6), [(1, 4..5), (2, 0..3), (4, 0..2)]);
        assert_eq!(walk(100), [(4, 2..10)]);
        assert_eq!(walk(1), []);
    }
}
