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
    ops.into_iter().flat_map(|op| checker.feed(&op)).collect()
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
        wrong [map(single()), Op::TranslationGone { device: sata() }],
        right [map(single()), unmap(single()), Op::TranslationGone { device: sata() }];
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
        let found = checker.feed(&map(with(|r| (r.addr, r.phys) = (addr, phys))));
        assert_eq!(found, []);
    }
    assert_eq!((checker.tracked(), checker.untracked()), (100, 50));
    let last = with(|r| r.addr = DeviceAddr(149 << 13));
    assert_eq!(checker.feed(&unmap(last)), [], "it may have been mapped when the limit was reached");
    for n in 0..if cfg!(miri) { 50 } else { 5000 } {
        checker.feed(&map(with(|r| r.device = alloc::format!("d{n}").into())));
    }
    checker.feed(&Op::Unbound { device: sata() });
    assert_eq!(checker.tracked(), 0);
}
