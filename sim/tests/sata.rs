//! The disk controller at register level.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use bindery::env::{Caching, Env, Width};
use bindery_sim::disk::{Access, Disk};
use bindery_sim::models::sata::Stop;
use bindery_sim::salvator::Salvator;
use common::*;

const READY: u32 = 0x50;
const MS: Duration = Duration::from_millis(1);

/// Controller up, no translation.
fn up() -> Bench {
    let b = bench();
    b.sata_on();
    b
}

fn bytes_of_sector(n: u16) -> Vec<u8> {
    n.to_le_bytes().repeat(256)
}

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

#[test]
fn identify_answers_through_the_data_register() {
    let b = up();
    b.enable_irqs();
    b.command(0xec, 0, 0);
    assert_eq!(r(&b.sata, 0x1204) & 0x80, 0x80);
    b.sleep_us(60);
    assert!(b.irqs.sata() > 0);
    assert_eq!(r(&b.sata, 0x184) & 1 << 4, 1 << 4, "DEVINT");
    assert_eq!(b.ata_status(), 0x58);
    assert_eq!(r(&b.sata, 0x184) & 1 << 4, 0, "reading status took the request back");
    let words: Vec<u32> = (0..256).map(|_| r(&b.sata, 0x1100)).collect();
    assert_eq!(words[100], 4096);
    assert_eq!(words[27], u32::from(u16::from_be_bytes(*b"BI")));
    assert_eq!(words[88] & 0x7f, 0x7f, "UDMA/133");
    assert_eq!(b.ata_status(), READY);
    b.board.assert_clean();
    r(&b.sata, 0x1100);
    assert!(b.errors().contains("offers no data"));
}

#[test]
fn identify_can_be_made_to_fail() {
    let b = up();
    b.board.sata_faults(|k| k.identify_error = true);
    b.command(0xec, 0, 0);
    b.sleep_us(60);
    assert_eq!((b.ata_status(), r(&b.sata, 0x1104)), (0x51, 4));
    b.board.assert_clean();
}

#[test]
fn dma_reads_sectors_into_the_segments_of_the_table() {
    let b = up();
    b.enable_irqs();
    b.prds(&[(DATA.0 as u32, 1024), (DATA.0 as u32 + 0x8000, 512)]);
    b.dma(TABLE.0 as u32, false, 7, 3);
    assert_eq!(b.dma_status() & 1, 1, "ACT");
    b.sleep_us(200);
    assert_eq!(b.get(DATA, 1024), [bytes_of_sector(7), bytes_of_sector(8)].concat());
    assert_eq!(b.get(DATA + 0x8000, 512), bytes_of_sector(9));
    assert_eq!(b.dma_status(), 1 << 11 | 1 << 6 | 1 << 4 | 1 << 1, "SATAINT, DNEND, DEVINT, NEND");
    assert_eq!(r(&b.sata, 0x1508), 1, "ATA");
    assert!(b.irqs.sata() > 0);
    w(&b.sata, 0x1508, 0x7fe);
    assert_eq!(b.ata_status(), READY);
    assert_eq!(b.board.run_pending(), 0, "acknowledged");
    b.board.assert_clean();
}

#[test]
fn interrupt_status_is_acknowledged_by_writing_0_only() {
    let b = up();
    b.command(0xea, 0, 0);
    b.sleep_us(60);
    w(&b.sata, 0x1508, 1);
    assert_eq!(r(&b.sata, 0x1508), 1, "writing 1 leaves it");
    w(&b.sata, 0x1508, !1);
    assert_eq!(r(&b.sata, 0x1508), 0);
}

#[test]
fn a_masked_or_disabled_interrupt_does_not_reach_the_line() {
    let b = up();
    b.enable_irqs();
    w(&b.sata, 0x150c, 0xfff);
    b.command(0xea, 0, 0);
    b.sleep_us(60);
    assert_eq!((r(&b.sata, 0x1508), b.irqs.sata()), (1, 0));
    w(&b.sata, 0x188, 0);
    w(&b.sata, 0x150c, 0);
    assert_eq!(b.board.run_pending(), 0);
    w(&b.sata, 0x188, 1 << 11);
    assert!(b.board.run_pending() > 0);
    w(&b.sata, 0x1508, 0);
    w(&b.sata, 0x1204, 2);
    b.command(0xea, 0, 0);
    b.sleep_us(60);
    assert_eq!((b.ata_status(), r(&b.sata, 0x1508)), (READY, 0), "nIEN");
    b.board.assert_clean();
}

#[test]
fn dma_writes_reach_the_disk() {
    let b = up();
    b.put(DATA, &[0x77; 1024]);
    b.prds(&[(DATA.0 as u32, 1024)]);
    b.dma(TABLE.0 as u32, true, 100, 2);
    b.sleep_us(200);
    assert_eq!(b.ata_status(), READY);
    let mut disk = [0; 1024];
    b.board.with_disk(|d| d.read(100 * 512, &mut disk)).unwrap().unwrap();
    assert_eq!(disk, [0x77; 1024]);
    b.board.assert_clean();
}

#[test]
fn a_forgotten_clean_writes_stale_memory_to_the_disk_and_a_coherent_controller_does_not() {
    for coherent in [false, true] {
        let salvator = Salvator::new().disk(numbered_disk(8));
        let b = on(if coherent { salvator.coherent_sata() } else { salvator });
        b.sata_on();
        b.board.ram().cpu_write(DATA, &[0x77; 512], Caching::Cached).unwrap();
        let prd = [(DATA.0 as u32 | 1).to_le_bytes(), 512_u32.to_le_bytes()].concat();
        b.board.ram().cpu_write(TABLE, &prd, Caching::Cached).unwrap();
        if !coherent {
            b.put(TABLE, &prd);
        }
        b.dma(TABLE.0 as u32, true, 3, 1);
        b.sleep_us(200);
        let mut disk = [1; 512];
        b.board.with_disk(|d| d.read(3 * 512, &mut disk)).unwrap().unwrap();
        assert_eq!(disk, [if coherent { 0x77 } else { 0 }; 512]);
    }
}

#[test]
fn table_and_data_both_go_through_the_ipmmu() {
    let b = up();
    b.map(0xffff_f000, TABLE, PAGE_BITS | READ_ONLY);
    b.map(0xffff_d000, DATA + 0x3000, PAGE_BITS);
    b.map(0xffff_e000, DATA, PAGE_BITS);
    b.translation_on();
    b.prds(&[(0xffff_de00, 1024)]);
    b.dma(0xffff_f000, false, 20, 2);
    b.sleep_us(200);
    assert_eq!(b.ata_status(), READY);
    assert_eq!(b.get(DATA + 0x3e00, 512), bytes_of_sector(20), "up to the page's end");
    assert_eq!(b.get(DATA, 512), bytes_of_sector(21), "and on in the next page");
    b.board.assert_clean();
}

#[test]
fn a_freed_table_faults_in_the_ipmmu_and_the_command_never_ends() {
    let b = up();
    b.map(0xffff_e000, DATA, PAGE_BITS);
    b.translation_on();
    b.dma(0xffff_f000, false, 20, 1);
    b.sleep(100 * MS);
    assert_eq!(b.dma_status() & 0b111, 1 << 2, "ERR, not ACT");
    assert_eq!(r(&b.sata, 0x1204) & 0x80, 0x80, "the device waits for its data");
    assert_eq!((r(&b.mm, 0x60) & 1, r(&b.mm, 0x70)), (1, 0xffff_f000));
    assert_eq!(r(&b.sata, 0x1508) & 1 << 2, 1 << 2);
    b.board.assert_clean();
    w(&b.sata, 0x184, !(1 << 2));
    assert_eq!(b.dma_status() & 1 << 2, 0, "cleared by writing 0");
}

#[test]
fn a_mapping_that_goes_away_under_a_transfer_faults() {
    let b = up();
    for page in 0..64 {
        b.map(0xffe0_0000 + page * 0x1000, DATA + page * 0x1000, PAGE_BITS);
    }
    b.map(0xffff_f000, TABLE, PAGE_BITS);
    b.translation_on();
    b.prds(&[(0xffe0_0000, 0x4_0000)]);
    b.dma(0xffff_f000, false, 0, 512);
    b.sleep_us(300);
    assert_eq!(b.dma_status() & 1, 1, "in the middle");
    for page in 0..64 {
        b.unmap(0xffe0_0000 + page * 0x1000);
    }
    b.flush();
    b.sleep(10 * MS);
    assert_eq!(b.dma_status() & 0b101, 1 << 2);
    let last = b.get(DATA + 0x3_fe00, 512);
    assert_eq!(last, vec![0; 512], "the rest did not arrive");
    b.board.assert_clean();
}

#[test]
fn dma_outside_ram_is_an_error_of_the_controller() {
    let b = up();
    b.prds(&[(0x2000_0000, 512)]);
    b.dma(TABLE.0 as u32, false, 0, 1);
    b.sleep_us(200);
    assert_eq!(b.dma_status() & 0b101, 1 << 2);
    b.board.assert_clean();
}

#[test]
fn a_table_longer_than_the_data_ends_with_devtrm_and_a_shorter_one_with_err() {
    let b = up();
    b.prds(&[(DATA.0 as u32, 2048)]);
    b.dma(TABLE.0 as u32, false, 0, 1);
    b.sleep_us(200);
    assert_eq!(b.dma_status() & 0x7f, 1 << 5 | 1 << 4);
    assert_eq!(b.ata_status(), READY);
    b.board.assert_clean();
    b.prds(&[(DATA.0 as u32, 256)]);
    b.dma(TABLE.0 as u32, false, 0, 1);
    b.sleep_us(200);
    assert_eq!(b.dma_status() & 0x7f, 1 << 2);
    assert!(b.errors().contains("ended before the data"));
}

#[test]
fn an_address_past_the_disks_end_and_an_unknown_command_fail() {
    let b = up();
    b.prds(&[(DATA.0 as u32, 512)]);
    b.dma(TABLE.0 as u32, false, 4095, 2);
    b.sleep_us(200);
    assert_eq!((b.ata_status(), r(&b.sata, 0x1104)), (0x51, 0x10), "IDNF");
    assert_eq!(b.dma_status() & 0x7f, 1 << 5, "DEVTRM");
    b.command(0x99, 0, 0);
    b.sleep_us(60);
    assert_eq!((b.ata_status(), r(&b.sata, 0x1104)), (0x51, 0x04), "ABRT");
    b.board.assert_clean();
}

#[test]
fn a_bad_sector_ends_the_command_there_and_names_itself() {
    let b = up();
    b.board.sata_faults(|k| k.media_error = Some(0x102));
    b.prds(&[(DATA.0 as u32, 2048)]);
    b.dma(TABLE.0 as u32, false, 0x100, 4);
    b.sleep_us(200);
    assert_eq!((b.ata_status(), r(&b.sata, 0x1104)), (0x51, 0x40), "UNC");
    assert_eq!((r(&b.sata, 0x110c), r(&b.sata, 0x1110)), (2, 1));
    assert_eq!(b.get(DATA + 512, 512), bytes_of_sector(0x101), "what came before arrived");
    assert_eq!(b.get(DATA + 1024, 512), vec![0; 512]);
    b.board.assert_clean();
}

#[test]
fn a_disk_that_refuses_a_write_fails_the_command_and_not_the_host() {
    let path = std::env::temp_dir().join(format!("bindery-sata-ro-{}", std::process::id()));
    std::fs::write(&path, [0; 4096]).unwrap();
    let b = on(Salvator::new().disk(Disk::open(&path, Access::ReadOnly).unwrap()));
    b.sata_on();
    b.prds(&[(DATA.0 as u32, 512)]);
    b.dma(TABLE.0 as u32, true, 0, 1);
    b.sleep_us(200);
    assert_eq!((b.ata_status(), r(&b.sata, 0x1104)), (0x51, 4));
    std::fs::File::options().write(true).open(&path).unwrap().set_len(512).unwrap();
    b.dma(TABLE.0 as u32, false, 4, 1);
    b.sleep_us(200);
    assert_eq!((b.ata_status(), r(&b.sata, 0x1104)), (0x51, 0x40), "the image shrank under the disk");
    std::fs::remove_file(path).unwrap();
    b.board.assert_clean();
}

#[test]
fn a_command_can_be_made_to_never_complete_and_a_soft_reset_recovers() {
    let b = up();
    b.board.sata_faults(|k| k.no_completion = true);
    b.command(0xea, 0, 0);
    b.sleep(1000 * MS);
    assert_eq!(r(&b.sata, 0x1204) & 0x80, 0x80);
    b.board.sata_faults(|k| k.no_completion = false);
    w(&b.sata, 0x1204, 0x0c);
    b.sleep_us(20);
    w(&b.sata, 0x1204, 0x08);
    assert_eq!(r(&b.sata, 0x1204) & 0x80, 0x80);
    b.sleep(3 * MS);
    assert_eq!(r(&b.sata, 0x1204), READY);
    b.command(0xea, 0, 0);
    b.sleep_us(60);
    assert_eq!(b.ata_status(), READY);
    b.board.assert_clean();
}

/// A transfer of 256 sectors, stopped in the middle.
fn stopped() -> Bench {
    let b = up();
    b.prds(&[(DATA.0 as u32, 0x2_0000)]);
    b.dma(TABLE.0 as u32, false, 0, 256);
    b.sleep_us(300);
    assert_eq!(b.dma_status() & 1, 1);
    b
}

const STOPPED: u32 = 1 << 16 | 1 << 11 | 1 << 3 | 1 << 2 | 2;

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
fn the_board_knows_what_a_running_engine_reaches_and_what_an_ipmmu_remembers() {
    let b = stopped();
    assert!(b.board.reaches(DATA + 0x1_f000, 4096), "the end of the segment");
    assert!(!b.board.reaches(DATA + 0x2_0000, 4096) && !b.board.reaches(TABLE, 4096), "past it, and behind it");
    w(&b.sata, 0x180, STOPPED);
    b.sleep_us(2);
    assert!(!b.board.reaches(DATA + 0x1_f000, 4096));

    let b = up();
    b.map(0xffff_f000, TABLE, PAGE_BITS);
    b.map(0xffff_e000, DATA, PAGE_BITS);
    b.translation_on();
    b.prds(&[(0xffff_e000, 512)]);
    assert!(!b.board.reaches(DATA, 4096), "nobody has looked yet");
    b.dma(0xffff_f000, false, 20, 1);
    b.sleep_us(200);
    b.unmap(0xffff_e000);
    assert!(b.board.reaches(DATA + 4095, 1) && !b.board.reaches(DATA + 4096, 4096));
    b.flush();
    assert!(!b.board.reaches(DATA, 4096));
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
