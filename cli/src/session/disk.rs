//! Disk access: through a driver, and as the image file.

use std::fmt;

use bindery::driver::Client;
use bindery_drivers::ata::AtaError;
use bindery_drivers::sata_rcar::{Port, SataRcar};
use bindery_sim::disk::{Disk, SECTOR};

use super::Session;
use crate::failure::Failure;
use crate::script::Side;

/// Most sectors of an area: more than one descriptor, and more than one of the driver's buffers.
const MOST: u64 = 72;

/// A range of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First sector.
    pub lba: u64,
    /// Number of sectors.
    pub sectors: u64,
}

impl Area {
    /// The sectors that the main job uses for host and guest on a disk of `capacity` sectors (at least 1): the last ones,
    /// half of them each. They are the same on a disk of one.
    pub fn of(capacity: u64) -> (Self, Self) {
        let sectors = (capacity / 2).clamp(1, MOST);
        let at = |from_end: u64| Self { lba: capacity.saturating_sub(from_end * sectors), sectors };
        (at(2), at(1))
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sectors {} to {}", self.lba, self.lba + self.sectors - 1)
    }
}

/// Test pattern of `who` for `area`: each sector begins with the name and its number, and the bytes behind differ from
/// sector to sector.
pub fn pattern(who: &str, area: Area) -> Vec<u8> {
    let mut bytes = Vec::new();
    for lba in area.lba..area.lba + area.sectors {
        let mut sector = format!("bindery: {who}, sector {lba}\n").into_bytes();
        let mut x =
            lba as u32 ^ who.bytes().fold(0x811c_9dc5, |h: u32, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        sector.resize_with(SECTOR as usize, || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        });
        bytes.extend(sector);
    }
    bytes
}

/// Offset in bytes of the first difference between two readings of the same sectors.
pub fn first_difference(wanted: &[u8], read: &[u8]) -> Option<usize> {
    let differ = wanted.iter().zip(read).position(|(a, b)| a != b);
    differ.or_else(|| (wanted.len() != read.len()).then_some(wanted.len().min(read.len())))
}

impl Session {
    /// The host's SATA driver, if it holds the controller now.
    pub fn port(&self) -> Option<Client<SataRcar>> {
        self.host.client::<SataRcar>(self.sata()?.name())
    }

    /// The sectors of `area` by way of `side`.
    pub fn read(&self, side: Side, area: Area) -> Result<Vec<u8>, String> {
        if side != Side::Image {
            return read(&self.port_of(side)?, area);
        }
        let read = |disk: &mut Disk| {
            let mut bytes = vec![0; (area.sectors * SECTOR) as usize];
            disk.read(area.lba.saturating_mul(SECTOR), &mut bytes).map(|()| bytes)
        };
        self.board.with_disk(read).ok_or("there is no disk image")?.map_err(|error| error.to_string())
    }

    /// Writes whole sectors by way of `side`, and waits until they are on the medium.
    pub fn write(&self, side: Side, lba: u64, bytes: &[u8]) -> Result<(), String> {
        if side != Side::Image {
            return write(&self.port_of(side)?, lba, bytes);
        }
        let write = |disk: &mut Disk| disk.write(lba.saturating_mul(SECTOR), bytes);
        self.board.with_disk(write).ok_or("there is no disk image")?.map_err(|error| error.to_string())
    }

    fn port_of(&self, side: Side) -> Result<Client<SataRcar>, String> {
        if side == Side::Guest {
            let guest = self.guest.as_ref().ok_or("no guest runs")?;
            return guest.port().ok_or_else(|| "the guest's driver does not hold the controller".into());
        }
        let Some(sata) = self.sata() else { return Err("no disk: the machine has no disk controller".into()) };
        self.port().ok_or_else(|| match sata.driver() {
            Some(driver) => format!("no disk: {} is bound to {driver}", sata.name()),
            None => format!("no disk: {} is not bound", sata.name()),
        })
    }

    /// Called when the disk did not take `bytes` at sector `lba`, which it has: an error when the host cannot write the
    /// image, so that the board is not at fault.
    pub fn check_host_io(&self, lba: u64, bytes: &[u8]) -> crate::failure::Result<()> {
        let directly = self.board.with_disk(|disk| {
            let end = lba.checked_add(bytes.len() as u64 / SECTOR);
            if end.is_none_or(|end| end > disk.sectors()) {
                return Ok(());
            }
            disk.write(lba * SECTOR, bytes).and_then(|()| disk.flush())
        });
        match directly {
            Some(Err(error)) => Err(Failure::Write { what: self.disk.clone(), error }),
            _ => Ok(()),
        }
    }
}

/// Sectors of the disk behind `client`.
#[expect(clippy::redundant_closure, reason = "the method by itself is not general enough over the binding's lifetime")]
pub fn capacity(client: &Client<SataRcar>) -> Result<u64, String> {
    client.call(|port| Port::capacity(port)).map_err(|gone| gone.to_string())
}

/// Reads `area` through the driver behind `client`.
fn read(client: &Client<SataRcar>, area: Area) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; (area.sectors * SECTOR) as usize];
    call(client, |port| port.read(area.lba, &mut bytes))?;
    Ok(bytes)
}

/// Writes `bytes` from sector `lba` on through the driver behind `client`, and waits until they are on the medium.
fn write(client: &Client<SataRcar>, lba: u64, bytes: &[u8]) -> Result<(), String> {
    call(client, |port| port.write(lba, bytes).and_then(|()| port.flush()))
}

fn call<R>(client: &Client<SataRcar>, act: impl FnOnce(&Port<'_>) -> Result<R, AtaError>) -> Result<R, String> {
    match client.call(act) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.to_string()),
        Err(gone) => Err(gone.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_fit_the_disk_and_do_not_overlap_when_there_is_room() {
        for capacity in [1, 2, 3, 143, 144, 145, 65_536] {
            let (host, guest) = Area::of(capacity);
            assert!(host.sectors >= 1 && guest.lba + guest.sectors == capacity, "{capacity}");
            assert!(capacity == 1 || host.lba + host.sectors == guest.lba, "{capacity}");
        }
    }

    #[test]
    fn every_sector_of_a_pattern_differs_and_says_whose_it_is() {
        let area = Area { lba: 5, sectors: 3 };
        let bytes = pattern("host", area);
        assert_eq!(bytes.len(), 3 * 512);
        assert!(bytes.starts_with(b"bindery: host, sector 5\n"));
        assert_ne!(bytes[100..512], bytes[612..1024]);
        assert_ne!(bytes, pattern("guest", area));
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"abd"), Some(2));
        assert_eq!(first_difference(b"abc", b"ab"), Some(2));
    }
}
