//! The IPMMU at register level.
#![allow(clippy::unwrap_used)]

mod common;

use bindery::addr::PhysAddr;
use bindery::env::Caching;
use bindery_sim::board::Stuck;
use bindery_sim::models::ipmmu::FaultKind;
use common::*;

const IOVA: u64 = 0xffff_f000;

/// One access of the disk controller's micro-TLB.
fn access(b: &Bench, addr: u64, write: bool) -> Result<u64, FaultKind> {
    b.board.translate(0, 2, addr, write).unwrap().map(|p| p.0).map_err(|f| f.kind)
}

fn mapped() -> Bench {
    let b = bench();
    b.map(IOVA, DATA, PAGE_BITS);
    b.translation_on();
    b
}

#[test]
fn a_utlb_that_is_off_passes_addresses_through() {
    let b = bench();
    assert_eq!(access(&b, 0x1234_5678, true), Ok(0x1234_5678));
    b.translation_on();
    w(&b.hc, 0x320, 0);
    assert_eq!(access(&b, 0x1234_5678, true), Ok(0x1234_5678), "the context stays on, the uTLB is off");
    b.board.assert_clean();
}

#[test]
fn a_mapped_page_translates_and_its_neighbour_faults() {
    let b = mapped();
    assert_eq!(access(&b, IOVA + 0xabc, true), Ok(DATA.0 + 0xabc));
    assert_eq!(access(&b, IOVA - 0x1000, false), Err(FaultKind::Translation));
    b.board.assert_clean();
}

#[test]
fn blocks_of_2_mib_and_1_gib_translate() {
    let b = bench();
    b.put64(L1 + 8, 0x4000_0000 | (PAGE_BITS & !2));
    b.put64(L1, L2.0 | TABLE_BITS);
    b.put64(L2 + 8, 0x4820_0000 | (PAGE_BITS & !2));
    b.translation_on();
    assert_eq!(access(&b, 0x7654_3210, false), Ok(0x7654_3210));
    assert_eq!(access(&b, 0x20_0000 + 0x12345, false), Ok(0x4820_0000 + 0x12345));
    b.board.assert_clean();
}

#[test]
fn a_write_to_a_read_only_page_is_a_permission_fault() {
    let b = bench();
    b.map(IOVA, DATA, PAGE_BITS | READ_ONLY);
    b.translation_on();
    assert_eq!(access(&b, IOVA, false), Ok(DATA.0));
    assert_eq!(access(&b, IOVA, true), Err(FaultKind::Permission));
    assert_eq!(r(&b.mm, 0x60) & 0x17, 2, "IMSTR.PF");
    b.board.assert_clean();
}

#[test]
fn tables_without_ns_bits_are_a_secure_access_fault() {
    let b = bench();
    b.map(IOVA, DATA, PAGE_BITS & !(1 << 5));
    b.translation_on();
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::Secure));
    assert_eq!(r(&b.mm, 0x60) & 0x717, 0x502, "IMSTR.PF with the secure access code");
    b.map(IOVA, DATA, PAGE_BITS);
    b.put64(L2 + (IOVA >> 21 & 0x1ff) * 8, L3.0 | 3);
    b.flush();
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::Secure));
    b.board.assert_clean();
}

#[test]
fn a_page_without_access_flag_or_device_permission_is_a_permission_fault() {
    for missing in [1 << 10, 1 << 6] {
        let b = bench();
        b.map(IOVA, DATA, PAGE_BITS & !missing);
        b.translation_on();
        assert_eq!(access(&b, IOVA, false), Err(FaultKind::Permission));
    }
}

#[test]
fn tables_outside_ram_abort_the_walk() {
    let b = bench();
    b.put64(L1 + 24, 0xf000_0000 | TABLE_BITS);
    b.translation_on();
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::Abort));
    assert_eq!(r(&b.mm, 0x60) & 0x17, 4, "IMSTR.ABORT");
    b.board.assert_clean();
}

#[test]
fn reserved_descriptors_are_model_errors() {
    let b = bench();
    b.map(IOVA, DATA, PAGE_BITS & !2);
    b.put64(L1, (L2.0 | 0x1000) | (PAGE_BITS & !2));
    b.translation_on();
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::Translation));
    assert!(b.errors().contains("reserved descriptor"), "a level-3 entry of block form");
    assert_eq!(access(&b, 0, false), Err(FaultKind::Translation));
    assert!(b.errors().contains("at level 1"), "a block that is not aligned to its size");
}

#[test]
fn a_context_must_be_on_at_leaf_and_root() {
    let b = mapped();
    w(&b.hc, 0x40, 2);
    b.sleep_us(5);
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::Translation), "off at the leaf");
    w(&b.hc, 0x40, 3);
    w(&b.mm, 0x40, 2);
    b.sleep_us(5);
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::Translation), "off at the root");
    w(&b.mm, 0x40, 3);
    assert_eq!(access(&b, IOVA, false), Ok(DATA.0));
    b.board.assert_clean();
}

#[test]
fn the_walk_reads_ram_and_not_the_cpus_cache() {
    let b = bench();
    b.translation_on();
    let table = [L2.0 | TABLE_BITS; 4].map(u64::to_le_bytes).concat();
    b.board.ram().cpu_write(L1, &table, Caching::Cached).unwrap();
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::Translation));
}

#[test]
fn a_missing_flush_shows_the_stale_translation() {
    let b = mapped();
    assert_eq!(access(&b, IOVA, true), Ok(DATA.0));
    b.unmap(IOVA);
    assert_eq!(access(&b, IOVA, true), Ok(DATA.0), "nobody flushed");
    w(&b.mm, 0x40, 7);
    b.sleep_us(5);
    assert_eq!(access(&b, IOVA, true), Ok(DATA.0), "the root forgot, the leaf did not");
    b.flush();
    assert_eq!(access(&b, IOVA, true), Err(FaultKind::Translation));
    b.board.assert_clean();
}

#[test]
fn flushing_the_leaf_alone_keeps_the_roots_translations() {
    let b = mapped();
    assert_eq!(access(&b, IOVA, true), Ok(DATA.0));
    b.unmap(IOVA);
    w(&b.hc, 0x40, 7);
    b.sleep_us(5);
    assert_eq!(access(&b, IOVA, true), Ok(DATA.0));
}

#[test]
fn the_old_translation_is_used_until_the_flush_bit_clears() {
    let b = mapped();
    assert_eq!(access(&b, IOVA, true), Ok(DATA.0));
    b.unmap(IOVA);
    w(&b.hc, 0x40, 7);
    w(&b.mm, 0x40, 7);
    assert_eq!(r(&b.mm, 0x40), 7, "FLUSH reads 1 while it runs");
    assert_eq!(access(&b, IOVA, true), Ok(DATA.0));
    let mut polls = 0;
    while r(&b.mm, 0x40) & 2 != 0 {
        polls += 1;
        assert!(polls < 100, "polling without waiting gets there, too");
    }
    assert_eq!(access(&b, IOVA, true), Err(FaultKind::Translation));
}

#[test]
fn a_table_removed_without_flush_is_still_walked() {
    let b = mapped();
    b.map(IOVA - 0x1000, DATA + 0x1000, PAGE_BITS);
    assert_eq!(access(&b, IOVA, false), Ok(DATA.0));
    b.put64(L2 + (IOVA >> 21 & 0x1ff) * 8, 0);
    assert_eq!(access(&b, IOVA - 0x1000, false), Ok(DATA.0 + 0x1000), "not cached itself, but its table is");
    b.flush();
    assert_eq!(access(&b, IOVA - 0x1000, false), Err(FaultKind::Translation));
}

#[test]
fn a_block_in_place_of_a_table_without_flush_hits_twice() {
    let b = mapped();
    assert_eq!(access(&b, IOVA, false), Ok(DATA.0));
    // The walk cache still knows the table; only another context's flush would drop it, so build the block elsewhere:
    // the same 2 MiB, reached after the leaf and root forgot the table but not the page.
    b.put64(L2 + (IOVA >> 21 & 0x1ff) * 8, 0x4820_0000 | (PAGE_BITS & !2));
    w(&b.mm, 0x40, 7);
    b.sleep_us(5);
    assert_eq!(access(&b, IOVA - 0x1000, false), Ok(0x4820_0000 + 0x1f_e000));
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::MultipleHit));
    assert_eq!(r(&b.mm, 0x60) & 0x17, 0x10, "IMSTR.MHIT");
    b.board.assert_clean();
}

#[test]
fn a_utlb_moved_to_another_context_without_flush_keeps_its_translations() {
    let b = mapped();
    assert_eq!(access(&b, IOVA, false), Ok(DATA.0));
    let other = PhysAddr(0x4800_8000);
    w(&b.mm, 0x90, other.0 as u32);
    w(&b.mm, 0x88, 1 << 31 | 2 << 6);
    w(&b.hc, 0x80, 7);
    w(&b.mm, 0x80, 7);
    b.sleep_us(5);
    w(&b.hc, 0x320, 2 << 4 | 1);
    assert_eq!(access(&b, IOVA, false), Ok(DATA.0));
    w(&b.hc, 0x320, 2 << 4 | 3);
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::Translation));
    assert_eq!((r(&b.mm, 0x60), r(&b.mm, 0xa0) & 1), (0, 1), "the fault belongs to context 2");
    b.board.assert_clean();
}

#[test]
fn imstr_is_cleared_by_writing_0_and_the_address_is_valid_only_before() {
    let b = mapped();
    assert_eq!(access(&b, 0x1000, true), Err(FaultKind::Translation));
    assert_eq!(access(&b, 0x2000, true), Err(FaultKind::Translation));
    let status = r(&b.mm, 0x60);
    assert_eq!(status & 0x17, 1);
    assert_eq!((r(&b.mm, 0x70), r(&b.mm, 0x74)), (0x1000, 0), "the first fault's address");
    w(&b.mm, 0x60, status);
    w(&b.mm, 0x60, u32::MAX);
    assert_eq!(r(&b.mm, 0x60), status, "writing ones clears nothing");
    w(&b.mm, 0x60, 0);
    assert_eq!((r(&b.mm, 0x60), r(&b.mm, 0x70)), (0, 0));
    b.board.assert_clean();
}

#[test]
fn a_fault_raises_the_roots_line_while_it_is_recorded_and_inten_is_set() {
    let b = mapped();
    b.enable_irqs();
    let _ = access(&b, 0x1000, true);
    assert_eq!(b.irqs.ipmmu(), 0, "nothing is delivered outside of wait");
    assert!(b.board.run_pending() > 1, "nobody clears it, so it comes again");
    let before = b.irqs.ipmmu();
    w(&b.mm, 0x40, 1);
    assert_eq!(b.board.run_pending(), 0, "INTEN off");
    w(&b.mm, 0x40, 5);
    w(&b.mm, 0x60, 0);
    assert_eq!((b.board.run_pending(), b.irqs.ipmmu()), (0, before));
    b.board.assert_clean();
}

#[test]
fn a_stuck_flush_never_clears_and_keeps_translations() {
    let b = mapped();
    assert_eq!(access(&b, IOVA, false), Ok(DATA.0));
    b.board.set_stuck(Stuck::IpmmuFlush, true);
    b.unmap(IOVA);
    w(&b.hc, 0x40, 7);
    w(&b.mm, 0x40, 7);
    b.sleep_us(1000);
    assert_eq!(r(&b.mm, 0x40) & 2, 2);
    assert_eq!(access(&b, IOVA, false), Ok(DATA.0));
    b.board.set_stuck(Stuck::IpmmuFlush, false);
    b.flush();
    assert_eq!(access(&b, IOVA, false), Err(FaultKind::Translation));
}

#[test]
fn what_the_manual_forbids_is_a_model_error() {
    for (register, value, says) in [
        (0x00, 1, "context 0 is reserved"),
        (0x10, 0x4800_0000, "context 0 is reserved"),
        (0x0c, 0, "no such register"),
        (0x4c, 0, "no such register"),
        (0x320, 0, "no such register"),
        (0x40, 3, "without EAE"),
        (0x40, 1 << 3, "not modelled"),
        (0x48, 1 << 31 | 1 << 4, "Gen3 does not have"),
        (0x50, 0x4800_0008, "not a multiple of 32"),
        (0x70, 0, "read only"),
    ] {
        let b = bench();
        w(&b.mm, register, value);
        let errors = b.errors();
        assert!(errors.contains(says), "{register:#x} <- {value:#x}: {errors}");
    }
    for (register, value, says) in [
        (0x50, 0, "no such register"),
        (0x320, 1, "context 0 is reserved"),
        (0x320, 8 << 4 | 1, "context 8 is reserved or does not exist"),
        (0x328, 1, "IMUASID"),
        (0x320, 1 << 31, "not modelled"),
    ] {
        let b = bench();
        w(&b.hc, register, value);
        let errors = b.errors();
        assert!(errors.contains(says), "{register:#x} <- {value:#x}: {errors}");
    }
    let b = mapped();
    w(&b.mm, 0x50, 0);
    assert!(b.errors().contains("context 1 is running"));
}
