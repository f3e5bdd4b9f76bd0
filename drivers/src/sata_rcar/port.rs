//! A port with a disk on it, as users of the driver have it.

use core::ops::Range;

use bindery::binding::Bound;
use bindery::driver::{Busy, ProbeError, Quiet};
use bindery::env::IoError;
use bindery::mutant::Mutant;
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
    /// Why the port was given up.
    dead: Option<&'static str>,
}

impl<'b> Port<'b> {
    /// Brings the controller up, and the disk.
    pub(super) fn start(dev: &'b Bound) -> Result<Self, ProbeError> {
        let controller = Controller::new(dev)?;
        if !controller.reset()? {
            return Err(ProbeError::Device("the DMA engine runs on in reset"));
        }
        // From here on the controller knows no address of ours: memory of an earlier binding that it would not let go
        // of can go back, and new memory can be had.
        dev.quiet(Quiet::stopped());
        let area = DmaArea::new(dev)?;
        let irq = dev.irq(0)?;
        let host = Host { dev, controller, irq, closing: AtomicBool::new(false) };
        match host.begin(true) {
            Ok(identity) => {
                dev.log(format_args!(
                    "{} {}, firmware {}, {} sectors of {} bytes",
                    identity.model, identity.serial, identity.firmware, identity.sectors, identity.sector_size
                ));
                Ok(Self { host, identity, state: Mutex::new(State { area, dead: None }) })
            }
            Err(e) => {
                dev.log(format_args!("{e}"));
                if let Ok(true) = host.controller.rest() {
                    dev.quiet(Quiet::stopped());
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
    pub(super) fn stop(&self) -> Result<Quiet, Busy> {
        self.host.closing.store(true, Ordering::Release);
        let _idle = self.state.lock();
        match self.host.controller.rest() {
            Ok(true) => Ok(Quiet::stopped()),
            Ok(false) => Err(Busy("STOP was written, and ACT stays set")),
            // Whoever took the registers away has seen to the DMA as well.
            Err(IoError::Gone) => Ok(Quiet::gone()),
            Err(IoError::Bad { .. }) => Err(Busy("the registers refuse the stop")),
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
        self.usable(&state)?;
        let done = self.host.plain(&TaskFile::plain(Command::FlushCacheExt));
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
            return Err(AtaError::Ragged { len, sector });
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
            self.usable(&state)?;
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
            state.dead = Some(AtaError::Stuck.words());
            return done;
        }
        let back = state.area.take_back(lent);
        if back.is_err() {
            state.dead = Some("a buffer did not come back");
        }
        done.and(back.map_err(AtaError::Dma))
    }

    fn usable(&self, state: &State<'_>) -> Result<(), AtaError> {
        match state.dead {
            _ if self.host.closing.load(Ordering::Acquire) => Err(AtaError::Stopping),
            Some(why) => Err(AtaError::Dead(why)),
            None => Ok(()),
        }
    }

    /// Looks after the port when a command went wrong, and passes the result on.
    fn after(&self, state: &mut State<'_>, done: Result<(), AtaError>) -> Result<(), AtaError> {
        let Err(error) = done else { return Ok(()) };
        if error.needs_reset() && !self.host.closing.load(Ordering::Acquire) {
            self.host.dev.log(format_args!("{error}; resetting the port"));
            match self.revive() {
                Ok(()) => self.host.dev.log(format_args!("the port works again")),
                Err(e) => {
                    self.host.dev.log(format_args!("the port is given up: {e}"));
                    state.dead = Some(e.words());
                }
            }
        }
        Err(error)
    }

    /// Stops the engine, resets the device, the link if that is not enough, and the whole controller if the engine does
    /// not stop; then looks whether the same disk is there.
    fn revive(&self) -> Result<(), AtaError> {
        let controller = &self.host.controller;
        let halted = controller.halt()?;
        if !halted && !controller.reset()? {
            return Err(AtaError::Stuck);
        }
        if self.host.dev.machine().is_mutant(Mutant::LedgerGrows) {
            let _mapped_again = self.host.dev.mmio(0);
        }
        let whole = !halted || controller.link().is_err();
        let identity = match self.host.begin(whole) {
            Err(AtaError::NotReady(_)) if !whole => self.host.begin(true)?,
            other => other?,
        };
        if identity == self.identity { Ok(()) } else { Err(AtaError::Dead("there is another disk now")) }
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
