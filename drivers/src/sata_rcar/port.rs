//! A port with a disk on it, as users of the driver have it.

use core::ops::Range;
use core::time::Duration;

use bindery::binding::Bound;
use bindery::driver::{ProbeError, QuiesceError, Quiesced};
use bindery::env::{Instant, IoError};
use bindery::sync::Mutex;
use bindery::sync::atomic::{AtomicBool, Ordering};

use super::controller::Controller;
use super::dma::{self, DmaArea};
use super::host::Host;
use crate::ata::{AtaError, Command, Identity, TaskFile};
use crate::block::{BlockDevice, BlockError};

/// The controller and the disk on its port.
///
/// Any thread may use it; commands run one at a time, in no promised order between threads.
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

/// Whether commands can be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Works,
    /// The disk is pulled out or spins up. A command looks for it when a link that was `down` is up, or `next` has come.
    Lost {
        why: &'static str,
        down: bool,
        next: Instant,
    },
    /// Given up, with the reason.
    Dead(&'static str),
}

/// How often a port without a link is given a reset, at most: each takes seconds, which the caller waits.
const TRY_AGAIN: Duration = Duration::from_secs(10);

impl<'b> Port<'b> {
    /// Brings the controller up, and the disk.
    pub(super) fn start(dev: &'b Bound) -> Result<Self, ProbeError> {
        let controller = Controller::new(dev)?;
        if !controller.reset()? {
            return Err(ProbeError::Device("the DMA engine runs on in reset"));
        }
        // From here on the controller knows no address of ours: memory of an earlier binding that it would not let go
        // of can go back, and new memory can be had.
        dev.mark_quiesced(Quiesced::stopped());
        let area = DmaArea::new(dev)?;
        let irq = dev.irq(0)?;
        let host = Host { dev, controller, irq, closing: AtomicBool::new(false) };
        match host.begin(true) {
            Ok(identity) => {
                dev.log(format_args!(
                    "{} {}, firmware {}, {} sectors of {} bytes",
                    identity.model, identity.serial, identity.firmware, identity.sectors, identity.sector_size
                ));
                Ok(Self { host, identity, state: Mutex::new(State { area, health: Health::Works }) })
            }
            Err(e) => {
                dev.log(format_args!("{e}"));
                if let Ok(true) = host.controller.shutdown() {
                    dev.mark_quiesced(Quiesced::stopped());
                }
                Err(match e {
                    AtaError::Io(io) => ProbeError::Io(io),
                    other => ProbeError::Device(other.words()),
                })
            }
        }
    }

    /// Stops the controller for good: commands that wait get [`AtaError::Stopping`], one under way has half a second to
    /// end.
    pub(super) fn stop(&self) -> Result<Quiesced, QuiesceError> {
        self.host.closing.store(true, Ordering::Release);
        let _idle = self.state.lock();
        match self.host.controller.shutdown() {
            Ok(true) => Ok(Quiesced::stopped()),
            Ok(false) => Err(QuiesceError("STOP was written, and ACT stays set")),
            // Whoever took the registers away has seen to the DMA as well.
            Err(IoError::Gone) => Ok(Quiesced::gone()),
            Err(IoError::Bad { .. }) => Err(QuiesceError("the registers refuse the stop")),
        }
    }

    /// What the disk says of itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Number of sectors.
    pub fn capacity(&self) -> u64 {
        self.identity.sectors
    }

    /// Reads whole sectors from `lba` on into `to`.
    pub fn read(&self, lba: u64, to: &mut [u8]) -> Result<(), AtaError> {
        self.read_vectored(lba, &mut [to])
    }

    /// Writes whole sectors from `lba` on. They may stay in the disk's cache until [`flush`](Self::flush).
    pub fn write(&self, lba: u64, from: &[u8]) -> Result<(), AtaError> {
        self.write_vectored(lba, &[from])
    }

    /// Reads whole sectors from `lba` on into one buffer after the other. Together they hold whole sectors; each one
    /// may have any length.
    pub fn read_vectored(&self, lba: u64, to: &mut [&mut [u8]]) -> Result<(), AtaError> {
        let len = to.iter().map(|b| b.len() as u64).sum();
        let mut cursor = Cursor::default();
        let nothing = |_: &mut DmaArea<'_>, _| {};
        self.commands(Command::ReadDmaExt, lba, len, nothing, |area, bytes| {
            let mut at = 0;
            while let Some((i, part)) = cursor.next(bytes - at, |i| to.get(i).map(|b| b.len())) {
                area.drain(at, &mut to[i][part.clone()]);
                at += part.len();
            }
        })
    }

    /// Writes whole sectors from `lba` on from one buffer after the other; see [`read_vectored`](Self::read_vectored)
    /// and [`write`](Self::write).
    pub fn write_vectored(&self, lba: u64, from: &[&[u8]]) -> Result<(), AtaError> {
        let len = from.iter().map(|b| b.len() as u64).sum();
        let mut cursor = Cursor::default();
        let fill = |area: &mut DmaArea<'_>, bytes| {
            let mut at = 0;
            while let Some((i, part)) = cursor.next(bytes - at, |i| from.get(i).map(|b| b.len())) {
                area.fill(at, &from[i][part.clone()]);
                at += part.len();
            }
        };
        self.commands(Command::WriteDmaExt, lba, len, fill, |_, _| {})
    }

    /// Waits until everything that was written is on the medium.
    pub fn flush(&self) -> Result<(), AtaError> {
        let mut state = self.state.lock();
        self.usable(&mut state)?;
        let done = self.host.exec_nodata(&TaskFile::plain(Command::FlushCacheExt));
        self.after(&mut state, done)
    }

    /// Moves `len` bytes from `lba` on with as many commands as it takes; `before` and `after` fill and drain the first
    /// so many bytes of the buffers around each.
    fn commands(
        &self,
        command: Command,
        mut lba: u64,
        len: u64,
        mut before: impl FnMut(&mut DmaArea<'_>, usize),
        mut after: impl FnMut(&DmaArea<'_>, usize),
    ) -> Result<(), AtaError> {
        let sector = self.identity.sector_size;
        if !len.is_multiple_of(u64::from(sector)) {
            return Err(AtaError::Unaligned { len, sector });
        }
        let (sectors, capacity) = (len / u64::from(sector), self.capacity());
        let out_of_range = AtaError::OutOfRange { lba, sectors, capacity };
        if lba.checked_add(sectors).is_none_or(|end| end > capacity) {
            return Err(out_of_range);
        }
        let mut left = len;
        while left > 0 {
            // Sectors are at most as large as the buffers, and both are powers of two.
            let bytes = left.min(dma::CAPACITY as u64) as usize;
            let sectors = bytes as u32 / sector;
            let tf = TaskFile::transfer(command, lba, sectors).ok_or(out_of_range)?;
            let mut state = self.state.lock();
            self.usable(&mut state)?;
            before(&mut state.area, bytes);
            self.run(&mut state, &tf, bytes)?;
            after(&state.area, bytes);
            lba += u64::from(sectors);
            left -= bytes as u64;
        }
        Ok(())
    }

    /// Runs one command over the first `bytes` bytes of the buffers.
    fn run(&self, state: &mut State<'b>, tf: &TaskFile, bytes: usize) -> Result<(), AtaError> {
        let lent = state.area.lend(bytes, tf.command == Command::ReadDmaExt)?;
        let done = self.host.dma(tf, lent.table());
        let done = self.after(state, done);
        // What a controller that does not stand still has, it keeps until the binding ends (P11).
        if done.is_err() && !matches!(self.host.controller.halt(), Ok(true) | Err(IoError::Gone)) {
            state.health = Health::Dead(AtaError::Stuck.words());
            return done;
        }
        let back = state.area.take_back(lent);
        if back.is_err() {
            state.health = Health::Dead("a buffer did not come back");
        }
        done.and(back.map_err(AtaError::Dma))
    }

    /// Sees before each command that the disk is there, and still the one that the port was started with.
    fn usable(&self, state: &mut State<'_>) -> Result<(), AtaError> {
        if self.host.closing.load(Ordering::Acquire) {
            return Err(AtaError::Stopping);
        }
        match state.health {
            Health::Dead(why) => return Err(AtaError::Dead(why)),
            Health::Lost { why, down, next } => {
                let back = down && self.host.controller.link().is_ok();
                if !back && self.host.now() < next {
                    return Err(AtaError::Dead(why));
                }
            }
            Health::Works if self.host.controller.link_changed()? => {
                self.host.dev.log(format_args!("the link was lost meanwhile; asking the disk who it is"));
            }
            Health::Works => return Ok(()),
        }
        self.recover(state)
    }

    /// Looks after the port when a command went wrong, and passes the result on.
    fn after(&self, state: &mut State<'_>, done: Result<(), AtaError>) -> Result<(), AtaError> {
        let Err(error) = done else { return Ok(()) };
        if error.needs_reset() && !self.host.closing.load(Ordering::Acquire) {
            self.host.dev.log(format_args!("{error}; resetting the port"));
            // The caller learns of its own command; whether the port works the next one sees.
            let _ = self.recover(state);
        }
        Err(error)
    }

    /// Resets the port until the same disk answers, or gives it up.
    fn recover(&self, state: &mut State<'_>) -> Result<(), AtaError> {
        match self.revive() {
            Ok(()) => {
                self.host.dev.log(format_args!("the port works again"));
                state.health = Health::Works;
                Ok(())
            }
            Err(e) if e.may_come_back() => {
                if state.health == Health::Works {
                    self.host.dev.log(format_args!("the disk does not come back ({e}); the next command looks for it"));
                }
                let down = matches!(e, AtaError::LinkDown { .. });
                state.health = Health::Lost { why: e.words(), down, next: self.host.now() + TRY_AGAIN };
                Err(AtaError::Dead(e.words()))
            }
            Err(e) => {
                self.host.dev.log(format_args!("the port is given up: {e}"));
                state.health = Health::Dead(e.words());
                Err(AtaError::Dead(e.words()))
            }
        }
    }

    /// Stops the engine, resets the device, the link if that is not enough, and the whole controller if the engine does
    /// not stop; then looks whether the same disk is there.
    fn revive(&self) -> Result<(), AtaError> {
        let controller = &self.host.controller;
        let halted = controller.halt()?;
        if !halted && !controller.reset()? {
            return Err(AtaError::Stuck);
        }
        let whole = !halted || controller.link().is_err();
        let identity = match self.host.begin(whole) {
            Err(AtaError::NotReady(_)) if !whole => self.host.begin(true)?,
            other => other?,
        };
        self.identity.same_disk(&identity)?;
        // It was asked who it is, and has stayed.
        if controller.link_changed()? { Err(AtaError::LinkChanged) } else { Ok(()) }
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

    fn flush(&self) -> Result<(), BlockError> {
        Ok(Port::flush(self)?)
    }
}

/// A place in a list of buffers.
#[derive(Default)]
struct Cursor {
    buffer: usize,
    offset: usize,
}

impl Cursor {
    /// Goes on by at most `most` bytes inside one buffer: its number, and which of its bytes. `None` when `most` is 0 or
    /// the last buffer is used up. `len_of` gives the length of a buffer, or `None` past the last.
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
    fn a_walk_crosses_buffers_of_any_length_and_goes_on_where_it_stopped() {
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
