//! Hardware that a session's host runs on.

use std::sync::Arc;

use bindery::env::Env;
use bindery::machine::{Handle, Machine, Policy};
use bindery_qtest::{Options, QemuEnv};
use bindery_sim::board::Board;

use crate::failure::{Failure, Result};
use crate::record::EventLog;

/// Bits of an address that an `edu` drives when its property `dma_mask` says nothing.
const EDU_BITS: u32 = 28;
/// RAM of QEMU's machine `virt` begins at 1 GiB, out of reach for these.
const VIRT_MASK: u64 = 0xffff_ffff;

/// Machine of QEMU (`-machine`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum QemuMachine {
    /// x86-64 with PCI Express (`qemu-system-x86_64`)
    Q35,
    /// 64-bit Arm with PCI Express by a device tree (`qemu-system-aarch64`)
    Virt,
}

impl QemuMachine {
    /// Its name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q35 => "QEMU's machine q35",
            Self::Virt => "QEMU's machine virt",
        }
    }

    /// The machine.
    pub(crate) const fn kind(self) -> bindery_qtest::Machine {
        match self {
            Self::Q35 => bindery_qtest::Machine::Q35,
            Self::Virt => bindery_qtest::Machine::Virt,
        }
    }

    /// Starts it with `devices`, each as `-device` takes it. Also returns the bits of an address that every `edu` among them drives.
    pub(super) fn start(self, devices: &[String]) -> Result<(Arc<QemuEnv>, u32)> {
        let (mut options, mut bits) = (Options::new(self.kind()), u32::MAX);
        for device in devices {
            let (device, drives) = self.device(device);
            options = options.device(&device);
            bits = bits.min(drives.unwrap_or(bits));
        }
        let bits = if bits == u32::MAX { EDU_BITS } else { bits };
        Ok((Arc::new(QemuEnv::start(&options).map_err(Failure::Qemu)?), bits))
    }

    /// `device` as QEMU gets it: an `edu` of `virt` reaches RAM, unless it is told another mask. For an `edu` also the bits of an
    /// address that it drives.
    fn device(self, device: &str) -> (String, Option<u32>) {
        let mut properties = device.split(',');
        let kind = properties.next().unwrap_or_default();
        if kind.strip_prefix("driver=").unwrap_or(kind) != "edu" {
            return (device.into(), None);
        }
        // What QEMU does not take either ends it with its own words.
        let mask = properties.find_map(|property| property.strip_prefix("dma_mask=")).map(|mask| {
            let digits = mask.strip_prefix("0x");
            digits.map_or_else(|| mask.parse(), |digits| u64::from_str_radix(digits, 16)).unwrap_or(0)
        });
        match (mask, self) {
            (Some(mask), _) => (device.into(), Some(mask.trailing_ones())),
            (None, Self::Q35) => (device.into(), Some(EDU_BITS)),
            (None, Self::Virt) => (format!("{device},dma_mask={VIRT_MASK:#x}"), Some(VIRT_MASK.trailing_ones())),
        }
    }
}

/// The hardware.
pub enum Target {
    /// A simulated board.
    Board(Arc<Board>),
    /// A machine of QEMU.
    Qemu(Arc<QemuEnv>),
}

impl Target {
    /// The board, if it is simulated.
    pub fn board(&self) -> Option<&Arc<Board>> {
        match self {
            Self::Board(board) => Some(board),
            Self::Qemu(_) => None,
        }
    }

    /// A host on it, whose events are in `log`.
    pub(super) fn machine(&self, policy: Policy, log: &EventLog) -> Handle {
        let listener = log.listener("host");
        match self {
            Self::Board(board) => {
                board.on_event(listener);
                board.machine(policy)
            }
            Self::Qemu(env) => {
                env.on_event(Arc::from(listener));
                Machine::new(Arc::clone(env) as Arc<dyn Env>, policy)
            }
        }
    }

    /// Delivers what is pending.
    pub fn run_pending(&self) {
        match self {
            Self::Board(board) => board.run_pending(),
            Self::Qemu(env) => env.run_pending(),
        };
    }

    /// Misuse of the simulated hardware. QEMU tells of none.
    pub fn model_errors(&self) -> Vec<String> {
        self.board().map_or_else(Vec::new, |board| board.model_errors().iter().map(ToString::to_string).collect())
    }

    /// Checks that the hardware is still there.
    ///
    /// # Errors
    ///
    /// QEMU has ended or does not answer: nothing of what came after that can be relied on.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Qemu(env) => env.error().map_or(Ok(()), |error| Err(Failure::QemuStopped(error))),
            Self::Board(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edu_of_virt_reaches_ram_and_its_mask_is_read() {
        let device = |machine: QemuMachine, text| machine.device(text);
        assert_eq!(device(QemuMachine::Virt, "edu,id=a"), ("edu,id=a,dma_mask=0xffffffff".into(), Some(32)));
        assert_eq!(device(QemuMachine::Q35, "edu"), ("edu".into(), Some(28)));
        assert_eq!(device(QemuMachine::Virt, "edu,dma_mask=0xffff").1, Some(16));
        assert_eq!(device(QemuMachine::Q35, "driver=edu,dma_mask=1048575").1, Some(20));
        assert_eq!(device(QemuMachine::Q35, "edu,dma_mask=many"), ("edu,dma_mask=many".into(), Some(0)));
        assert_eq!(device(QemuMachine::Virt, "nvme,serial=edu"), ("nvme,serial=edu".into(), None));
    }
}
