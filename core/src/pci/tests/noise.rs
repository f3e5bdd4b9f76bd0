//! Configuration space of noise: whatever it reads, the walk ends, and says what it found.

use alloc::collections::BTreeMap;
use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;

use super::WINDOWS;
use crate::env::{IoError, Width};
use crate::pci::{ConfigSpace, FunctionId, HostBridge, enumerate};

/// Each register has a value and writable bits that a seed gives; a part of the places is empty.
struct Noise {
    seed: u64,
    /// One place of so many has a function.
    rarity: u64,
    /// Every function is a bridge.
    bridges: bool,
    written: RefCell<BTreeMap<(FunctionId, u16), u32>>,
    accesses: Cell<u64>,
    /// The access that fails.
    fails_at: u64,
}

impl Noise {
    fn hash(&self, of: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, of).hash(&mut hasher);
        hasher.finish()
    }

    fn word(&self, at: FunctionId, offset: u16) -> u32 {
        if !self.hash(at).is_multiple_of(self.rarity) {
            return u32::MAX;
        }
        let noise = self.hash((at, offset)) as u32;
        let initial = match offset {
            0xc if self.bridges => noise & 0xff80_ffff | 1 << 16,
            // Few bits, all bits, or what there is.
            _ => [noise, noise & 0x0f0f, noise | 0xffff_0000, 0][(noise >> 7) as usize % 4],
        };
        self.written.borrow().get(&(at, offset)).copied().unwrap_or(initial)
    }

    fn count(&self) -> Result<(), IoError> {
        let count = self.accesses.get() + 1;
        self.accesses.set(count);
        assert!(count < 5_000_000, "it does not end");
        if count == self.fails_at { Err(IoError::Gone) } else { Ok(()) }
    }
}

impl ConfigSpace for Noise {
    fn size(&self) -> u16 {
        4096
    }

    fn read(&self, at: FunctionId, offset: u16, width: Width) -> Result<u32, IoError> {
        self.count()?;
        assert!(u64::from(offset).is_multiple_of(width.bytes()) && offset < 4096, "{offset:#x}");
        Ok(self.word(at, offset & !3) >> (8 * (offset & 3)) & u32::MAX >> (32 - 8 * width.bytes()))
    }

    fn write(&self, at: FunctionId, offset: u16, width: Width, value: u32) -> Result<(), IoError> {
        self.count()?;
        let (word, shift) = (offset & !3, 8 * (offset & 3));
        let writable = self.hash((at, word, "writable"));
        // Most masks are those of registers with a size; some are noise.
        let writable =
            if writable.is_multiple_of(4) { (writable >> 8) as u32 } else { u32::MAX << (writable >> 8 & 31) };
        let mask = (u32::MAX >> (32 - 8 * width.bytes())) << shift & writable;
        let new = self.word(at, word) & !mask | value << shift & mask;
        self.written.borrow_mut().insert((at, word), new);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { 12 }, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_enumerated_to_an_end(seed: u64, rarity in 300_u64..3_000, bridges: bool, fails_at in prop_oneof![Just(u64::MAX), 1_u64..20_000]) {
        let noise = Noise { seed, rarity, bridges, written: RefCell::default(), accesses: Cell::new(0), fails_at };
        let host = HostBridge { config: &noise, segment: 0, buses: 0..=0xff, windows: &WINDOWS };
        match enumerate(&host) {
            Ok(found) => {
                let mut buses: alloc::vec::Vec<u8> = found.bridges.iter().map(|b| b.secondary).collect();
                buses.sort_unstable();
                buses.dedup();
                prop_assert_eq!(buses.len(), found.bridges.len(), "a number is given twice");
                for bar in found.functions.iter().flat_map(|f| &f.bars) {
                    prop_assert!(bar.size.is_power_of_two() && bar.address.is_none_or(|a| a.is_multiple_of(bar.size)));
                }
            }
            Err(error) => prop_assert_eq!((error, noise.accesses.get()), (IoError::Gone, fails_at)),
        }
    }
}
