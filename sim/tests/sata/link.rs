//! Clock, reset, and link.

use bindery_sim::salvator::Salvator;

use crate::common::*;
use crate::{MS, READY, up};

#[test]
fn registers_without_clock_are_an_external_abort() {
    let b = bench();
    assert_eq!(r(&b.sata, 0x184), u32::MAX);
    assert!(b.errors().contains("without clock or in reset"));
    b.sata_on();
    b.board.assert_clean();
    w(&b.cpg, 0x920, 1 << 15);
    w(&b.sata, 0x188, 0);
    assert!(b.errors().contains("external abort"));
    b.sleep_us(40);
    w(&b.cpg, 0x960, 1 << 15);
    assert_eq!(r(&b.sata, 0x188), 0, "reset put every register back");
    b.board.assert_clean();
}

#[test]
fn a_reset_shorter_than_one_rclk_cycle_is_a_model_error() {
    let b = bench();
    w(&b.cpg, 0x920, 1 << 15);
    w(&b.cpg, 0x960, 1 << 15);
    assert!(b.errors().contains("less than one RCLK cycle"));
}

#[test]
fn the_link_comes_up_some_time_after_comreset_and_says_so() {
    let b = up();
    b.enable_irqs();
    assert_eq!(r(&b.sata, 0x1400), 0x113);
    w(&b.sata, 0x1408, 0x301);
    assert_eq!(r(&b.sata, 0x1400), 0);
    assert_eq!(r(&b.sata, 0x1204), 0x7f, "nobody there");
    b.sleep(MS);
    w(&b.sata, 0x1404, u32::MAX);
    w(&b.sata, 0x1508, 0);
    w(&b.sata, 0x1408, 0x300);
    assert_eq!(r(&b.sata, 0x1400), 0, "not yet");
    b.sleep(11 * MS);
    assert_eq!((r(&b.sata, 0x1400), r(&b.sata, 0x1404)), (0x113, 0x0405_0000));
    assert_eq!(r(&b.sata, 0x1508), 1 << 3, "SERR");
    assert!(b.irqs.sata() > 0);
    assert_eq!(r(&b.sata, 0x1204), 0x80, "busy until the signature");
    b.sleep(6 * MS);
    assert_eq!(r(&b.sata, 0x1204), READY);
    let signature: Vec<u32> = (1..6).map(|n| r(&b.sata, 0x1100 + 4 * n)).collect();
    assert_eq!(signature, [1, 1, 1, 0, 0]);
    b.board.assert_clean();
}

#[test]
fn a_comreset_of_less_than_a_millisecond_is_a_model_error() {
    let b = up();
    w(&b.sata, 0x1408, 0x301);
    w(&b.sata, 0x1408, 0x300);
    assert!(b.errors().contains("less than 1 ms"));
}

#[test]
fn an_empty_port_and_a_broken_cable_never_link_up() {
    let b = on(Salvator::new());
    b.sata_on();
    assert_eq!((r(&b.sata, 0x1400), b.ata_status()), (0, 0x7f));
    b.command(0xec, 0, 0);
    b.board.assert_clean();
    let b = bench();
    b.board.sata_faults(|k| k.link_down = true);
    b.sata_on();
    assert_eq!(r(&b.sata, 0x1400), 0);
    b.board.assert_clean();
}

#[test]
fn registers_can_be_probed_and_there_is_no_second_device() {
    let b = up();
    for (nsect, lbal) in [(0x55, 0xaa), (0xaa, 0x55)] {
        w(&b.sata, 0x1108, nsect);
        w(&b.sata, 0x110c, lbal);
        assert_eq!((r(&b.sata, 0x1108), r(&b.sata, 0x110c)), (nsect, lbal));
    }
    w(&b.sata, 0x1118, 0xb0);
    assert_eq!(b.ata_status(), 0);
    w(&b.sata, 0x111c, 0xec);
    w(&b.sata, 0x1118, 0xa0);
    assert_eq!(b.ata_status(), READY, "the command was for nobody");
    b.board.assert_clean();
}
