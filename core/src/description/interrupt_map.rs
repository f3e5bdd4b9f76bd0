//! Interrupts of the devices behind a bridge (`interrupt-map`).

use alloc::vec::Vec;

use super::Resource;

/// An `interrupt-map`, its entries resolved to lines of interrupt controllers: which line a device behind the bridge has, by its unit
/// address and the specifier of its interrupt (PCI: the pin).
///
/// ```
/// use bindery::device::{InterruptMap, IrqLine, Resource, Trigger};
///
/// // One cell of unit address, of which bits 8 to 15 count, and one of specifier.
/// let mut map = InterruptMap::new(vec![0xff00, 7]);
/// let line = Resource::Irq { line: IrqLine(82), trigger: Trigger::LevelHigh };
/// map.push(vec![0x100, 1], line.clone());
/// assert_eq!(map.find(&[0x1_0100, 1]), Some(&line));
/// assert_eq!(map.find(&[0x100, 2]), None);
/// assert_eq!(map.find(&[1]), None);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterruptMap {
    mask: Vec<u32>,
    entries: Vec<(Vec<u32>, Resource)>,
}

impl InterruptMap {
    /// A map without entries, in which the bits of `mask` (`interrupt-map-mask`) count: cells of the unit address, then those of the
    /// specifier.
    pub const fn new(mask: Vec<u32>) -> Self {
        Self { mask, entries: Vec::new() }
    }

    /// Adds an entry: unit address and specifier, and the interrupt.
    pub fn push(&mut self, key: Vec<u32>, interrupt: Resource) {
        self.entries.push((key, interrupt));
    }

    /// The interrupt of the first entry for these cells of unit address and specifier. `None` when there is none, or for another number
    /// of cells than the mask has.
    pub fn find(&self, wanted: &[u32]) -> Option<&Resource> {
        let matches = |key: &[u32]| {
            key.len() == wanted.len()
                && key.iter().zip(wanted).zip(&self.mask).all(|((k, w), mask)| (k ^ w) & mask == 0)
        };
        let right = wanted.len() == self.mask.len();
        self.entries.iter().find(|(key, _)| right && matches(key)).map(|(_, interrupt)| interrupt)
    }
}
