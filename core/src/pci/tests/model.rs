//! Model of the functions behind a host bridge.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use std::cell::RefCell;
use std::sync::Mutex;

use crate::env::{Io, IoError, Width};
use crate::pci::{ConfigSpace, FunctionId, Header, Space, Topology, Window};

/// Contents of a function's configuration space, and its writable bits.
#[derive(Clone, Debug)]
pub(super) struct Part {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    /// Bits that a write of ones clears.
    cleared: Vec<u8>,
}

impl Part {
    fn new(header: u8) -> Self {
        let part = Self { bytes: vec![0; 4096], writable: vec![0; 4096], cleared: vec![0; 4096] };
        part.word(0, 0x1234_1af4).word(8, 0x0100_0001).byte(0xe, header).mask(4, 7)
    }

    pub(super) fn device() -> Self {
        Self::new(0)
    }

    /// With all windows, wide ones.
    pub(super) fn bridge() -> Self {
        let part = Self::new(1).word(8, 0x0604_0000).word(0x1c, 0x0101).word(0x24, 0x0001_0001);
        let part = part.mask(0x18, 0xff_ffff).mask(0x1c, 0xf0f0).mask(0x20, 0xfff0_fff0).mask(0x24, 0xfff0_fff0);
        part.mask(0x28, u32::MAX).mask(0x2c, u32::MAX).mask(0x30, u32::MAX)
    }

    pub(super) fn byte(mut self, at: usize, value: u8) -> Self {
        self.bytes[at] = value;
        self
    }

    pub(super) fn word(mut self, at: usize, value: u32) -> Self {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn mask(mut self, at: usize, value: u32) -> Self {
        self.writable[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Bits of a word that a write of ones clears.
    #[cfg(not(loom))]
    pub(super) fn clears(mut self, at: usize, value: u32) -> Self {
        self.cleared[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn multi(self) -> Self {
        let header = self.bytes[0xe] | 0x80;
        self.byte(0xe, header)
    }

    /// BAR `index` with `size` bytes and these lowest bits.
    pub(super) fn bar(self, index: usize, size: u64, low: u32) -> Self {
        let (at, bits) = (0x10 + 4 * index, !(size - 1));
        let fixed = if low & 1 != 0 { 3 } else { 15 };
        let part = self.word(at, low).mask(at, bits as u32 & !fixed);
        if low & 7 == 4 { part.word(at + 4, 0).mask(at + 4, (bits >> 32) as u32) } else { part }
    }

    /// The address of BAR `index`.
    pub(super) fn at(self, index: usize, address: u32) -> Self {
        let at = 0x10 + 4 * index;
        let low = u32::from(self.bytes[at]);
        self.word(at, address | low)
    }

    pub(super) fn command(self, command: u8) -> Self {
        self.byte(4, command)
    }

    pub(super) fn numbers(self, primary: u8, secondary: u8, subordinate: u8) -> Self {
        self.byte(0x18, primary).byte(0x19, secondary).byte(0x1a, subordinate)
    }

    /// The memory window in the register at `at`.
    pub(super) fn window(self, at: usize, first: u32, last: u32) -> Self {
        self.word(at, first >> 16 | last & 0xfff0_0000)
    }

    /// A capability, and with the first one its pointer.
    pub(super) fn capability(self, at: u8, id: u8, next: u8) -> Self {
        let first = if self.bytes[0x34] == 0 { at } else { self.bytes[0x34] };
        let status = self.bytes[6] | 0x10;
        self.byte(6, status).byte(0x34, first).byte(at.into(), id).byte(usize::from(at) + 1, next)
    }
}

/// Place of a function: its bridge, device, function.
type Place = (Option<usize>, u8, u8);

/// Functions that answer by the bus numbers that bridges have at the moment.
pub(super) struct Model {
    size: u16,
    parts: RefCell<Vec<(Place, Part)>>,
    /// Device 0 behind a bridge answers as every device.
    pub(super) everywhere: bool,
}

impl Model {
    pub(super) fn new(size: u16) -> Self {
        Self { size, parts: RefCell::default(), everywhere: false }
    }

    /// Adds a function behind bridge `above`. Returns its number.
    pub(super) fn add(&mut self, above: Option<usize>, device: u8, function: u8, part: Part) -> usize {
        let parts = self.parts.get_mut();
        parts.push(((above, device, function), part));
        parts.len() - 1
    }

    pub(super) fn len(&self) -> usize {
        self.parts.borrow().len()
    }

    fn byte(&self, part: usize, at: usize) -> u8 {
        self.parts.borrow()[part].1.bytes[at]
    }

    fn is_bridge(&self, part: usize) -> bool {
        self.byte(part, 0xe) & 0x7f == 1
    }

    /// The function that answers at `at`.
    fn find(&self, at: FunctionId) -> Option<usize> {
        let mut bus: Option<usize> = None;
        let mut number = 0;
        // A bridge passes on what is for the buses behind it.
        while number != at.bus {
            let count = self.len();
            let passes = |b: &usize| {
                let above = self.parts.borrow()[*b].0.0;
                above == bus && self.is_bridge(*b) && (self.byte(*b, 0x19)..=self.byte(*b, 0x1a)).contains(&at.bus)
            };
            let takers: Vec<usize> = (0..count).filter(passes).filter(|b| self.byte(*b, 0x19) != 0).collect();
            assert!(takers.len() < 2, "two bridges answer for bus {:#x}", at.bus);
            bus = Some(*takers.first()?);
            let next = self.byte(takers[0], 0x19);
            assert!(next > number, "bus {next:#x} behind bus {number:#x}");
            number = next;
        }
        let device = if self.everywhere && bus.is_some() { 0 } else { at.device };
        self.parts.borrow().iter().position(|(place, _)| *place == (bus, device, at.function))
    }

    /// Clears what can be written in all functions behind the bridge at `at`.
    #[cfg(not(loom))]
    pub(super) fn reset_behind(&self, at: FunctionId) {
        let bridge = self.find(at);
        let mut parts = self.parts.borrow_mut();
        for part in 0..parts.len() {
            let above = core::iter::successors(parts[part].0.0, |above| parts[*above].0.0);
            if bridge.is_some() && above.map(Some).any(|above| above == bridge) {
                let part = &mut parts[part].1;
                part.bytes.iter_mut().zip(&part.writable).for_each(|(byte, mask)| *byte &= !mask);
            }
        }
    }

    /// Sets bits of a register, as hardware does.
    #[cfg(not(loom))]
    pub(super) fn happen(&self, at: FunctionId, offset: usize, bits: u32) {
        let part = self.find(at).unwrap();
        let bytes = &mut self.parts.borrow_mut()[part].1.bytes[offset..offset + 4];
        bytes.iter_mut().zip(bits.to_le_bytes()).for_each(|(byte, bits)| *byte |= bits);
    }

    /// The register of 32 bits of a function.
    pub(super) fn register(&self, at: FunctionId, offset: u16) -> u32 {
        ConfigSpace::read(self, at, offset, Width::W32).unwrap()
    }

    /// Compares what was found with the registers: all functions have been found, each address is inside its bridge's window, and
    /// none is given twice.
    pub(super) fn check(&self, windows: &[Window], found: &Topology) {
        assert_eq!(found.functions.len(), self.len(), "{found:?}");
        let own = windows.iter().map(|w| (w.space, w.bus, w.bus + w.len - 1)).collect();
        let mut buses = BTreeMap::from([(0, Bus { passed: own, taken: Vec::new() })]);
        for f in &found.functions {
            let bus = buses.get_mut(&f.at.bus).unwrap();
            for bar in &f.bars {
                let low = self.register(f.at, 0x10 + 4 * bar.index as u16);
                let (io, wide) = (low & 1 != 0, low & 7 == 4);
                let high = if wide { self.register(f.at, 0x14 + 4 * bar.index as u16) } else { 0 };
                let address = u64::from(high) << 32 | u64::from(low & if io { !3 } else { !15 });
                assert!(address.is_multiple_of(bar.size) && address != 0, "{f:?}");
                assert!(wide || address + bar.size <= 1 << 32, "{f:?}");
                assert_eq!(bar.address, Some(address));
                bus.take(if io { Space::Io } else { Space::Memory }, address, address + (bar.size - 1));
            }
            if f.header != Header::Bridge {
                continue;
            }
            let word = |offset| self.register(f.at, offset);
            let memory = |w: u32| (u64::from(w & 0xfff0) << 16, u64::from(w & 0xfff0_0000) | 0xf_ffff);
            let (io, io_high) = (word(0x1c), u64::from(word(0x30)));
            let io_first = u64::from(io & 0xf0) << 8 | (io_high & 0xffff) << 16;
            let io_last = u64::from(io & 0xf000) | 0xfff | io_high >> 16 << 16;
            let (first, last) = memory(word(0x24));
            let prefetch = (first | u64::from(word(0x28)) << 32, last | u64::from(word(0x2c)) << 32);
            let all = [(io_first, io_last), memory(word(0x20)), prefetch];
            let spaces = [Space::Io, Space::Memory, Space::Prefetchable];
            let open = spaces.into_iter().zip(all).filter(|(_, (first, last))| first <= last);
            let passed: Vec<_> = open.map(|(space, (first, last))| (space, first, last)).collect();
            for (space, first, last) in &passed {
                bus.take(*space, *first, *last);
            }
            let secondary = (word(0x18) >> 8) as u8;
            let bridge = found.bridge_to(secondary).unwrap();
            assert_eq!((bridge.at, &bridge.windows), (f.at, &passed));
            assert!(buses.insert(secondary, Bus { passed, taken: Vec::new() }).is_none());
        }
    }
}

/// Addresses on a bus: those that come to it, and those that are taken there.
struct Bus {
    passed: Vec<(Space, u64, u64)>,
    taken: Vec<(Space, u64, u64)>,
}

impl Bus {
    fn take(&mut self, space: Space, first: u64, last: u64) {
        let alike = |s: &Space| (*s == Space::Io) == (space == Space::Io);
        let inside = |(s, from, to): &(Space, u64, u64)| alike(s) && *from <= first && last <= *to;
        assert!(self.passed.iter().any(inside), "{first:#x} to {last:#x} is not in {:x?}", self.passed);
        let apart = |(s, from, to): &(Space, u64, u64)| !alike(s) || last < *from || *to < first;
        assert!(self.taken.iter().all(apart), "{first:#x} to {last:#x} is taken: {:x?}", self.taken);
        self.taken.push((space, first, last));
    }
}

impl ConfigSpace for Model {
    fn size(&self) -> u16 {
        self.size
    }

    fn read(&self, at: FunctionId, offset: u16, width: Width) -> Result<u32, IoError> {
        assert!(u64::from(offset).is_multiple_of(width.bytes()) && offset < self.size, "{offset:#x}");
        let Some(part) = self.find(at) else { return Ok(u32::MAX >> (32 - 8 * width.bytes())) };
        let bytes = (0..width.bytes()).rev().map(|i| self.byte(part, usize::from(offset) + i as usize));
        Ok(bytes.fold(0, |value, byte| value << 8 | u32::from(byte)))
    }

    fn write(&self, at: FunctionId, offset: u16, width: Width, value: u32) -> Result<(), IoError> {
        let Some(part) = self.find(at) else { return Ok(()) };
        let part = &mut self.parts.borrow_mut()[part].1;
        for i in 0..width.bytes() as usize {
            let (place, new) = (usize::from(offset) + i, (value >> (8 * i)) as u8);
            let mask = part.writable[place];
            part.bytes[place] = (part.bytes[place] & !mask | new & mask) & !(new & part.cleared[place]);
        }
        Ok(())
    }
}

/// Register window of plain bytes.
pub(super) struct Bytes(Mutex<Vec<u8>>);

impl Bytes {
    pub(super) fn new(len: usize) -> Self {
        Self(Mutex::new(vec![0; len]))
    }
}

impl Io for Bytes {
    fn size(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn read(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        let bytes = self.0.lock().unwrap();
        let range = offset as usize..(offset + width.bytes()) as usize;
        Ok(bytes[range].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn write(&self, offset: u64, width: Width, value: u64) -> Result<(), IoError> {
        let len = width.bytes() as usize;
        self.0.lock().unwrap()[offset as usize..offset as usize + len].copy_from_slice(&value.to_le_bytes()[..len]);
        Ok(())
    }
}
