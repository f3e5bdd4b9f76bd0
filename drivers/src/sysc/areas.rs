//! Power domains of each chip.
//!
//! Sources: Linux `drivers/pmdomain/renesas/r8a7795-sysc.c`, `r8a7796-sysc.c`, `r8a77965-sysc.c` and `r8a77990-sysc.c` (registers and
//! parents), `include/dt-bindings/power/r8a77*-sysc.h` (numbers). CPU clusters belong to the firmware: a device in a domain that is not
//! listed is refused by number.

/// Number of the domain that cannot be switched.
pub(super) const ALWAYS_ON: u32 = 32;

/// A domain that can be switched.
#[derive(Debug)]
pub(super) struct Area {
    /// Number in `power-domains`, and bit in the interrupt registers.
    pub(super) number: u32,
    /// Offset of its block.
    pub(super) block: u64,
    /// Its bit in the block's registers.
    pub(super) channel: u32,
    /// The domain that it is in, which is on while this one is.
    pub(super) parent: u32,
}

impl Area {
    /// Its bit in the interrupt registers.
    pub(super) const fn bit(&self) -> u32 {
        1 << self.number
    }
}

/// The domain `number` of channel bit `bit` in the block at `block`, in the domain `parent`.
const fn area(number: u32, block: u64, bit: u32, parent: u32) -> Area {
    Area { number, block, channel: 1 << bit, parent }
}

/// Video codecs (A3VP).
const A3VP: Area = area(9, 0x340, 0, ALWAYS_ON);
/// Real-time core.
const CR7: Area = area(13, 0x240, 0, ALWAYS_ON);
/// Video codecs (A3VC), and their parts.
const A3VC: Area = area(14, 0x380, 0, ALWAYS_ON);
const A2VC0: Area = area(25, 0x3c0, 0, 14);
const A2VC1: Area = area(26, 0x3c0, 1, 14);
/// GPU, each part in the one before.
const GPU_A: Area = area(17, 0x100, 0, ALWAYS_ON);
const GPU_B: Area = area(18, 0x100, 1, 17);
const GPU_C: Area = area(19, 0x100, 2, 18);
const GPU_D: Area = area(20, 0x100, 3, 19);
const GPU_E: Area = area(22, 0x100, 4, 20);
/// Image recognition.
const A3IR: Area = area(24, 0x180, 0, ALWAYS_ON);

/// R-Car H3, from ES2.0 on.
const H3: &[Area] = &[A3VP, CR7, A3VC, A2VC1, GPU_A, GPU_B, GPU_C, GPU_D, GPU_E, A3IR];
/// R-Car M3-W (r8a77960).
const M3_W: &[Area] = &[CR7, A3VC, A2VC0, A2VC1, GPU_A, GPU_B, A3IR];
/// R-Car M3-W+ (r8a77961).
const M3_W_PLUS: &[Area] = &[CR7, A3VC, A2VC1, GPU_A, GPU_B, A3IR];
/// R-Car M3-N.
const M3_N: &[Area] = &[A3VP, CR7, A3VC, A2VC1, GPU_A, GPU_B];
/// R-Car E3, from ES2.0 on: in ES1.0 the parts of the GPU are in each other the other way round.
const E3: &[Area] = &[CR7, A3VC, A2VC1, GPU_A, GPU_B];

/// Domains by the controller's `compatible`.
const CHIPS: [(&str, &[Area]); 5] = [
    ("renesas,r8a7795-sysc", H3),
    ("renesas,r8a7796-sysc", M3_W),
    ("renesas,r8a77961-sysc", M3_W_PLUS),
    ("renesas,r8a77965-sysc", M3_N),
    ("renesas,r8a77990-sysc", E3),
];

/// The domains of the controller with this `compatible`; of the H3 when `driver_override` brings another one here.
pub(super) fn of<'c>(compatible: impl IntoIterator<Item = &'c str>) -> &'static [Area] {
    let chip = |name: &str| CHIPS.iter().find(|(known, _)| *known == name).map(|(_, areas)| *areas);
    compatible.into_iter().find_map(chip).unwrap_or(H3)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use bindery::driver::{Driver, Match};

    #[test]
    fn every_chip_of_the_driver_has_domains_with_a_way_to_the_always_on_one() {
        let known: Vec<&str> = CHIPS.iter().map(|(name, _)| *name).collect();
        let matched: Vec<_> = super::super::Sysc::MATCHES.iter().filter_map(Match::name).collect();
        assert_eq!(known, matched);
        for (name, areas) in CHIPS {
            for area in areas {
                let above = |number| areas.iter().find(|a| a.number == number);
                assert!(area.parent == ALWAYS_ON || above(area.parent).is_some(), "{name}: {area:?}");
                let same = areas
                    .iter()
                    .filter(|a| a.number == area.number || (a.block, a.channel) == (area.block, area.channel));
                assert_eq!(same.count(), 1, "{name}: {area:?}");
            }
        }
    }

    #[test]
    fn chips_differ_in_their_domains() {
        let numbers = |name: &str| of([name]).iter().map(|a| a.number).collect::<Vec<_>>();
        assert_eq!(numbers("renesas,r8a7796-sysc"), [13, 14, 25, 26, 17, 18, 24]);
        assert_eq!(numbers("renesas,r8a77965-sysc"), [9, 13, 14, 26, 17, 18]);
        assert_eq!(numbers("renesas,r8a77990-sysc"), [13, 14, 26, 17, 18]);
    }
}
