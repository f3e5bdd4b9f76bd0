//! Disk access: through a driver, and as the image file.

use std::fmt;

use bindery_drivers::edu::Edu;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::disk::{Disk, SECTOR};

use super::{Port, Session};
use crate::failure::Failure;
use crate::script::{Side, parse};

#[cfg(test)]
mod tests;

/// Most sectors of an area: more than one descriptor, and more than one of the driver's buffers.
const MOST: u64 = 72;

/// A range of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Area {
    /// First sector.
    #[arg(value_parser = parse::lba)]
    pub lba: u64,
    /// Number of sectors.
    #[arg(value_parser = parse::sectors, value_name = "COUNT")]
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

/// Transfer of whole sectors.
enum Access<'a> {
    Read(&'a mut [u8]),
    Write(&'a [u8]),
}

impl Session {
    /// The driver of the device, if the host has one for its data that holds it now.
    pub fn port(&self) -> Option<Port> {
        let device = self.device()?;
        let disk = self.host.client::<SataRcar>(device.name()).map(Port::Disk);
        disk.or_else(|| self.host.client::<Edu>(device.name()).map(Port::Edu))
    }

    /// The sectors of `area` by way of `side`.
    pub fn read(&self, side: Side, area: Area) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; (area.sectors * SECTOR) as usize];
        self.access(side, area.lba, Access::Read(&mut bytes)).map(|()| bytes)
    }

    /// Writes whole sectors by way of `side`, and waits until they are on the medium.
    pub fn write(&self, side: Side, lba: u64, bytes: &[u8]) -> Result<(), String> {
        self.access(side, lba, Access::Write(bytes))
    }

    fn access(&self, side: Side, lba: u64, access: Access<'_>) -> Result<(), String> {
        let port = match side {
            Side::Host => self.port().ok_or_else(|| self.why_no_port())?,
            Side::Guest => {
                let guest = self.guest.as_ref().ok_or("no guest runs")?;
                Port::Disk(guest.client().ok_or("the guest's driver does not hold the controller")?)
            }
            Side::Image => {
                let at = lba.saturating_mul(SECTOR);
                let image = |disk: &mut Disk| match access {
                    Access::Read(bytes) => disk.read(at, bytes),
                    Access::Write(bytes) => disk.write(at, bytes),
                };
                let board = self.target.board().ok_or("there is no disk image")?;
                return board.with_disk(image).ok_or("there is no disk image")?.map_err(|error| error.to_string());
            }
        };
        match access {
            Access::Read(bytes) => port.read(lba, bytes),
            Access::Write(bytes) => port.write(lba, bytes),
        }
    }

    fn why_no_port(&self) -> String {
        let Some(device) = self.device() else { return "no disk: the machine has no disk controller".into() };
        let driver = device.driver().map_or("not bound".into(), |driver| format!("bound to {driver}"));
        format!("no disk: {} is {driver}", device.name())
    }

    /// Called when the disk did not take what was written: an error when the reason is that the host cannot write the image, so that the
    /// board is not at fault. Looks at what has happened to the disk, and writes nothing.
    pub fn check_host_io(&self) -> crate::failure::Result<()> {
        let failure = self.target.board().and_then(|board| board.with_disk(Disk::take_failure)).flatten();
        failure.map_or(Ok(()), |error| Err(Failure::Write { what: self.disk.clone(), error }))
    }
}
