//! Configuration space that is malformed or lies.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::model::{Model, Part};
use super::{host, names};
use crate::pci::{Bar, BarKind, Function, Topology, enumerate};

/// What is found of one malformed function, beside a sound one.
fn one(size: u16, part: Part) -> (Function, Vec<String>) {
    let mut model = Model::new(size);
    model.add(None, 1, 0, part);
    model.add(None, 2, 0, Part::device().bar(0, 0x1000, 0));
    let found = enumerate(&host(&model)).unwrap();
    assert_eq!(found.functions.last().unwrap().bars.len(), 1, "the other one is there");
    (found.functions[0].clone(), problems(&found))
}

fn problems(found: &Topology) -> Vec<String> {
    found.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_capability_list_that_loops_or_leaves_its_place_ends_there() {
    let (f, said) = one(256, Part::device().capability(0x40, 1, 0x50).capability(0x50, 2, 0x40));
    assert_eq!(
        (f.capabilities.len(), said),
        (2, vec!["0000:00:01.0: capability pointer 0x50: leads back to 0x40".into()])
    );
    let (f, said) = one(256, Part::device().capability(0x40, 1, 0x43));
    assert_eq!(
        (f.capabilities.len(), said),
        (1, vec!["0000:00:01.0: capability pointer 0x40: leads back to 0x40".into()])
    );
    let (f, said) = one(256, Part::device().capability(0x40, 1, 0x3c));
    let outside = "0000:00:01.0: capability pointer 0x40: leads to 0x3c, outside the list";
    assert_eq!((f.capabilities.len(), said), (1, vec![outside.into()]));
    // The flag without a list, and a list without the flag.
    assert_eq!(one(256, Part::device().byte(6, 0x10)).1, Vec::<String>::new());
    assert_eq!(one(256, Part::device().byte(0x34, 0x40)).0.capabilities, []);
}

#[test]
fn an_extended_list_without_end_ends() {
    let mut part = Part::device();
    for at in (0x100..0xffc).step_by(4) {
        part = part.word(at, (at as u32 + 4) << 20 | 1);
    }
    let (f, said) = one(4096, part.clone().word(0xffc, 0x1000_0001));
    assert_eq!(
        (f.capabilities.len(), said),
        (960, vec!["0000:00:01.0: capability pointer 0xffc: leads back to 0x100".into()])
    );
    let (f, said) = one(4096, part.word(0x100, 0x00c1_0001).word(0x104, 0));
    let outside = "0000:00:01.0: capability pointer 0x100: leads to 0xc, outside the list";
    assert_eq!((f.capabilities.len(), said), (1, vec![outside.into()]));
}

#[test]
fn bars_without_a_size_are_left_out_and_the_others_stay() {
    let part = Part::device().bar(1, 0x100, 0).mask(0x10, 0xfff0_f000).bar(2, 0x1000, 6).bar(3, 0x1000, 2);
    let (f, said) = one(256, part.bar(5, 0x1000, 4));
    let seen: Vec<_> = f.bars.iter().map(|b| b.index).collect();
    let expected = [
        "0000:00:01.0: BAR 0: the writable bits 0xfffffffffff0f000 give no size",
        "0000:00:01.0: BAR 2: its type is reserved",
        "0000:00:01.0: BAR 3: its type is reserved",
        "0000:00:01.0: BAR 5: 64 bits wide, in the last register",
    ];
    assert_eq!((seen, said), (vec![1], expected.map(String::from).to_vec()));
}

#[test]
fn bars_that_are_absurd_or_overlap_get_what_there_is() {
    // 8 EiB, and all of the 32 bits; two that firmware has put onto each other.
    let part = Part::device().bar(0, 1 << 63, 4).bar(2, 1 << 31, 0).bar(3, 0x1000, 0).bar(4, 0x1000, 0);
    let (f, said) = one(256, part.at(3, 0x2000_0000).at(4, 0x2000_0000).command(7));
    let expected = [
        "0000:00:01.0: BAR 0: no 0x8000000000000000 bytes of memory are left",
        "0000:00:01.0: BAR 2: no 0x80000000 bytes of memory are left",
    ];
    assert_eq!(said, expected);
    let (three, four) = (f.bars[2].address.unwrap(), f.bars[3].address.unwrap());
    assert!(three != four, "{f:?}");
    // A register that cannot be written and has all bits set is a register of one byte of nothing.
    let (f, _) = one(256, Part::device().word(0x10, 0xffff_fffd));
    assert_eq!(f.bars, [Bar { index: 0, kind: BarKind::Io, size: 4, address: f.bars[0].address }]);
}

#[test]
fn an_msi_x_table_outside_its_bar_is_no_table() {
    let table = |vectors: u8, bar: u32| {
        Part::device()
            .bar(0, 0x1000, 0)
            .bar(1, 0x40, 1)
            .capability(0x40, 0x11, 0)
            .byte(0x42, vectors)
            .word(0x44, bar)
            .bar(2, 0x1000, 0)
            .word(0x48, 2)
    };
    assert!(one(256, table(254, 0)).0.msi_x.is_some());
    // Across 4 GiB of a BAR that is larger.
    let wide = Part::device().bar(0, 8 << 30, 4).capability(0x40, 0x11, 0).byte(0x42, 0xff).byte(0x43, 7);
    assert!(one(256, wide.word(0x44, 0xffff_fff8).word(0x48, 0x1000)).0.msi_x.is_some());
    // Side by side in one BAR.
    assert!(one(256, table(3, 0).word(0x48, 0x40)).0.msi_x.is_some());
    assert!(one(256, table(3, 8).word(0x48, 0)).0.msi_x.is_some());
    for (part, said) in [
        (table(254, 0x20), "MSI-X table: 0xff0 bytes at 0x20 are not inside BAR 0"),
        (table(0, 0xffff_fff8), "MSI-X table: 0x10 bytes at 0xfffffff8 are not inside BAR 0"),
        (table(0, 1), "MSI-X table: 0x10 bytes at 0x0 are not inside BAR 1"),
        (table(0, 7), "MSI-X table: 0x10 bytes at 0x0 are not inside BAR 7"),
        (table(0, 0).word(0x48, 0x1000), "MSI-X PBA: 0x8 bytes at 0x1000 are not inside BAR 0"),
        (table(3, 0).word(0x48, 0x38), "MSI-X table: at 0x0 of BAR 0, it overlaps the PBA at 0x38"),
        (table(3, 0x10).word(0x48, 0x18), "MSI-X table: at 0x10 of BAR 0, it overlaps the PBA at 0x18"),
        (
            Part::device().capability(0xf8, 0x11, 0),
            "capability 0x11 at 0xf8: reaches past the end of configuration space",
        ),
        (
            Part::device().capability(0xfc, 0x10, 0),
            "capability 0x10 at 0xfc: reaches past the end of configuration space",
        ),
    ] {
        let (f, problems) = one(256, part);
        assert_eq!((f.msi_x, problems), (None, vec![alloc::format!("0000:00:01.0: {said}")]));
    }
}

#[test]
fn headers_that_nobody_knows_are_listed_and_left_alone() {
    for (header, said) in [
        (3, "header type: 0x03 is unknown"),
        (0x7f, "header type: 0x7f is unknown"),
        (2, "header type: a CardBus bridge; what is behind it is not enumerated"),
    ] {
        let (f, problems) = one(256, Part::device().bar(0, 0x1000, 0).byte(0xe, header));
        assert_eq!((f.bars, problems), (vec![], vec![alloc::format!("0000:00:01.0: {said}")]));
    }
}

#[test]
fn an_msi_capability_that_is_not_whole_or_has_a_reserved_number_is_none() {
    let msi = |at: u8, control: u8, high: u8| {
        let (low, upper) = (usize::from(at) + 2, usize::from(at) + 3);
        Part::device().capability(at, 5, 0).byte(low, control).byte(upper, high)
    };
    let (f, problems) = one(256, msi(0x40, 0x8a, 1));
    let expected = super::super::Msi { at: 0x40, vectors: 32, wide: true, maskable: true };
    assert_eq!((f.msi, problems), (Some(expected), vec![]));
    let cut = "reaches past the end of configuration space";
    for (part, said) in [
        (msi(0x40, 0x0c, 0), "MSI control: 2^6 messages are more than there can be".into()),
        (msi(0x40, 0x0e, 0), "MSI control: 2^7 messages are more than there can be".into()),
        (msi(0xf8, 0, 0), alloc::format!("capability 0x5 at 0xf8: {cut}")),
        (msi(0xec, 0x80, 1), alloc::format!("capability 0x5 at 0xec: {cut}")),
        (msi(0xfc, 0, 0), alloc::format!("capability 0x5 at 0xfc: {cut}")),
    ] {
        let (f, problems) = one(256, part);
        assert_eq!((f.msi, problems), (None, vec![alloc::format!("0000:00:01.0: {said}")]));
    }
    assert!(one(256, msi(0xf4, 0, 0)).0.msi.is_some() && one(256, msi(0xe8, 0x80, 1)).0.msi.is_some());
}

#[test]
fn a_pin_that_does_not_exist_is_none() {
    for pin in [5, 0x7f, 0xff] {
        let (f, problems) = one(256, Part::device().byte(0x3d, pin));
        assert_eq!(
            (f.interrupt_pin, problems),
            (0, vec![alloc::format!("0000:00:01.0: interrupt pin: {pin} is none of 1 to 4")])
        );
    }
    assert_eq!(one(256, Part::device().byte(0x3d, 4)).0.interrupt_pin, 4);
}

#[test]
fn a_function_that_is_not_ready_or_not_there_is_no_function() {
    let mut model = Model::new(256);
    for (device, id) in [(1, 0xffff_0001), (2, 0), (3, 0x0000_ffff), (4, 0xffff_0000), (5, 0x1234_0000)] {
        model.add(None, device, 0, Part::device().word(0, id));
    }
    let found = enumerate(&host(&model)).unwrap();
    assert_eq!(names(&found), ["0000:00:05.0"]);
    assert_eq!(problems(&found), ["0000:00:01.0: vendor ID: the function is not ready yet (reads as 0001)"]);
}

#[test]
fn bus_numbers_that_cannot_be_right_are_given_anew() {
    let wrong: [&[(u8, u8, u8)]; 7] = [
        // Behind itself; behind nothing; the wrong way round.
        &[(0, 0, 4), (0, 1, 1)],
        &[(7, 1, 1), (0, 2, 2)],
        &[(0, 4, 3), (0, 1, 1)],
        // Two with one number, also where they are not the first ones; one inside the other.
        &[(0, 1, 3), (0, 1, 3)],
        &[(0, 1, 1), (0, 2, 2), (0, 2, 2)],
        &[(0, 1, 9), (0, 2, 3)],
        &[(0, 5, 9), (0, 9, 0xff)],
    ];
    for bridges in wrong {
        let mut model = Model::new(256);
        for (device, (primary, secondary, subordinate)) in bridges.iter().copied().enumerate() {
            let bridge = Part::bridge().numbers(primary, secondary, subordinate);
            let bridge = model.add(None, device as u8, 0, bridge);
            model.add(Some(bridge), 0, 0, Part::device().bar(0, 0x1000, 0));
        }
        let found = enumerate(&host(&model)).unwrap();
        assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
        assert!(problems(&found)[0].contains("cannot be right, renumbered"));
        model.check(&super::WINDOWS, &found);
    }
}

#[test]
fn a_host_without_numbers_or_addresses_says_so_for_each() {
    let mut model = Model::new(256);
    let bridge = model.add(None, 1, 0, Part::bridge());
    model.add(Some(bridge), 1, 0, Part::device());
    model.add(None, 2, 0, Part::device().bar(0, 0x1000, 0).bar(1, 0x100, 1));
    let bare = crate::pci::HostBridge { buses: 0..=0, windows: &[], ..host(&model) };
    let found = enumerate(&bare).unwrap();
    let expected = [
        "0000:00:01.0: secondary bus number: no number is left up to bus 0x00; what is behind the bridge is not enumerated",
        "0000:00:02.0: BAR 0: no 0x1000 bytes of memory are left",
        "0000:00:02.0: BAR 1: no 0x100 bytes of I/O are left",
    ];
    assert_eq!(problems(&found), expected);
    assert_eq!(found.functions[1].bars.iter().map(|b| b.address).collect::<Vec<_>>(), [None, None]);
}
