//! The whole board, through its env.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bindery::addr::PhysAddr;
use bindery::device::{Nodes, Resource};
use bindery::env::{Env, EnvError, Instant, IoError, IrqControl, IrqLine, RamUse, Width};
use bindery::firmware::fdt;
use bindery::instrument::{FaultPoint, Instrument};
use bindery_sim::board::{Stuck, UnknownDevice};
use bindery_sim::salvator::{self, Salvator};
use common::*;

#[test]
fn the_board_and_its_device_tree_agree() {
    let board = Salvator::new().build();
    let mut nodes = Nodes::new();
    let tree = fdt::describe(salvator::DEVICE_TREE, &mut nodes).unwrap();
    let modelled = ["ipmmu", "cpg-mssr", "sysc", "sata"];
    let mut seen = 0;
    for device in &tree.devices {
        let is_modelled = device.compatible.iter().any(|c| modelled.iter().any(|m| c.contains(m)));
        for resource in &device.resources {
            match resource {
                Resource::Mem { base, len } if is_modelled => {
                    seen += 1;
                    assert!(board.map_io(*base, *len).is_ok(), "{} at {base}", device.name);
                    board.unplug(&device.name).unwrap();
                }
                Resource::Mem { .. } | Resource::IrqBehind { .. } => {}
                // A CPU's own lines (timer, maintenance) are no device's.
                Resource::Irq { line, .. } if line.0 < 32 => {}
                Resource::Irq { line, .. } => board.irq(*line, IrqControl::Disable).unwrap(),
            }
        }
    }
    assert_eq!(seen, 10, "7 IPMMUs, CPG, SYSC, SATA");
    let (bank, len) = tree.memory[0];
    let ranges = board.memory().ranges();
    assert!(ranges.iter().all(|r| r.base >= bank && r.base.0 + r.len <= bank.0 + len));
    let cma = tree.reserved.iter().find(|r| r.cma_default).unwrap();
    let contiguous = ranges.iter().find(|r| r.use_for == RamUse::Contiguous).unwrap();
    assert_eq!((cma.base, cma.len), (Some(contiguous.base), contiguous.len));
}

#[test]
fn addresses_without_registers_cannot_be_mapped() {
    let board = Salvator::new().build();
    for (base, len) in [(0xe600_0000, 4), (0xee30_0000, 0x20_0001), (0xee30_0000, 0), (u64::MAX, 4)] {
        let base = PhysAddr(base);
        assert_eq!(board.map_io(base, len).err(), Some(EnvError::NoSuchRegisters { base, len }));
    }
    let prr = board.map_io(salvator::PRR_BASE, 4).unwrap();
    assert_eq!(r(&prr, 0), salvator::PRR_H3_ES2_0);
    let extra = Salvator::new().fixed(PhysAddr(0xf101_0000), 0x1000, 7).build();
    assert_eq!(r(&extra.map_io(PhysAddr(0xf101_0000), 0x1000).unwrap(), 8), 7);
}

#[test]
fn an_access_outside_a_window_or_not_aligned_is_refused() {
    let b = bench();
    let small = b.board.map_io(salvator::IPMMU_HC_BASE + 0x300, 0x20).unwrap();
    assert_eq!(small.size(), 0x20);
    for (offset, width) in [(0x20, Width::W32), (0x1c, Width::W64), (2, Width::W32), (u64::MAX, Width::W32)] {
        let bad = IoError::Bad { offset, bytes: width.bytes() as u8 };
        assert_eq!(small.read(offset, width), Err(bad));
        assert_eq!(small.write(offset, width, 0), Err(bad));
    }
    w(&small, 0, 0x10);
    assert_eq!(r(&b.hc, 0x300), 0x10, "the window starts where it was asked to");
}

#[test]
fn a_removed_device_fails_accesses_and_stops_dma() {
    let b = bench();
    b.sata_on();
    b.enable_irqs();
    b.prds(&[(DATA.0 as u32, 0x2_0000)]);
    b.dma(TABLE.0 as u32, false, 0, 256);
    b.sleep_us(200);
    b.board.unplug("ee300000.sata").unwrap();
    assert_eq!(b.sata.read(0x184, Width::W32), Err(IoError::Gone));
    assert_eq!(b.sata.write(0x180, Width::W32, 2), Err(IoError::Gone));
    b.sleep_us(10_000);
    assert_eq!(b.get(DATA + 0x1_fe00, 512), vec![0; 512]);
    assert!(!b.board.line_is_high(IrqLine(salvator::SATA_LINE)));
    b.board.plug("ee300000.sata").unwrap();
    assert_eq!(b.sata.read(0x184, Width::W32), Err(IoError::Gone), "a window from before stays dead");
    let again = b.board.map_io(salvator::SATA_BASE, 0x20_0000).unwrap();
    assert_eq!(r(&again, 0x184), 0);
    assert_eq!(b.board.unplug("12345678.uart"), Err(UnknownDevice("12345678.uart".into())));
    b.board.assert_clean();
}

#[test]
fn a_removed_ipmmu_faults_every_access() {
    let b = bench();
    b.map(0xffff_f000, DATA, PAGE_BITS);
    b.translation_on();
    assert!(b.board.translate(0, 2, 0xffff_f000, true).unwrap().is_ok());
    b.board.unplug("e67b0000.mmu").unwrap();
    assert!(b.board.translate(0, 2, 0xffff_f000, true).unwrap().is_err());
    b.board.unplug("e6570000.mmu").unwrap();
    assert!(b.board.translate(0, 2, 0x4800_0000, true).unwrap().is_err());
    assert_eq!(b.board.translate(99, 0, 0, false), None);
}

#[test]
fn interrupts_are_delivered_in_wait_only_and_a_stuck_line_does_not_stop_time() {
    let b = bench();
    b.sata_on();
    b.enable_irqs();
    b.command(0xea, 0, 0);
    for _ in 0..2000 {
        r(&b.sata, 0x1204);
    }
    assert_eq!(b.irqs.sata(), 0, "time passed, but nobody waited");
    let before = b.board.now();
    b.board.advance(Instant::MAX);
    let once = b.irqs.sata();
    assert!((2..100).contains(&once), "a level line comes again, but not without end: {once}");
    b.sleep_us(500);
    assert!(b.board.now() >= before + Duration::from_micros(500));
    b.board.irq(IrqLine(salvator::SATA_LINE), IrqControl::Mask).unwrap();
    let masked = b.irqs.sata();
    b.sleep_us(500);
    assert_eq!(b.irqs.sata(), masked);
    assert_eq!(b.board.irq(IrqLine(5), IrqControl::Mask), Err(EnvError::NoSuchLine(IrqLine(5))));
    b.board.assert_clean();
    b.board.irq(IrqLine(99), IrqControl::Unmask).unwrap();
    assert!(b.errors().contains("nobody enabled it"));
}

#[test]
fn a_wait_ends_at_the_next_event_or_at_the_deadline() {
    let b = bench();
    let t0 = b.board.now();
    b.board.advance(t0 + Duration::from_millis(3));
    assert_eq!(b.board.now(), t0 + Duration::from_millis(3));
    w(&b.mm, 0x40, 2);
    let set = b.board.now();
    b.board.advance(Instant::MAX);
    assert_eq!(b.board.now().since(set), Duration::from_micros(2), "the flush ended");
    b.board.advance(Instant::MAX);
    b.board.advance(Instant(0));
    assert_eq!(b.board.now().since(set), Duration::from_micros(2), "nothing to wait for");
}

#[test]
fn power_domains_switch_on_valid_requests_only() {
    let b = bench();
    let sysc = b.board.map_io(salvator::SYSC_BASE, 0x400).unwrap();
    assert_eq!((b.board.powered(32), b.board.powered(24), b.board.powered(1)), (Some(true), Some(false), None));
    assert_eq!(r(&sysc, 0x180), 1, "A3IR is off");
    w(&sysc, 0x18c, 1);
    assert!(b.errors().contains("SYSCIER does not enable"));
    w(&sysc, 0x0c, 1 << 24);
    w(&sysc, 0x18c, 1);
    assert_eq!((r(&sysc, 0x00), r(&sysc, 0x190)), (0, 1), "under way");
    b.sleep_us(30);
    assert_eq!((r(&sysc, 0x04), r(&sysc, 0x180), r(&sysc, 0x00)), (1 << 24, 0, 3));
    assert_eq!(b.board.powered(24), Some(true));
    w(&sysc, 0x08, 1 << 24);
    assert_eq!(r(&sysc, 0x04), 0);
    b.board.set_stuck(Stuck::PowerDomain, true);
    w(&sysc, 0x184, 1);
    b.sleep_us(1000);
    assert_eq!(b.board.powered(24), Some(true));
    b.board.assert_clean();
    w(&sysc, 0x3f0, 0);
    assert!(b.errors().contains("no register"));
}

#[test]
fn a_power_request_while_another_one_runs_is_an_error_whichever_domains_they_are_for() {
    const TOP: [(u32, u64); 5] = [(9, 0x340), (24, 0x180), (14, 0x380), (17, 0x100), (13, 0x240)];
    for (first, second) in TOP.iter().flat_map(|first| TOP.iter().map(move |second| (first, second))) {
        let b = bench();
        let sysc = b.board.map_io(salvator::SYSC_BASE, 0x400).unwrap();
        w(&sysc, 0x0c, 1 << first.0 | 1 << second.0);
        w(&sysc, first.1 + 0xc, 1);
        w(&sysc, second.1 + 0xc, 1);
        assert!(b.errors().contains("while another one runs"), "{first:?}, {second:?}");
        b.sleep_us(30);
        assert_eq!(b.board.powered(first.0), Some(true));
        w(&sysc, second.1 + 0xc, 1);
        b.sleep_us(30);
        assert_eq!(b.board.powered(second.0), Some(true));
        b.board.assert_clean();
    }
}

#[test]
fn module_clocks_start_some_time_after_they_are_enabled() {
    let b = bench();
    assert!(!b.board.module_runs(815));
    w(&b.cpg, 0x990, r(&b.cpg, 0x990) & !(1 << 15));
    assert!(!b.board.module_runs(815));
    b.sleep_us(2);
    assert_eq!(r(&b.cpg, 0x9a0) & 1 << 15, 0);
    assert!(b.board.module_runs(815));
    w(&b.cpg, 0x990, r(&b.cpg, 0x990) | 1 << 15);
    assert!(!b.board.module_runs(815), "stopping is at once");
    b.board.set_stuck(Stuck::ModuleClock, true);
    w(&b.cpg, 0x990, r(&b.cpg, 0x990) & !(1 << 15));
    b.sleep_us(100);
    assert!(!b.board.module_runs(815));
    assert!(!b.board.module_runs(832) && !b.board.module_runs(9999), "no such modules");
    b.board.assert_clean();
    w(&b.cpg, 0x9a0, 0);
    r(&b.cpg, 0x960);
    assert_eq!(b.errors().lines().count(), 2, "status is read only, reset clear write only");
}

/// A script with accesses to several devices, independent of the host.
fn script(b: &Bench) {
    b.sata_on();
    b.enable_irqs();
    b.map(0xffff_f000, TABLE, PAGE_BITS);
    b.map(0xffff_e000, DATA, PAGE_BITS);
    b.translation_on();
    b.prds(&[(0xffff_e000, 4096)]);
    for lba in 0..20 {
        b.dma(0xffff_f000, lba % 3 == 0, lba, 8);
        for _ in 0..50 {
            b.board.advance(b.board.now() + Duration::from_micros(7));
        }
        w(&b.sata, 0x1508, 0);
        b.ata_status();
        b.flush();
    }
}

#[test]
fn the_same_script_leaves_the_same_trace() {
    let run = || {
        let b = on(Salvator::new().disk(numbered_disk(4096)).trace(100_000));
        script(&b);
        b.board.assert_clean();
        (b.board.fingerprint(), b.board.trace(), b.board.now())
    };
    let (first, second) = (run(), run());
    assert!(first.1.len() > 500);
    assert_eq!(first, second);
    let other = bench();
    other.sata_on();
    assert_ne!(other.board.fingerprint(), first.0);
}

#[test]
fn two_hundred_boards_at_once_do_not_disturb_each_other() {
    let benches: Vec<Bench> = (0..200).map(|_| on(Salvator::new().disk(numbered_disk(32)))).collect();
    let benches = Arc::new(benches);
    let threads: Vec<_> = (0..4)
        .map(|t| {
            let benches = Arc::clone(&benches);
            std::thread::spawn(move || benches.iter().skip(t).step_by(4).for_each(script))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let alone = on(Salvator::new().disk(numbered_disk(32)));
    script(&alone);
    for b in benches.iter() {
        b.board.assert_clean();
        assert_eq!(b.board.fingerprint(), alone.board.fingerprint());
    }
}

#[test]
fn threads_on_one_board_neither_hang_nor_panic() {
    let b = Arc::new(on(Salvator::new().disk(numbered_disk(64)).cpus(4)));
    b.enable_irqs();
    let threads: Vec<_> = (0..4)
        .map(|t| {
            let b = Arc::clone(&b);
            std::thread::spawn(move || {
                assert!(b.board.cpu() < 4);
                for i in 0..2000 {
                    match (t + i) % 5 {
                        0 => w(&b.mm, 0x40, 2),
                        1 => b.board.advance(b.board.now() + Duration::from_micros(3)),
                        2 => drop(b.board.translate(0, 2, i * 4096, true)),
                        3 => b.put64(DATA + i * 8, i),
                        _ => {
                            b.board.unplug("e6740000.mmu").unwrap();
                            b.board.plug("e6740000.mmu").unwrap();
                        }
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_fault_plan_decides_which_calls_fail() {
    let board = Salvator::new().build();
    assert!(!board.should_fail(FaultPoint::MapIo));
    board.faults().fail_nth(2);
    assert_eq!([board.should_fail(FaultPoint::MapIo), board.should_fail(FaultPoint::MapIo)], [false, true]);
    assert_eq!(board.cpu(), 0);
}

#[test]
#[should_panic(expected = "2 model errors")]
fn assert_clean_panics_on_a_board_that_was_misused() {
    let b = bench();
    w(&b.mm, 0x0c, 0);
    w(&b.mm, 0x0c, 0);
    b.board.assert_clean();
}
