//! Descriptor table and data, through cache and IPMMU.

use bindery::env::Caching;
use bindery_sim::salvator::Salvator;

use crate::common::*;
use crate::{MS, READY, bytes_of_sector, up};

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
fn a_missing_clean_writes_stale_memory_to_the_disk_and_a_coherent_controller_does_not() {
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
