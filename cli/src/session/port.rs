//! Data paths of devices, through their drivers.

use bindery::driver::Client;
use bindery_drivers::edu::{self, Edu};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::disk::SECTOR;

/// A client of the driver of a disk controller, or of an `edu`, whose buffer is taken for a disk of a few sectors.
#[derive(Clone, Debug)]
pub enum Port {
    /// A disk controller.
    Disk(Client<SataRcar>),
    /// QEMU's device for teaching.
    Edu(Client<Edu>),
}

/// Sectors of the buffer of an `edu`.
pub const EDU_SECTORS: u64 = edu::LEN as u64 / SECTOR;

impl Port {
    /// Number of sectors.
    ///
    /// # Errors
    ///
    /// The driver does not hold the device any more.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method by itself is not general enough over the binding's lifetime"
    )]
    pub fn capacity(&self) -> Result<u64, String> {
        match self {
            Self::Disk(client) => client.call(|port| port.capacity()).map_err(|gone| gone.to_string()),
            Self::Edu(client) => client.call(|_| EDU_SECTORS).map_err(|gone| gone.to_string()),
        }
    }

    pub(super) fn read(&self, lba: u64, bytes: &mut [u8]) -> Result<(), String> {
        match self {
            Self::Disk(client) => told(client.call(|port| port.read(lba, bytes))),
            Self::Edu(client) => told(client.call(|port| port.read(byte(lba), bytes))),
        }
    }

    /// Writes, and waits until all is on the medium.
    pub(super) fn write(&self, lba: u64, bytes: &[u8]) -> Result<(), String> {
        match self {
            Self::Disk(client) => told(client.call(|port| port.write(lba, bytes).and_then(|()| port.flush()))),
            Self::Edu(client) => told(client.call(|port| port.write(byte(lba), bytes))),
        }
    }
}

fn told<E: ToString, G: ToString>(done: Result<Result<(), E>, G>) -> Result<(), String> {
    done.map_err(|gone| gone.to_string())?.map_err(|error| error.to_string())
}

/// Byte of the buffer at which a sector begins.
fn byte(lba: u64) -> usize {
    lba.saturating_mul(SECTOR) as usize
}
