//! A disk with sectors of 4096 bytes, made of one with 512 by a hook at its registers.

use std::sync::{Arc, Mutex};

use super::dma::*;
use bindery::env::Width;
use bindery::machine::Policy;
use bindery_drivers::block::BlockDevice;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::disk::Disk;
use bindery_sim::salvator::{self, Salvator};

const TASK: u64 = 0x1100;

#[derive(Default)]
struct Middle {
    file: [[u64; 2]; 8],
    word: Option<usize>,
}

/// `sectors`: what IDENTIFY says in words 117 and 118, in 16-bit words; `factor`: 512-byte sectors in one.
fn rig_with_sectors(words: u64, factor: u64) -> Rig {
    let m = Arc::new(Mutex::new(Middle::default()));
    let r = rig_on(
        Salvator::new().disk(Disk::memory((0..2048u16).flat_map(|n| n.to_le_bytes().repeat(256)).collect())),
        Policy::default(),
        salvator::DEVICE_TREE,
        move |tap| {
            tap.hook(salvator::SATA_BASE.0, move |io, offset, value, written| {
                let mut m = m.lock().unwrap();
                if !(TASK..TASK + 32).contains(&offset) {
                    return Ok(value);
                }
                let n = ((offset - TASK) / 4) as usize;
                if written {
                    match n {
                        2..=5 => m.file[n] = [value & 0xff, m.file[n][0]],
                        7 => {
                            m.word = (value == 0xec).then_some(0);
                            if value == 0x25 || value == 0x35 {
                                let f = m.file;
                                let lba = (f[3][0]
                                    | f[4][0] << 8
                                    | f[5][0] << 16
                                    | f[3][1] << 24
                                    | f[4][1] << 32
                                    | f[5][1] << 40)
                                    * factor;
                                let count = (f[2][0] | f[2][1] << 8) * factor;
                                let put = |n: u64, hi: u64, lo: u64| {
                                    for v in [hi, lo] {
                                        io.write(TASK + 4 * n, Width::W32, v & 0xff).unwrap();
                                    }
                                };
                                put(2, count >> 8, count);
                                put(3, lba >> 24, lba);
                                put(4, lba >> 32, lba >> 8);
                                put(5, lba >> 40, lba >> 16);
                            }
                        }
                        _ => {}
                    }
                    return Ok(value);
                }
                Ok(match (n, &mut m.word) {
                    (0, Some(w)) => {
                        let i = *w;
                        *w += 1;
                        match i {
                            100 => 2048 / factor,
                            106 => 0x5000,
                            117 => words & 0xffff,
                            118 => words >> 16,
                            255 => 0,
                            _ => value,
                        }
                    }
                    _ => value,
                })
            })
        },
    );
    r.machine.settle();
    r
}

#[test]
fn whole_sectors_are_read_and_written_and_parts_refused() {
    let r = rig_with_sectors(2048, 8);
    let c = r.machine.client::<SataRcar>(SATA).expect("bound");
    c.call(|p| {
        println!("{} sectors of {}", p.capacity(), p.sector_size());
        let mut b = vec![0; 4096];
        p.read(3, &mut b).unwrap();
        for (i, s) in b.chunks(512).enumerate() {
            assert_eq!(u16::from_le_bytes([s[0], s[1]]), 24 + i as u16);
        }
        let mut big = vec![0; 40 * 4096];
        p.read(10, &mut big).unwrap();
        for (i, s) in big.chunks(512).enumerate() {
            assert_eq!(u16::from_le_bytes([s[0], s[1]]), 80 + i as u16);
        }
        p.write(255, &[9; 4096]).unwrap();
        println!(
            "part: {}; past the end: {}",
            p.read(0, &mut [0; 512]).unwrap_err(),
            p.read(255, &mut [0; 8192]).unwrap_err()
        );
    })
    .unwrap();
    r.board.with_disk(|d| {
        let mut b = [0; 4096];
        d.read(255 * 4096, &mut b).unwrap();
        assert_eq!(b, [9; 4096]);
    });
    println!("{}", r.verdict());
}

#[test]
fn sectors_with_room_for_checksums_are_refused_by_name() {
    // 520 bytes (T10 protection): not a power of two.
    let r = rig_with_sectors(260, 1);
    let said: Vec<_> = r
        .events()
        .into_iter()
        .filter(|l| l.starts_with(SATA) && (l.contains("claims") || l.contains("not bound")))
        .collect();
    println!("{:?}: {said:?}; {}", r.driver(SATA), r.verdict());
    assert_eq!(r.driver(SATA), None);
    assert!(said.iter().any(|l| l.contains("520")));
}
