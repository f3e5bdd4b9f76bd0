//! The property `ranges` of a host bridge in a device tree.

use alloc::vec::Vec;

use super::{Space, Window};
use crate::addr::PhysAddr;

/// Highest cell of a PCI address (IEEE 1275 PCI binding, 2.2.1.1): address space, and prefetchable memory.
const SPACE: u32 = 3 << 24;
const IO: u32 = 1 << 24;
const MEMORY_32: u32 = 2 << 24;
const MEMORY_64: u32 = 3 << 24;
const PREFETCHABLE: u32 = 1 << 30;

impl Window {
    /// Windows of a host bridge by its property `ranges`: for each a PCI address of three cells, an address of `parent_cells` cells
    /// (1 or 2; `#address-cells` of the parent), and a length of two cells. Memory above 4 GiB counts as prefetchable, since
    /// 32-bit registers cannot have addresses there. `None` when the property is malformed.
    pub fn from_ranges(value: &[u8], parent_cells: usize) -> Option<Vec<Self>> {
        let (cells, rest) = value.as_chunks::<4>();
        let entry = 5 + parent_cells;
        if !rest.is_empty() || !(1..=2).contains(&parent_cells) || !cells.len().is_multiple_of(entry) {
            return None;
        }
        let number = |cells: &[[u8; 4]]| cells.iter().fold(0, |n, cell| n << 32 | u64::from(u32::from_be_bytes(*cell)));
        let window = |entry: &[[u8; 4]]| {
            let (kind, bus) = (u32::from_be_bytes(entry[0]), number(&entry[1..3]));
            let (phys, len) = (number(&entry[3..3 + parent_cells]), number(&entry[3 + parent_cells..]));
            let space = match kind & SPACE {
                IO => Space::Io,
                MEMORY_32 | MEMORY_64 if kind & PREFETCHABLE != 0 || bus >> 32 != 0 => Space::Prefetchable,
                MEMORY_32 | MEMORY_64 => Space::Memory,
                // Configuration space: no addresses that a register could have.
                _ => return Some(None),
            };
            let ends = |first: u64| len.checked_sub(1).and_then(|rest| first.checked_add(rest));
            (ends(bus).is_some() && ends(phys).is_some()).then_some(Some(Self {
                space,
                bus,
                phys: PhysAddr(phys),
                len,
            }))
        };
        let windows: Option<Vec<_>> = cells.chunks_exact(entry).map(window).collect();
        windows.map(|windows| windows.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn bytes(cells: &[u32]) -> Vec<u8> {
        cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()
    }

    #[test]
    fn ranges_are_read_with_one_or_two_cells_of_the_parent() {
        let two = bytes(&[IO, 0, 0, 0, 0x3eff_0000, 0, 0x1_0000, MEMORY_64, 0x80, 0, 0x80, 0, 0x80, 0]);
        let window = |space, bus, phys, len| Window { space, bus, phys: PhysAddr(phys), len };
        let high = window(Space::Prefetchable, 0x80_0000_0000, 0x80_0000_0000, 0x80_0000_0000);
        assert_eq!(Window::from_ranges(&two, 2), Some(vec![window(Space::Io, 0, 0x3eff_0000, 0x1_0000), high]));
        let one = bytes(&[
            MEMORY_32,
            0,
            0x2000_0000,
            0x4000_0000,
            0,
            0x1000,
            MEMORY_32 | PREFETCHABLE,
            0,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            0,
            0,
            8,
        ]);
        let windows = [window(Space::Memory, 0x2000_0000, 0x4000_0000, 0x1000), window(Space::Prefetchable, 0, 0, 1)];
        assert_eq!(Window::from_ranges(&one, 1), Some(windows.to_vec()), "configuration space is left out");
        assert_eq!(Window::from_ranges(&[], 2), Some(vec![]));
    }

    /// What has addresses in a window is on the bus: the CPU's address does not count.
    #[test]
    fn memory_is_prefetchable_by_its_bit_or_by_an_address_on_the_bus_above_4_gib() {
        let addresses = [0, 0x4000_0000, 0xffff_f000, 1 << 32, 0x10_4000_0000, u64::MAX << 12];
        for kind in [0, IO, MEMORY_32, MEMORY_64] {
            for bit in [0, PREFETCHABLE] {
                for bus in addresses {
                    for phys in addresses {
                        let high_and_low = |address: u64| [(address >> 32) as u32, address as u32];
                        let [bus_cells, phys_cells] = [bus, phys].map(high_and_low);
                        let value = bytes(&[&[kind | bit][..], &bus_cells, &phys_cells, &[0, 0x1000]].concat());
                        let space = match kind {
                            0 => None,
                            IO => Some(Space::Io),
                            _ if bit != 0 || bus > u32::MAX.into() => Some(Space::Prefetchable),
                            _ => Some(Space::Memory),
                        };
                        let expected = space.map(|space| Window { space, bus, phys: PhysAddr(phys), len: 0x1000 });
                        let found = Window::from_ranges(&value, 2);
                        assert_eq!(
                            found,
                            Some(expected.into_iter().collect()),
                            "{kind:#x} {bit:#x} {bus:#x} {phys:#x}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn malformed_ranges_are_refused() {
        let good = bytes(&[MEMORY_32, 0, 0, 0, 0, 0, 0x1000]);
        for (value, cells) in [(&good[1..], 2), (&good[4..], 2), (&good[..], 1), (&good[..], 3), (&good[..], 0)] {
            assert_eq!(Window::from_ranges(value, cells), None, "{value:?} {cells}");
        }
        for wrong in [
            [MEMORY_32, 0, 0, 0, 0, 0, 0],
            [MEMORY_64, u32::MAX, u32::MAX, 0, 0, 0, 2],
            [IO, 0, 0, u32::MAX, u32::MAX, 0, 2],
        ] {
            assert_eq!(Window::from_ranges(&bytes(&wrong), 2), None, "no bytes, or past the end: {wrong:x?}");
        }
    }
}
