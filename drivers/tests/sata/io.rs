//! Reads and writes transfer the right data.

use std::path::PathBuf;
use std::thread;

use bindery_drivers::block::{BlockDevice, BlockError};
use bindery_sim::disk::Access;

use super::*;

pub(crate) fn temporary_file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("bindery-sata-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    path
}

pub(crate) fn a_disk_is_identified_and_read(translated: bool) {
    let rig = rig(translated);
    port(&rig)
        .call(|p| {
            let id = p.identity();
            assert_eq!((&*id.model, &*id.serial), ("BINDERY SIMULATED DISK", "SIM0000000000001"));
            assert_eq!((p.capacity(), id.sector_size, id.ultra_dma), (4096, 512, Some(6)));
            let mut back = vec![0; 512 * 300];
            p.read(100, &mut back).unwrap();
            for (n, got) in (100..).zip(back.chunks(512)) {
                assert_eq!(got, sector(n), "sector {n}");
            }
            p.read(4095, &mut back[..512]).unwrap();
            assert_eq!(back[..512], sector(4095));
            p.read(0, &mut []).unwrap();
        })
        .unwrap();
    rig.assert_well();
}

pub(crate) fn what_is_written_is_in_the_file(translated: bool) {
    let path = temporary_file(if translated { "write-t" } else { "write-u" }, &vec![0x11; 512 * 1000]);
    let rig = with_disk(Disk::open(&path, Access::ReadWrite).unwrap(), translated);
    let data: Vec<u8> = (0..512 * 333_u32).map(|n| (n / 7) as u8).collect();
    port(&rig)
        .call(|p| {
            p.write(500, &data).unwrap();
            p.flush().unwrap();
            let mut back = vec![0; data.len()];
            p.read(500, &mut back).unwrap();
            assert_eq!(back, data);
        })
        .unwrap();
    let file = std::fs::read(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(file[512 * 500..512 * 833], data);
    assert!(file[..512 * 500].iter().chain(&file[512 * 833..]).all(|b| *b == 0x11), "and nothing beside it");
    rig.assert_well();
}

#[test]
fn a_disk_is_identified_and_read_untranslated() {
    a_disk_is_identified_and_read(false);
}

#[test]
fn written_data_is_in_the_file_untranslated() {
    what_is_written_is_in_the_file(false);
}

#[test]
fn scattered_buffers_of_any_length_are_filled_in_order() {
    let rig = rig(false);
    let (mut a, mut b, mut c) = (vec![0; 3], vec![0; 512 * 129], vec![0; 509]);
    port(&rig).call(|p| p.read_vectored(40, &mut [&mut a, &mut b, &mut [], &mut c])).unwrap().unwrap();
    let got = [a.clone(), b.clone(), c.clone()].concat();
    for (n, got) in (40..).zip(got.chunks(512)) {
        assert_eq!(got, sector(n), "sector {n}");
    }
    port(&rig).call(|p| p.write_vectored(2000, &[&c, &[], &b, &a])).unwrap().unwrap();
    assert_eq!(on_disk(&rig, 2000, 130), [c, b, a].concat());
    rig.assert_well();
}

#[test]
fn sectors_beyond_28_bits_are_reached() {
    const FAR: u64 = 0x1_0000_0abc;
    let rig = with_disk(Disk::temporary(FAR + 8).unwrap(), false);
    rig.board.with_disk(|d| d.write(0xabc * 512, &[0xbb; 512]).unwrap()).unwrap();
    port(&rig)
        .call(|p| {
            assert_eq!(p.capacity(), FAR + 8);
            p.write(FAR, &[0xaa; 1024]).unwrap();
            let mut back = [0; 512];
            p.read(FAR + 1, &mut back).unwrap();
            assert_eq!(back, [0xaa; 512]);
            p.read(0xabc, &mut back).unwrap();
            assert_eq!(back, [0xbb; 512], "the low 28 and 32 bits alone are another sector");
        })
        .unwrap();
    assert_eq!(on_disk(&rig, FAR, 1), [0xaa; 512]);
    rig.assert_well();
}

#[test]
fn callers_on_many_threads_get_their_own_data() {
    let rig = rig(false);
    thread::scope(|s| {
        for t in 0..4_u64 {
            let port = port(&rig);
            s.spawn(move || {
                for n in 0..12 {
                    let (from, to) = (t * 1000 + n * 8, t * 1000 + 500 + n * 8);
                    let mut data = vec![0; 512 * 8];
                    port.call(|p| p.read(from, &mut data)).unwrap().unwrap();
                    assert_eq!(data[..512], sector(from));
                    port.call(|p| p.write(to, &data)).unwrap().unwrap();
                }
            });
        }
    });
    for t in 0..4 {
        assert_eq!(on_disk(&rig, t * 1000 + 500, 96), on_disk(&rig, t * 1000, 96));
    }
    rig.assert_well();
}

#[test]
fn a_port_is_a_block_device_until_it_is_unbound() {
    let rig = rig(false);
    let disk = rig.machine.service::<dyn BlockDevice>(SATA).unwrap();
    assert_eq!((disk.sector_size(), disk.capacity()), (512, 4096));
    disk.write(9, &[3; 512]).unwrap();
    disk.flush().unwrap();
    let mut back = [0; 512];
    disk.read(9, &mut back).unwrap();
    assert_eq!(back, [3; 512]);
    let beyond = BlockError::OutOfRange { lba: 4096, sectors: 1, capacity: 4096 };
    assert_eq!(disk.read(4096, &mut back), Err(beyond));
    assert_eq!(disk.write(0, &back[..100]), Err(BlockError::Unaligned { len: 100, sector: 512 }));
    rig.board.sata_faults(|k| k.media_error = Some(20));
    assert_eq!(disk.read(20, &mut back), Err(BlockError::Medium { lba: 20 }));
    assert_eq!(disk.write(20, &back), Err(BlockError::Refused));
    unbind(&rig);
    assert_eq!(disk.read(9, &mut back), Err(BlockError::Gone), "P5");
    assert_eq!((disk.flush(), disk.capacity()), (Err(BlockError::Gone), 0), "P5");
    rig.assert_well();
}

/// Bytes that the driver has copied.
fn copied(rig: &Rig) -> u64 {
    port(rig).call(|p| p.copied_bytes()).unwrap()
}

pub(crate) fn a_callers_buffer_is_filled_by_the_controller_itself(translated: bool) {
    let rig = rig(translated);
    let disk = rig.machine.service::<dyn BlockDevice>(SATA).unwrap();
    let mut buffer = rig.machine.dma_buffer(512 * 300).unwrap();
    buffer.as_mut_slice().fill(0xee);
    disk.read_buffer(100, &mut buffer, 512 * 2..512 * 299).unwrap();
    for (n, got) in (98..).zip(buffer.as_slice().chunks(512)) {
        let beside = [98, 99, 397].contains(&n);
        assert_eq!(got, if beside { vec![0xee; 512] } else { sector(n) }, "sector {n}");
    }
    disk.write_buffer(2000, &mut buffer, 512 * 2..512 * 130).unwrap();
    disk.flush().unwrap();
    assert_eq!(on_disk(&rig, 2000, 128), buffer.as_slice()[1024..512 * 130]);
    assert_eq!((copied(&rig), rig.machine.bounced_bytes()), (0, 0), "no byte is copied");
    // A slice is copied, by the driver:
    disk.read(0, &mut [0; 1024]).unwrap();
    assert_eq!(copied(&rig), 1024);
    // and so is a range that shares a cache line, since the controller does not snoop.
    disk.read_buffer(7, &mut buffer, 4..516).unwrap();
    disk.write_buffer(9, &mut buffer, 4..516).unwrap();
    assert_eq!((copied(&rig), &buffer.as_slice()[4..516]), (1024 + 1024, &sector(7)[..]));
    assert_eq!(on_disk(&rig, 9, 1), sector(7));
    assert_eq!(disk.read_buffer(0, &mut buffer, 0..0), Ok(()));
    let outside = BlockError::OutsideBuffer { start: 0, end: 512 * 301, len: 512 * 300 };
    assert_eq!(disk.read_buffer(0, &mut buffer, 0..512 * 301), Err(outside));
    assert_eq!(disk.write_buffer(0, &mut buffer, 0..100), Err(BlockError::Unaligned { len: 100, sector: 512 }));
    let beyond = BlockError::OutOfRange { lba: 4095, sectors: 2, capacity: 4096 };
    assert_eq!(disk.read_buffer(4095, &mut buffer, 0..1024), Err(beyond));
    rig.board.sata_faults(|k| k.media_error = Some(20));
    assert_eq!(disk.read_buffer(19, &mut buffer, 0..1024), Err(BlockError::Medium { lba: 20 }));
    rig.board.sata_faults(|k| k.media_error = None);
    disk.read_buffer(19, &mut buffer, 0..1024).unwrap();
    unbind(&rig);
    assert_eq!(disk.read_buffer(0, &mut buffer, 0..512), Err(BlockError::Gone), "P5");
    rig.assert_well();
}

#[test]
fn a_callers_buffer_is_filled_by_the_controller_itself_untranslated() {
    a_callers_buffer_is_filled_by_the_controller_itself(false);
}
