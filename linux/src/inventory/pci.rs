//! PCI configuration space: header type, extended capabilities, access control.

use std::fmt;

use super::{Device, Inventory};
use crate::face::{Face, READ_DEADLINE};

/// PCI Express Base Specification, 7.9.3 and 7.7.8: identifiers of extended capabilities.
const EXT_CAP_SERIAL: u16 = 0x0003;
const EXT_CAP_ACS: u16 = 0x000d;
/// 7.7.8.3: source validation, P2P request redirect, P2P completion redirect, upstream forwarding.
const ACS_ISOLATES: u16 = 0x001d;

/// The configuration space of a device, as far as the reader may see it: 64, 256 or 4096 bytes.
#[derive(Debug, Clone)]
pub struct Config(Vec<u8>);

impl Config {
    /// Reads the configuration space. A device that sleeps is woken for that.
    pub fn read(face: &dyn Face, device: &Device) -> Option<Self> {
        if device.bus != "pci" {
            return None;
        }
        face.read_within(&device.attribute("config"), READ_DEADLINE).ok().map(Self)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        Some(u16::from_le_bytes(self.0.get(at..at + 2)?.try_into().ok()?))
    }

    fn u32(&self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.0.get(at..at + 4)?.try_into().ok()?))
    }

    /// True when the device does not answer: every read from the bus is all ones. A virtual function answers, although its
    /// vendor and device are all ones: they are the physical function's.
    pub fn is_dead(&self) -> bool {
        self.0.len() >= 4 && self.0.iter().take(16).all(|&byte| byte == 0xff)
    }

    /// True for header types 1 and 2, which VFIO does not take.
    pub fn is_bridge(&self) -> bool {
        !self.is_dead() && self.0.get(0x0e).is_some_and(|kind| kind & 0x7f != 0)
    }

    /// The offset of an extended capability.
    fn extended(&self, id: u16) -> Option<usize> {
        let mut at = 0x100;
        // Each capability takes at least 8 bytes, so a longer chain is a loop.
        for _ in 0..(4096 - 256) / 8 {
            let header = self.u32(at)?;
            if header == 0 || header == u32::MAX {
                return None;
            }
            if header as u16 == id {
                return Some(at);
            }
            at = (header >> 20) as usize & 0xffc;
            if at < 0x100 {
                return None;
            }
        }
        None
    }

    /// The serial number capability, as `00-11-22-33-44-55-66-77`.
    pub fn serial(&self) -> Option<String> {
        let at = self.extended(EXT_CAP_SERIAL)?;
        let number = u64::from(self.u32(at + 8)?) << 32 | u64::from(self.u32(at + 4)?);
        Some(number.to_be_bytes().map(|byte| format!("{byte:02x}")).join("-"))
    }

    /// The state of access control services.
    pub fn acs(&self) -> Acs {
        if self.0.len() <= 256 {
            return Acs::Unknown;
        }
        match self.extended(EXT_CAP_ACS) {
            None => Acs::Missing,
            Some(at) => match self.u16(at + 6) {
                Some(control) if control & ACS_ISOLATES == ACS_ISOLATES => Acs::On,
                Some(_) => Acs::Off,
                None => Acs::Unknown,
            },
        }
    }
}

/// Access control services of one bridge on the way to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acs {
    /// Redirects all peer-to-peer traffic upwards.
    On,
    /// Capable, but not all of it is switched on.
    Off,
    /// Not capable.
    Missing,
    /// The configuration space beyond 256 bytes cannot be read.
    Unknown,
}

impl fmt::Display for Acs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Missing => "not capable",
            Self::Unknown => "unknown",
        })
    }
}

/// The bridges above a device, nearest first, with their access control.
pub fn acs_on_the_way(face: &dyn Face, inventory: &Inventory, device: &Device) -> Vec<(String, Acs)> {
    let mut bridges = Vec::new();
    let mut path = crate::path::parent(&device.path);
    while let Some(bridge) = inventory.at(path).filter(|b| b.bus == "pci") {
        bridges.push((bridge.name.clone(), Config::read(face, bridge).map_or(Acs::Unknown, |c| c.acs())));
        path = crate::path::parent(path);
    }
    bridges
}

/// Rating of the isolation that the kernel's IOMMU groups claim.
pub fn rate_isolation(face: &dyn Face) -> &'static str {
    let line = face.try_text("/proc/cmdline").unwrap_or_default();
    if line.split_whitespace().any(|word| word.starts_with("pcie_acs_override=")) {
        "asserted, not proven: the kernel command line has pcie_acs_override"
    } else {
        "as the kernel found it"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(caps: &[(usize, u16, usize)]) -> Config {
        let mut bytes = vec![0; 4096];
        for &(at, id, next) in caps {
            let header = u32::from(id) | 1 << 16 | (next as u32) << 20;
            bytes[at..at + 4].copy_from_slice(&header.to_le_bytes());
        }
        Config(bytes)
    }

    #[test]
    fn access_control_is_on_only_with_all_redirects() {
        let mut config = config(&[(0x100, 0x0001, 0x140), (0x140, EXT_CAP_ACS, 0)]);
        assert_eq!(config.acs(), Acs::Off);
        config.0[0x146] = 0x1d;
        assert_eq!(config.acs(), Acs::On);
    }

    #[test]
    fn a_chain_of_capabilities_that_loops_ends() {
        assert_eq!(config(&[(0x100, 1, 0x140), (0x140, 2, 0x100)]).acs(), Acs::Missing);
    }

    #[test]
    fn a_short_configuration_space_proves_nothing() {
        assert_eq!(Config(vec![0; 256]).acs(), Acs::Unknown);
        assert!(!Config(Vec::new()).is_dead());
        assert!(Config(vec![0xff; 64]).is_dead());
    }

    #[test]
    fn a_virtual_function_answers_with_all_ones_for_vendor_and_device() {
        let mut bytes = vec![0; 64];
        bytes[..4].fill(0xff);
        assert!(!Config(bytes).is_dead());
    }
}
