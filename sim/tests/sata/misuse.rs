//! Accesses that the manual forbids.

use bindery::env::Width;

use crate::common::*;
use crate::{MS, STOPPED, stopped, up};

#[test]
fn what_the_manual_forbids_is_a_model_error() {
    for (register, value, says) in [
        (0x1704, 1, "no such register"),
        (0x200, 1, "no such register"),
        (0x102c, 1, "no such register"),
        (0x180, 1 << 20, "reserved bits"),
        (0x180, 3, "START and STOP"),
        (0x180, 1, "DESE, DTA32M and ISM must be set"),
        (0x188, 1 << 3, "reserved bits"),
        (0x198, 2, "not a multiple of 4"),
        (0x150c, 0x1000, "reserved bits"),
        (0x1400, 0, "read only"),
        (0x1408, 2, "reserved"),
        (0x1108, 0x100, "has 8 bits"),
        (0x1100, 0, "SDATA written"),
        (0x1204, 0x40, "reserved bits"),
    ] {
        let b = up();
        w(&b.sata, register, value);
        let errors = b.errors();
        assert!(errors.contains(says), "{register:#x} <- {value:#x}: {errors}");
    }
}

#[test]
fn misuse_in_sequence_is_a_model_error() {
    let b = up();
    b.command(0xea, 0, 0);
    w(&b.sata, 0x1108, 1);
    assert!(b.errors().contains("while the device is busy"));
    b.sleep_us(100);
    w(&b.sata, 0x1204, 4);
    w(&b.sata, 0x1204, 0);
    assert!(b.errors().contains("less than 5 us"));
    b.sleep(3 * MS);
    b.prds(&[(DATA.0 as u32, 512)]);
    b.command(0x35, 0, 1);
    w(&b.sata, 0x180, 1 << 16 | 1 << 11 | 1 << 3 | 1 << 2 | 1);
    b.sleep_us(100);
    assert!(b.errors().contains("does not fit the command's direction"));
    w(&b.sata, 0x180, 1 << 7);
    r(&b.sata, 0x111c);
    assert!(b.errors().contains("holds the SATA core in reset"));
    let b = stopped();
    w(&b.sata, 0x198, 0);
    assert!(b.errors().contains("DTB_ADR changed while DMA"));
    w(&b.sata, 0x180, STOPPED & !2);
    assert!(b.errors().contains("cleared without STOP"));
    b.sata.read(0x1100, Width::W16).unwrap();
    assert!(b.errors().contains("registers take 4"));
}
