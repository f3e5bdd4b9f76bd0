//! Description of a small system: devices, streams, lines, supplies, children. Made from a seed, so that what must not
//! matter (numbers, names, the order in which devices arrive) differs from seed to seed.

use bindery::device::SupplierKind;
use bindery_sim::power::LineId;

use super::ring::PAGE;

/// Names of devices.
pub(super) const DEVICES: [&str; 4] = ["dev-a", "dev-b", "dev-c", "dev-d"];
/// Names of IOMMUs.
pub(super) const IOMMUS: [&str; 2] = ["iommu-a", "iommu-b"];
/// Names of the bridges to PCI functions, the nearest first.
pub(super) const BRIDGES: [&str; 2] = ["0000:01:00.0", "0000:00:01.0"];
/// Names of power controllers.
pub(super) const CONTROLLERS: [&str; 2] = ["power-a", "power-b"];

/// How a device reaches the buffers that its driver streams.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Buffers {
    /// It does not snoop the CPU's cache.
    pub(super) apart: bool,
    /// It reaches memory below 2 GiB only, by itself.
    pub(super) short: bool,
}

/// One device.
#[derive(Clone, Default, Debug)]
pub(super) struct DeviceSpec {
    /// Its streams: IOMMU and number.
    pub(super) streams: Vec<(usize, u32)>,
    /// Interrupt line, if it has one.
    pub(super) line: Option<u32>,
    /// Lines that the core switches and its driver does not see: controller, kind, number. In firmware order.
    pub(super) supplies: Vec<(usize, LineId)>,
    /// Regulator that its driver switches.
    pub(super) regulator: Option<(usize, u32)>,
    /// Device whose driver adds this one.
    pub(super) parent: Option<usize>,
    /// Device below which firmware describes this one.
    pub(super) below: Option<usize>,
    /// Firmware has it use two pages that must stay mapped.
    pub(super) region: bool,
    /// Its driver streams buffers.
    pub(super) buffers: Option<Buffers>,
    /// It is a PCI function behind the bridges [`BRIDGES`].
    pub(super) pci: bool,
}

impl DeviceSpec {
    /// One behind the first IOMMU.
    pub(super) fn on(stream: u32) -> Self {
        Self { streams: vec![(0, stream)], ..Self::default() }
    }
}

/// A small system.
#[derive(Clone, Default, Debug)]
pub(super) struct Topology {
    /// For each IOMMU: true when it isolates streams from each other.
    pub(super) iommus: Vec<bool>,
    /// The page tables of IOMMUs are in memory, and lease.
    pub(super) leases: bool,
    /// Number of contexts of each IOMMU, if it is limited.
    pub(super) contexts: Option<usize>,
    /// Number of power controllers.
    pub(super) controllers: usize,
    /// Lines that power controllers need: the controller, that of the line, the line.
    pub(super) powered: Vec<(usize, usize, LineId)>,
    pub(super) devices: Vec<DeviceSpec>,
    /// A second driver matches the devices.
    pub(super) spare: bool,
    /// Order in which the devices are added.
    pub(super) arrival: Vec<usize>,
}

/// Source of the numbers that must not matter (`splitmix64`).
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `n`.
    pub(super) fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n.max(1))) as u32
    }

    /// A number from 1 to 40 that differs from those of other `slot`s.
    pub(super) fn distinct(&mut self, slot: u32) -> u32 {
        1 + slot * 10 + self.below(10)
    }

    /// An interrupt line that differs from those of other `slot`s.
    pub(super) fn line(&mut self, slot: u32) -> u32 {
        300 + slot * 50 + self.below(50)
    }
}

impl Topology {
    /// Devices in any order of arrival.
    pub(super) fn of(numbers: &mut Numbers, devices: Vec<DeviceSpec>) -> Self {
        let mut arrival: Vec<usize> = (0..devices.len()).collect();
        for last in (1..arrival.len()).rev() {
            arrival.swap(last, numbers.below(last as u32 + 1) as usize);
        }
        Self { devices, arrival, ..Self::default() }
    }

    pub(super) fn iommus(self, isolates: &[bool]) -> Self {
        Self { iommus: isolates.to_vec(), ..self }
    }

    pub(super) fn leases(self) -> Self {
        Self { leases: true, ..self }
    }

    pub(super) fn contexts(self, contexts: usize) -> Self {
        Self { contexts: Some(contexts), ..self }
    }

    pub(super) fn controllers(self, controllers: usize) -> Self {
        Self { controllers, ..self }
    }

    pub(super) fn powered(self, powered: (usize, usize, LineId)) -> Self {
        Self { powered: vec![powered], ..self }
    }

    /// The devices below device `d`: those that its driver adds, and those that firmware describes there.
    pub(super) fn below(&self, d: usize) -> impl Iterator<Item = usize> + '_ {
        let all = self.devices.iter().enumerate();
        all.filter(move |(_, e)| e.parent == Some(d) || e.below == Some(d)).map(|(e, _)| e)
    }

    /// First and last page of the region that firmware has device `d` use. It overlaps that of the next device.
    pub(super) fn region(&self, d: usize) -> Option<(u64, u64)> {
        let first = 0x7000_0000 + d as u64 * PAGE;
        self.devices[d].region.then_some((first, first + PAGE))
    }

    /// Every supply line of device `d`, with its regulator.
    pub(super) fn lines_of(&self, d: usize) -> impl Iterator<Item = (usize, LineId)> + '_ {
        let device = &self.devices[d];
        let regulator = device.regulator.map(|(controller, number)| (controller, (SupplierKind::Regulator, number)));
        device.supplies.iter().copied().chain(regulator)
    }

    /// The devices in the IOMMU group of device `d`, which are `there`: the closure over streams that their IOMMUs do not
    /// isolate.
    pub(super) fn group(&self, d: usize, there: impl Fn(usize) -> bool) -> Vec<usize> {
        let key = |(iommu, stream): (usize, u32)| (iommu, self.iommus[iommu].then_some(stream));
        let mut found = vec![d];
        loop {
            let keys: Vec<_> = found.iter().flat_map(|d| &self.devices[*d].streams).map(|s| key(*s)).collect();
            let joins = |e: &usize| self.devices[*e].streams.iter().any(|s| keys.contains(&key(*s)));
            let more: Vec<usize> = (0..self.devices.len()).filter(|e| *e == d || (there(*e) && joins(e))).collect();
            if more.len() == found.len() {
                return found;
            }
            found = more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_the_closure_over_streams_of_the_devices_that_are_there() {
        let on = |streams: &[(usize, u32)]| DeviceSpec { streams: streams.to_vec(), ..DeviceSpec::default() };
        let devices = vec![on(&[(0, 1)]), on(&[(0, 2), (1, 1)]), on(&[(1, 1)]), on(&[(1, 3)])];
        let topology = Topology::of(&mut Numbers::new(1), devices).iommus(&[false, true]);
        assert_eq!(topology.group(0, |_| true), [0, 1, 2]);
        assert_eq!(topology.group(0, |e| e != 1), [0]);
        assert_eq!(topology.group(3, |_| true), [3]);
    }

    #[test]
    fn a_seed_gives_the_same_numbers_each_time_and_another_seed_others() {
        let some = |seed| {
            let mut numbers = Numbers::new(seed);
            (0..4).map(|slot| (numbers.distinct(slot), numbers.line(slot))).collect::<Vec<_>>()
        };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        assert!(some(3).windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
    }
}
