//! Each check with a misuse that it must find, and a correct use that it must accept.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Check, Checker, CpuMemory, Misuse, Op, Record};
use crate::addr::{DeviceAddr, PhysAddr};
use crate::dma::{Attrs, Direction, Kind, SegmentLimits};

fn single() -> Record {
    Record {
        device: "sata".into(),
        backend: "iommu context 1".into(),
        kind: Kind::Single,
        addr: DeviceAddr(0x1000),
        len: 0x1000,
        phys: PhysAddr(0x4000_0000),
        memory: CpuMemory::Pages,
        direction: Direction::FromDevice,
        count: 1,
        attrs: Attrs::empty(),
    }
}

fn with(change: impl FnOnce(&mut Record)) -> Record {
    let mut record = single();
    change(&mut record);
    record
}

fn list() -> Record {
    with(|r| (r.kind, r.count) = (Kind::Scatter, 3))
}

fn coherent() -> Record {
    with(|r| (r.kind, r.direction) = (Kind::Coherent, Direction::Bidirectional))
}

fn map(record: Record) -> Op {
    Op::Map { record, checked: true }
}

fn unmap(record: Record) -> Op {
    Op::Unmap(record)
}

fn to_cpu(record: Record) -> Op {
    Op::Sync { record, to_cpu: true }
}

fn to_device(record: Record) -> Op {
    Op::Sync { record, to_cpu: false }
}

fn sata() -> alloc::sync::Arc<str> {
    "sata".into()
}

fn limits(mask: u64) -> Op {
    let segments = SegmentLimits { max_segment_size: 0x2000, segment_boundary: 0x4000 };
    Op::Limits { device: sata(), segments, mask: DeviceAddr(mask) }
}

fn segment(addr: u64, len: u64) -> Op {
    Op::Segment { device: sata(), addr: DeviceAddr(addr), len }
}

fn access(addr: u64) -> Op {
    Op::Access { device: sata(), addr: DeviceAddr(addr) }
}

fn descriptor(owned: bool) -> Op {
    Op::Descriptor { device: sata(), addr: DeviceAddr(0x1800), owned }
}

fn forgotten(addr: u64) -> Op {
    Op::Forgotten { device: sata(), addr: DeviceAddr(addr), len: 0x1000 }
}

fn queued(addr: u64) -> Op {
    Op::Queued { backend: "iommu context 1".into(), addr: DeviceAddr(addr), len: 0x1000 }
}

fn pool_alloc(pool: &str) -> Op {
    Op::PoolAlloc { device: sata(), pool: pool.into(), addr: DeviceAddr(0x40) }
}

fn pool_free(pool: &str) -> Op {
    Op::PoolFree { device: sata(), pool: pool.into(), addr: DeviceAddr(0x40) }
}

fn pool_gone() -> Op {
    Op::PoolDestroyed { device: sata(), pool: "prd".into() }
}

fn run(ops: impl IntoIterator<Item = Op>) -> Vec<Misuse> {
    let mut checker = Checker::new();
    ops.into_iter().flat_map(|op| checker.feed(op)).collect()
}

fn checks(found: &[Misuse]) -> Vec<Check> {
    found.iter().map(|m| m.check).collect()
}

macro_rules! cases {
    ($($name:ident: $check:ident, wrong $wrong:expr, right $right:expr;)*) => {
        $(#[test]
        fn $name() {
            let wrong = run($wrong);
            let mut found = checks(&wrong);
            // A sync in the wrong direction also fails the direction check.
            found.retain(|c| *c == Check::$check || *c != Check::SyncDirectionDiffers);
            assert_eq!(found, [Check::$check], "{wrong:#?}");
            assert_eq!(run($right), [], "a correct use");
        })*

        #[test]
        fn every_check_has_its_cases() {
            let covered: Vec<Check> = Vec::from([$(Check::$check),*]);
            let missing: Vec<_> = Check::ALL.iter().filter(|c| !covered.contains(c)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

/// One mistake is one report: what follows from it is not told as well.
#[test]
fn a_list_that_is_unmapped_as_another_kind_has_no_count_to_differ() {
    let found = run([map(list()), unmap(Record { kind: Kind::Resource, count: 2, ..list() })]);
    assert_eq!(checks(&found), [Check::KindDiffers], "{found:#?}");
    let found = run([map(single()), unmap(with(|r| (r.kind, r.count) = (Kind::Scatter, 2)))]);
    assert_eq!(checks(&found), [Check::KindDiffers], "{found:#?}");
}

fn overlapping(n: u64) -> impl Iterator<Item = Op> {
    (0..n).map(|i| map(with(|r| (r.addr, r.attrs) = (DeviceAddr(i << 20), Attrs::SKIP_CPU_SYNC))))
}

cases! {
    an_unmap_of_the_error_address_is_found: UnmapOfError,
        wrong [unmap(with(|r| r.addr = DeviceAddr(u64::MAX)))],
        right [map(with(|r| r.addr = DeviceAddr(u64::MAX)))];
    an_unmap_of_an_unmapped_address_is_found: UnmapOfUnmapped,
        wrong [map(single()), unmap(single()), unmap(single())],
        right [map(single()), unmap(single()), map(single()), unmap(single())];
    a_different_size_is_found: SizeDiffers,
        wrong [map(single()), unmap(with(|r| r.len = 0x800))],
        right [map(with(|r| r.len = 0x800)), unmap(with(|r| r.len = 0x800))];
    a_different_kind_is_found: KindDiffers,
        wrong [map(single()), unmap(with(|r| r.kind = Kind::Resource))],
        right [map(list()), unmap(list())];
    different_memory_is_found: MemoryDiffers,
        wrong [map(coherent()), unmap(Record { phys: PhysAddr(0x5000_0000), ..coherent() })],
        right [map(coherent()), unmap(coherent())];
    a_different_count_is_found: CountDiffers,
        wrong [map(list()), unmap(Record { count: 2, ..list() })],
        right [map(list()), unmap(list())];
    a_different_direction_is_found: DirectionDiffers,
        wrong [map(single()), unmap(with(|r| r.direction = Direction::ToDevice))],
        right [map(single()), unmap(single())];
    an_unchecked_result_is_found: ErrorUnchecked,
        wrong [Op::Map { record: single(), checked: false }, unmap(single())],
        right [
            Op::Map { record: single(), checked: false },
            Op::ErrorChecked { device: sata(), addr: DeviceAddr(0x1000) },
            unmap(single()),
        ];
    stack_memory_is_found: StackMemory,
        wrong [map(with(|r| r.memory = CpuMemory::Stack))],
        right [map(single())];
    the_program_image_is_found: ProgramImage,
        wrong [map(with(|r| r.memory = CpuMemory::Image))],
        right [map(single())];
    memory_that_is_not_ram_is_found: InvalidMemory,
        wrong [map(with(|r| r.memory = CpuMemory::Invalid))],
        right [map(with(|r| (r.kind, r.memory) = (Kind::Resource, CpuMemory::Registers)))];
    virtual_memory_is_found: VirtualMemory,
        wrong [map(with(|r| r.memory = CpuMemory::Virtual))],
        right [map(single())];
    a_sync_of_an_unmapped_address_is_found: SyncOfUnmapped,
        wrong [map(single()), to_cpu(with(|r| r.addr = DeviceAddr(0x2000)))],
        right [map(single()), to_cpu(with(|r| (r.addr, r.len) = (DeviceAddr(0x1800), 0x100)))];
    a_sync_past_the_end_is_found: SyncOutside,
        wrong [map(single()), to_cpu(with(|r| r.len = 0x1001))],
        right [map(single()), to_cpu(single())];
    a_sync_with_a_different_direction_is_found: SyncDirectionDiffers,
        wrong [map(single()), to_cpu(with(|r| r.direction = Direction::Bidirectional))],
        right [map(coherent()), to_cpu(with(|r| r.direction = Direction::ToDevice))];
    a_sync_for_the_cpu_of_device_read_only_memory_is_found: SyncOfReadOnly,
        wrong run_of(Direction::ToDevice, Direction::FromDevice, true),
        right run_of(Direction::ToDevice, Direction::ToDevice, true);
    a_sync_for_the_device_of_device_write_only_memory_is_found: SyncOfWriteOnly,
        wrong run_of(Direction::FromDevice, Direction::ToDevice, false),
        right run_of(Direction::FromDevice, Direction::FromDevice, false);
    a_sync_with_a_different_count_is_found: SyncCountDiffers,
        wrong [map(list()), to_device(Record { count: 1, ..list() })],
        right [map(list()), to_device(list())];
    two_mappings_of_one_line_are_found: LinesOverlap,
        wrong [map(single()), map(with(|r| (r.addr, r.phys) = (DeviceAddr(0x9000), PhysAddr(0x4000_0ff8))))],
        right [
            map(single()),
            map(with(|r| (r.addr, r.phys) = (DeviceAddr(0x9000), PhysAddr(0x4000_1000)))),
            map(with(|r| (r.addr, r.direction) = (DeviceAddr(0xa000), Direction::ToDevice))),
        ];
    more_than_seven_mappings_of_one_line_are_found_once: TooManyOverlaps,
        wrong overlapping(12),
        right overlapping(8);
    a_segment_that_is_too_long_is_found: SegmentTooLong,
        wrong [limits(u64::MAX), segment(0x4000, 0x2001)],
        right [limits(u64::MAX), segment(0x4000, 0x2000)];
    a_segment_across_the_boundary_is_found: SegmentCrossesBoundary,
        wrong [limits(u64::MAX), segment(0x3800, 0x801)],
        right [limits(u64::MAX), segment(0x3800, 0x800)];
    a_mapping_left_at_unbind_is_found: LeftAtUnbind,
        wrong [map(single()), Op::Unbound { device: sata() }],
        right [map(single()), unmap(single()), Op::Unbound { device: sata() }];
    a_different_back_end_is_found: BackendDiffers,
        wrong [map(single()), unmap(with(|r| r.backend = "direct".into()))],
        right [map(single()), unmap(single())];
    a_mapping_left_after_a_failed_probe_is_found: LeftAfterFailedProbe,
        wrong [map(single()), Op::ProbeFailed { device: sata() }],
        right [map(single()), unmap(single()), Op::ProbeFailed { device: sata() }];
    an_access_to_an_unmapped_address_is_found: UseAfterUnmap,
        wrong [map(single()), unmap(single()), access(0x1fff)],
        right [map(single()), access(0x1fff), unmap(single()), access(0x2000), map(single()), access(0x1000)];
    a_free_of_memory_in_a_hardware_owned_descriptor_is_found: FreeWhileOwned,
        wrong [map(single()), descriptor(true), unmap(single())],
        right [map(single()), descriptor(true), descriptor(false), unmap(single())];
    different_attributes_are_found: AttrsDiffer,
        wrong [map(single()), unmap(with(|r| r.attrs = Attrs::SKIP_CPU_SYNC))],
        right [map(single()), unmap(single())];
    a_mask_narrowed_below_a_mapping_is_found: OutsideMask,
        wrong [limits(u64::MAX), map(single()), limits(0xfff), unmap(single())],
        right [limits(0x1fff), map(single()), unmap(single())];
    an_item_that_is_freed_twice_or_to_another_pool_is_found: PoolItemForeign,
        wrong [pool_alloc("prd"), pool_free("cmd"), pool_free("prd")],
        right [pool_alloc("prd"), pool_free("prd"), pool_gone()];
    a_pool_destroyed_with_items_in_use_is_found: PoolBusy,
        wrong [pool_alloc("prd"), pool_gone()],
        right [pool_gone()];
    an_address_reused_before_its_flush_is_found: ReusedBeforeFlush,
        wrong [queued(0x1800), map(single())],
        right [
            queued(0x1000),
            queued(0x8000),
            Op::Confirmed { backend: "iommu context 1".into(), range: Some((DeviceAddr(0x1000), 0x1000)) },
            map(single()),
        ];
    a_mapping_without_a_translation_is_found: TranslationGone,
        wrong [map(single()), forgotten(0x2000), Op::TranslationGone { device: sata() }],
        right [
            map(single()),
            unmap(single()),
            map(single()),
            forgotten(0x1000),
            Op::TranslationGone { device: sata() },
        ];
}

#[test]
fn the_rest_of_a_mapping_stays_unmapped_when_its_first_part_is_mapped_again() {
    let part = || with(|r| r.len = 0x800);
    let ops = [map(single()), unmap(single()), map(part()), access(0x17ff), access(0x1800)];
    assert_eq!(checks(&run(ops)), [Check::UseAfterUnmap]);
}

#[test]
fn a_mapping_is_freed_while_the_hardware_owns_descriptors_that_point_elsewhere() {
    let at = |addr| Op::Descriptor { device: sata(), addr: DeviceAddr(addr), owned: true };
    assert_eq!(run([map(single()), at(0xfff), at(0x2000), unmap(single())]), []);
    assert_eq!(checks(&run([map(single()), at(0x1fff), unmap(single())])), [Check::FreeWhileOwned]);
}

/// A mapping in one direction and a sync in another.
fn run_of(mapped: Direction, synced: Direction, to_cpu: bool) -> Vec<Op> {
    let sync = Op::Sync { record: with(|r| r.direction = synced), to_cpu };
    Vec::from([map(with(|r| r.direction = mapped)), sync])
}

#[test]
fn each_check_has_a_unique_name_and_a_note() {
    let mut names: Vec<_> = Check::ALL.iter().map(|c| c.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Check::ALL.len());
    assert!(Check::ALL.iter().all(|c| !c.note().is_empty()));
}

#[test]
fn a_finding_names_device_check_and_address() {
    let found = run([unmap(single())]);
    assert_eq!(alloc::format!("{}", found[0]), String::from("sata: unmap-of-unmapped: 0x1000 is not mapped"));
}

#[test]
fn memory_is_bounded_and_untracked_mappings_are_not_reported() {
    let mut checker = Checker::with_capacity(100);
    for n in 0..150_u64 {
        let (addr, phys) = (DeviceAddr(n << 13), PhysAddr(n << 13));
        let found = checker.feed(map(with(|r| (r.addr, r.phys) = (addr, phys))));
        assert_eq!(found, []);
    }
    assert_eq!((checker.tracked(), checker.untracked()), (100, 50));
    let last = with(|r| r.addr = DeviceAddr(149 << 13));
    assert_eq!(checker.feed(unmap(last)), [], "it may have been mapped when the limit was reached");
    for n in 0..if cfg!(miri) { 50 } else { 5000 } {
        checker.feed(map(with(|r| r.device = alloc::format!("d{n}").into())));
    }
    checker.feed(Op::Unbound { device: sata() });
    assert_eq!(checker.tracked(), 0);
}

/// Of several mappings at one address an unmap ends its own one, in whatever order they come and go.
#[test]
fn an_unmap_ends_the_mapping_that_is_most_like_it() {
    let plain = || with(|r| r.attrs = Attrs::SKIP_CPU_SYNC);
    let other = |change: fn(&mut Record)| {
        let mut record = plain();
        change(&mut record);
        record
    };
    let others = [
        other(|r| r.kind = Kind::Scatter),
        other(|r| r.len = 0x800),
        other(|r| r.direction = Direction::Bidirectional),
        other(|r| r.phys = PhysAddr(0x5000_0000)),
        other(|r| (r.kind, r.count) = (Kind::Scatter, 2)),
    ];
    for (n, record) in others.iter().enumerate() {
        for other in others.iter().skip(n + 1).chain([&plain()]) {
            for (first, second) in [(record, other), (other, record)] {
                let maps = [map(record.clone()), map(other.clone())];
                let mut checker = Checker::new();
                assert_eq!(maps.iter().flat_map(|op| checker.feed(op.clone())).collect::<Vec<_>>(), []);
                assert_eq!(checker.feed(to_cpu(first.clone())), []);
                assert_eq!(checker.feed(unmap(first.clone())), [], "{first:?} and {second:?}");
                assert_eq!(checker.feed(unmap(second.clone())), [], "{first:?} and {second:?}");
                assert_eq!(checker.tracked(), 0);
            }
        }
    }
}

/// A small deterministic generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Correct use of mappings, pools and descriptors, beside a list of what is there.
#[test]
fn what_is_tracked_is_what_a_plain_list_holds() {
    let (mut random, mut checker) = (Random(1), Checker::new());
    let mut held: Vec<(u64, u64)> = Vec::new();
    for step in 0..if cfg!(miri) { 200 } else { 4000 } {
        let (kind, n) = (random.below(3), random.below(12));
        let at = DeviceAddr(n << 12);
        let record = with(|r| (r.addr, r.phys) = (at, PhysAddr(n << 12)));
        let there = held.iter().position(|object| *object == (kind, n));
        let op = match (kind, there) {
            (0, None) => map(record),
            (0, Some(_)) => unmap(record),
            (1, None) => Op::PoolAlloc { device: sata(), pool: "prd".into(), addr: at },
            (1, Some(_)) => Op::PoolFree { device: sata(), pool: "prd".into(), addr: at },
            (_, there) => {
                Op::Descriptor { device: sata(), addr: DeviceAddr(at.0 + 0x100_0000), owned: there.is_none() }
            }
        };
        assert_eq!(checker.feed(op.clone()), [], "step {step}: {op:?}");
        match there {
            Some(there) => drop(held.swap_remove(there)),
            None => held.push((kind, n)),
        }
        if random.below(100) == 0 {
            let items = held.iter().filter(|(kind, _)| *kind == 1).count();
            assert_eq!(checks(&checker.feed(pool_gone())).len(), usize::from(items > 0));
            held.retain(|(kind, _)| *kind != 1);
        }
        if random.below(200) == 0 {
            let mappings = held.iter().filter(|(kind, _)| *kind == 0).count();
            assert_eq!(checks(&checker.feed(Op::Unbound { device: sata() })).len(), usize::from(mappings > 0));
            held.clear();
        }
        assert_eq!((checker.tracked(), checker.untracked()), (held.len(), 0), "step {step}");
    }
}

/// Mappings that come and go at any byte, beside a set of the lines of each that the device may write.
#[test]
fn lines_overlap_when_the_plain_sets_of_them_do() {
    const LINE: u64 = crate::dma::DMA_ALIGN;
    let mut random = Random(2);
    for _ in 0..if cfg!(miri) { 2 } else { 60 } {
        let (mut checker, mut live) = (Checker::new(), Vec::<Record>::new());
        for at in 0..40 {
            if live.len() == 5 {
                let gone = live.swap_remove(random.below(5) as usize);
                assert_eq!(checker.feed(unmap(gone)), []);
            }
            let record = with(|r| {
                (r.addr, r.phys, r.len) =
                    (DeviceAddr(at << 20), PhysAddr(random.below(40 * LINE)), random.below(6 * LINE));
                r.direction =
                    [Direction::ToDevice, Direction::FromDevice, Direction::Bidirectional][random.below(3) as usize];
            });
            let lines = |r: &Record| match r.len {
                len if len > 0 && r.direction.device_writes() => r.phys.0 / LINE..(r.phys.0 + len).div_ceil(LINE),
                _ => 0..0,
            };
            let own = lines(&record);
            let shared = live.iter().map(lines).any(|other| own.clone().any(|line| other.contains(&line)));
            let found = checks(&checker.feed(map(record.clone())));
            assert_eq!(found, if shared { &[Check::LinesOverlap][..] } else { &[] }, "{record:?} beside {live:?}");
            live.push(record);
        }
    }
}

#[test]
fn an_address_waits_for_its_flush_byte_by_byte() {
    let backend = || -> alloc::sync::Arc<str> { "iommu context 1".into() };
    for (addr, len) in (0..7_u64).flat_map(|addr| (1..5).map(move |len| (addr, len))) {
        let mapping = || map(with(|r| (r.addr, r.len) = (DeviceAddr(addr), len)));
        // Pages 2 to 4 wait.
        let waits = addr < 5 && addr + len > 2;
        let wait = || Op::Queued { backend: backend(), addr: DeviceAddr(2), len: 3 };
        assert_eq!(!run([wait(), mapping()]).is_empty(), waits, "{addr} {len}");
        let elsewhere = Op::Queued { backend: "another".into(), addr: DeviceAddr(2), len: 3 };
        assert_eq!(run([elsewhere, mapping()]), []);
        for (range, gone) in
            [(None, true), (Some((2, 1)), true), (Some((0, 3)), true), (Some((0, 2)), false), (Some((3, 9)), false)]
        {
            let range = range.map(|(first, len)| (DeviceAddr(first), len));
            let confirmed = |backend| Op::Confirmed { backend, range };
            assert_eq!(run([wait(), confirmed(backend()), mapping()]).is_empty(), gone || !waits, "{range:?}");
            assert_eq!(run([wait(), confirmed("another".into()), mapping()]).is_empty(), !waits);
        }
    }
    // The oldest one goes when more wait than are kept.
    let waiting = |n: u64| (0..n).map(|at| Op::Queued { backend: backend(), addr: DeviceAddr(at << 12), len: 0x1000 });
    let first = || [map(with(|r| r.addr = DeviceAddr(0)))];
    assert_eq!(checks(&run(waiting(1024).chain(first()))), [Check::ReusedBeforeFlush]);
    assert_eq!(run(waiting(1025).chain(first())), []);
}

#[test]
fn devices_are_bounded_and_the_known_ones_stay() {
    let named = |n: u32| Op::Limits {
        device: alloc::format!("d{n}").into(),
        segments: SegmentLimits { max_segment_size: 1, segment_boundary: 0 },
        mask: DeviceAddr(u64::MAX),
    };
    let mut checker = Checker::new();
    for n in 0..4096 {
        checker.feed(named(n));
    }
    assert_eq!(checker.untracked(), 0);
    for (n, untracked) in [(4096, 1), (4097, 2), (7, 2)] {
        checker.feed(named(n));
        assert_eq!(checker.untracked(), untracked, "d{n}");
    }
    let segment = Op::Segment { device: "d7".into(), addr: DeviceAddr(0), len: 2 };
    assert_eq!(checks(&checker.feed(segment)), [Check::SegmentTooLong], "its limits are known");
}
