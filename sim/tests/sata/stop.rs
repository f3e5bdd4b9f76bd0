//! Stopping of transfers.

use bindery::instrument::Instrument;
use bindery_sim::models::sata::Stop;

use crate::common::*;
use crate::{MS, STOPPED, stopped, up};

#[test]
fn stop_ends_a_transfer_in_the_middle() {
    let b = stopped();
    w(&b.sata, 0x180, STOPPED);
    b.sleep_us(2);
    assert_eq!(b.dma_status() & 1, 0);
    b.sleep(10 * MS);
    assert_eq!(b.get(DATA + 0x1_fe00, 512), vec![0; 512]);
    b.board.assert_clean();
}

#[test]
fn stop_can_be_late_or_ignored_and_a_core_reset_still_works() {
    let b = stopped();
    b.board.sata_faults(|k| k.stop = Stop::Late(100 * MS));
    w(&b.sata, 0x180, STOPPED);
    b.sleep_us(100);
    assert_eq!(b.dma_status() & 1, 1);
    b.sleep(101 * MS);
    assert_eq!(b.dma_status() & 1, 0);

    let b = stopped();
    b.board.sata_faults(|k| {
        k.stop = Stop::Ignored;
        k.no_completion = true;
    });
    w(&b.sata, 0x180, STOPPED);
    b.sleep_us(100);
    assert_eq!(b.dma_status() & 1, 1);
    w(&b.sata, 0x180, 1 << 7);
    assert_eq!(b.dma_status() & 1, 0);
    b.board.assert_clean();
}

#[test]
fn dma_reachable_covers_running_transfers_and_cached_translations() {
    let b = stopped();
    assert!(b.board.dma_reachable(DATA + 0x1_f000, 4096), "the end of the segment");
    assert!(
        !b.board.dma_reachable(DATA + 0x2_0000, 4096) && !b.board.dma_reachable(TABLE, 4096),
        "past it, and behind it"
    );
    w(&b.sata, 0x180, STOPPED);
    b.sleep_us(2);
    assert!(!b.board.dma_reachable(DATA + 0x1_f000, 4096));

    let b = up();
    b.map(0xffff_f000, TABLE, PAGE_BITS);
    b.map(0xffff_e000, DATA, PAGE_BITS);
    b.translation_on();
    b.prds(&[(0xffff_e000, 512)]);
    assert!(!b.board.dma_reachable(DATA, 4096), "nothing is cached yet");
    b.dma(0xffff_f000, false, 20, 1);
    b.sleep_us(200);
    b.unmap(0xffff_e000);
    assert!(b.board.dma_reachable(DATA + 4095, 1) && !b.board.dma_reachable(DATA + 4096, 4096));
    b.flush();
    assert!(!b.board.dma_reachable(DATA, 4096));
    b.board.assert_clean();
}

#[test]
fn a_controller_can_be_made_to_write_after_it_stopped() {
    let b = stopped();
    b.board.sata_faults(|k| k.dma_after_stop = Some(5 * MS));
    w(&b.sata, 0x180, STOPPED);
    b.sleep_us(10);
    assert_eq!(b.dma_status() & 1, 0);
    let at = r(&b.sata, 0x19c);
    let before = b.get(bindery::addr::PhysAddr(at.into()), 64);
    b.sleep(6 * MS);
    assert_eq!(b.get(bindery::addr::PhysAddr(at.into()), 64), vec![0xa5; 64]);
    assert_ne!(before, vec![0xa5; 64]);
}

#[test]
fn stopping_the_clock_under_a_transfer_is_a_model_error() {
    let b = stopped();
    w(&b.cpg, 0x990, r(&b.cpg, 0x990) | 1 << 15);
    assert!(b.errors().contains("clock stopped while DMA"));
    b.sleep(10 * MS);
    assert_eq!(b.get(DATA + 0x1_fe00, 512), vec![0; 512]);
}
