//! Commands, their interrupts and errors.

use bindery_sim::disk::{Access, Disk};
use bindery_sim::salvator::Salvator;

use crate::common::*;
use crate::{MS, READY, bytes_of_sector, up};

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
    assert!(b.errors().contains("no data is ready"));
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
fn an_address_beyond_the_disks_end_and_an_unknown_command_fail() {
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
