//! Random buses, with and without what a firmware may have left, held against their registers.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::model::{Model, Part};
use super::{WINDOWS, host};
use crate::pci::{Fault, enumerate};

/// A function: which of the bridges so far it is behind, device, and its contents.
#[derive(Clone, Debug)]
struct Function {
    above: prop::sample::Index,
    device: u8,
    is_bridge: bool,
    bars: Vec<(u8, u32)>,
    /// Bus numbers, windows and addresses that firmware has left.
    left: Option<[u32; 4]>,
}

fn function() -> impl Strategy<Value = Function> {
    let bars = prop::collection::vec((8_u8..24, prop::sample::select(vec![0_u32, 1, 4, 8, 0xc])), 0..4);
    let left = prop::option::of(prop::array::uniform4(prop_oneof![
        any::<u32>(),
        0x1000_0000_u32..0x3000_0000,
        0_u32..0x0a0a_0a00
    ]));
    (any::<prop::sample::Index>(), 0_u8..32, prop::bool::weighted(0.4), bars, left)
        .prop_map(|(above, device, is_bridge, bars, left)| Function { above, device, is_bridge, bars, left })
}

fn part(f: &Function) -> Part {
    let mut part = if f.is_bridge { Part::bridge() } else { Part::device() };
    let mut index = 0;
    for (log, low) in &f.bars {
        let wide = usize::from(low & 4 != 0);
        if index + wide < if f.is_bridge { 2 } else { 6 } {
            // An I/O register has at most 256 bytes.
            part = part.bar(index, 1 << if low & 1 != 0 { (*log).min(8) } else { *log }, *low);
            index += 1 + wide;
        }
    }
    if let Some([numbers, io, memory, address]) = f.left {
        part = part.command(numbers as u8 & 7);
        if f.is_bridge {
            let [_, primary, secondary, subordinate] = numbers.to_le_bytes();
            part =
                part.numbers(primary, secondary, subordinate).byte(0x1c, io as u8 | 1).byte(0x1d, (io >> 8) as u8 | 1);
            part = part.word(0x20, memory & 0xfff0_fff0).word(0x24, address & 0xfff0_fff0 | 0x0001_0001);
            part = part.word(0x28, io >> 24).word(0x2c, io >> 16 & 0xff);
        } else if index > 0 {
            part = part.at(0, address & 0xff00_0000);
        }
    }
    part
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 300 }, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_function_is_found_and_has_addresses_that_lead_to_it_alone(functions in prop::collection::vec(function(), 1..24)) {
        let mut model = Model::new(256);
        let (mut bridges, mut places) = (vec![None], Vec::new());
        for f in &functions {
            let above = *f.above.get(&bridges);
            if places.contains(&(above, f.device)) {
                continue;
            }
            places.push((above, f.device));
            let number = model.add(above, f.device, 0, part(f));
            if f.is_bridge {
                bridges.push(Some(number));
            }
        }
        let found = enumerate(&host(&model)).unwrap();
        let cut_off = |fault: &Fault| matches!(fault, Fault::NoBusNumber { .. } | Fault::NoSpace { .. } | Fault::NoWindow { .. });
        if found.problems.iter().any(|p| cut_off(&p.fault)) {
            // Kept numbers of firmware can leave too few behind a bridge. Everything else must fit.
            prop_assert!(found.problems.iter().all(|p| !matches!(p.fault, Fault::NoSpace { .. } | Fault::NoWindow { .. })), "{:?}", found.problems);
        } else {
            model.check(&WINDOWS, &found);
        }
        // A second walk changes nothing.
        let again = enumerate(&host(&model)).unwrap();
        prop_assert_eq!(&again.functions, &found.functions);
        prop_assert_eq!(&again.bridges, &found.bridges);
    }
}
