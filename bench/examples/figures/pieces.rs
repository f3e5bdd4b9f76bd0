//! The pieces below a mapping, next to other crates': device addresses, page tables, page frames.

use std::hint::black_box;
use std::sync::Arc;

use bindery::addr::{DeviceAddr, PhysAddr};
use bindery::env::{Caching, RamUse};
use bindery::iommu::{Gather, IovaSpace, Prot};
use bindery::mem::{BuddyAllocator, Memory, PageAllocator, PageRequest, PageRun, access};
use bindery_bench::target::{Ram, Target};
use free_list::{FreeList, PageLayout, PageRange};
use page_table_multiarch::{MappingFlags, PageSize, PageTable64, PagingHandler, PagingMetaData};

use super::session::{Random, Session};

const MASK: DeviceAddr = DeviceAddr((1 << 48) - 1);

pub(crate) fn iova(session: &Session) {
    let space = IovaSpace::new(DeviceAddr(0), MASK, &[]);
    let mut peer = range_alloc::RangeAllocator::new(1..1_u64 << 36);
    session.compare(
        "iova.4k",
        1000,
        || {
            let iova = space.alloc(1, MASK).expect("there is room");
            space.free(black_box(iova), 1).expect("it is allocated");
        },
        || {
            let range = peer.allocate_range(1).expect("there is room");
            peer.free_range(black_box(range));
        },
    );
    mixed(session);
    fragmented(session);
}

/// 1024 live ranges of 1 to 512 pages: a random one is freed, and another of a random size allocated.
fn mixed(session: &Session) {
    let space = IovaSpace::new(DeviceAddr(0), MASK, &[]);
    let mut random = Random(1);
    let mut own: Vec<_> = (0..1024).map(|_| own_range(&space, 1 << random.below(10))).collect();
    let mut peer_space = offset_allocator::Allocator::<u32>::with_max_allocs(1 << 22, 4096);
    let mut random_peer = Random(1);
    let mut peer: Vec<_> =
        (0..1024).map(|_| peer_space.allocate(1 << random_peer.below(10)).expect("there is room")).collect();
    session.compare(
        "iova.mixed",
        2000,
        || {
            let at = random.below(own.len());
            let (iova, pages) = own[at];
            space.free(iova, pages).expect("it is allocated");
            own[at] = own_range(&space, 1 << random.below(10));
        },
        || {
            let at = random_peer.below(peer.len());
            peer_space.free(peer[at]);
            peer[at] = peer_space.allocate(1 << random_peer.below(10)).expect("there is room");
        },
    );
}

fn own_range(space: &IovaSpace, pages: u64) -> (DeviceAddr, u64) {
    (space.alloc(pages, MASK).expect("there is room"), pages)
}

/// 16,384 live pages with holes of a page between them: one of them is freed, two pages that fit no hole are allocated, the
/// page is allocated again, and the two are freed.
fn fragmented(session: &Session) {
    const LIVE: usize = 16_384;
    let space = IovaSpace::new(DeviceAddr(0), MASK, &[]);
    let all: Vec<_> = (0..2 * LIVE).map(|_| own_range(&space, 1).0).collect();
    all.iter().skip(1).step_by(2).for_each(|hole| space.free(*hole, 1).expect("it is allocated"));
    let mut own: Vec<_> = all.into_iter().step_by(2).collect();
    let mut peer_space = offset_allocator::Allocator::<u32>::with_max_allocs(1 << 22, 4 * LIVE as u32);
    let all: Vec<_> = (0..2 * LIVE).map(|_| peer_space.allocate(1).expect("there is room")).collect();
    all.iter().skip(1).step_by(2).for_each(|hole| peer_space.free(*hole));
    let mut peer: Vec<_> = all.into_iter().step_by(2).collect();
    let (mut random, mut random_peer) = (Random(3), Random(3));
    session.compare(
        "iova.fragmented",
        1000,
        || {
            let at = random.below(LIVE);
            space.free(own[at], 1).expect("it is allocated");
            let two = own_range(&space, 2);
            own[at] = own_range(&space, 1).0;
            space.free(two.0, two.1).expect("it is allocated");
        },
        || {
            let at = random_peer.below(LIVE);
            peer_space.free(peer[at]);
            let two = peer_space.allocate(2).expect("there is room");
            peer[at] = peer_space.allocate(1).expect("there is room");
            peer_space.free(two);
        },
    );
}

/// The peer's table: 4 levels of 48 bits. Its frames are leaked, and their addresses are those that the CPU has.
struct Levels4;

impl PagingMetaData for Levels4 {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 52;
    const VA_MAX_BITS: usize = 48;
    type VirtAddr = memory_addr::VirtAddr;

    fn flush_tlb(_: Option<Self::VirtAddr>) {}
}

struct Leaked;

#[repr(align(4096))]
struct Frame([u8; 4096]);

impl PagingHandler for Leaked {
    fn alloc_frames(num: usize, _: usize) -> Option<memory_addr::PhysAddr> {
        assert_eq!(num, 1, "a table is one page");
        let frame = Box::leak(Box::new(Frame([0; 4096])));
        Some((frame.0.as_mut_ptr() as usize).into())
    }

    fn dealloc_frames(_: memory_addr::PhysAddr, _: usize) {}

    fn phys_to_virt(paddr: memory_addr::PhysAddr) -> memory_addr::VirtAddr {
        usize::from(paddr).into()
    }
}

pub(crate) fn page_table(session: &Session) {
    let target = Target::new(1 << 20, true);
    let mut own = target.page_table();
    let prot = Prot::READ | Prot::WRITE;
    let phys = PhysAddr(0x4800_0000);
    own.map(DeviceAddr(0x40_0000_0000), phys, 4096, prot).expect("nothing is mapped");
    let mut peer =
        PageTable64::<Levels4, page_table_entry::x86_64::X64PTE, Leaked>::try_new().expect("frames are leaked");
    let flags = MappingFlags::READ | MappingFlags::WRITE;
    session.compare(
        "table.4k",
        1000,
        || {
            let iova = DeviceAddr(0x40_0000_1000);
            own.map(black_box(iova), phys, 4096, prot).expect("nothing is mapped");
            let mut gather = Gather::new();
            own.unmap(black_box(iova), 4096, &mut gather).expect("it is mapped");
            gather.free_tables();
        },
        || {
            let at = black_box(0x40_0000_1000);
            let mut cursor = peer.cursor();
            cursor.map(at.into(), 0x4800_0000.into(), PageSize::Size4K, flags).expect("nothing is mapped");
            black_box(cursor.unmap(at.into()).expect("it is mapped"));
            // The TLB is flushed by the caller of the other one.
            std::mem::forget(cursor);
        },
    );
}

/// Page frames, zeroed. The peer, a free list, does not zero; what `memset` takes is measured beside it.
pub(crate) fn frames(session: &Session) {
    let memory: Arc<dyn Memory> = Ram::new(PhysAddr(0x1_0000_0000), 64 << 20);
    let mut plain = vec![1_u8; 2 << 20];
    session.count("memset.4k.peer", 500, || black_box(&mut plain[..4096]).fill(black_box(0)));
    session.count("memset.2m.peer", 4, || black_box(&mut plain[..]).fill(black_box(0)));
    let zero = || access::fill_zero(&*memory, PhysAddr(0x1_0000_0000), 4096, Caching::Cached);
    session.count("zero.4k.peer", 500, || assert_eq!(black_box(zero()), Ok(())));
    let frames: Arc<dyn PageAllocator> = Arc::new(BuddyAllocator::new("frames", memory, RamUse::Frames));
    for (row, pages, times) in [("frame.0", 1, 500), ("frame.9", 512, 4)] {
        let mut peer = FreeList::<16>::new();
        give(&mut peer, PageRange::new(4096, 64 << 20).expect("it is aligned"));
        let layout = PageLayout::from_size(pages as usize * 4096).expect("it is aligned");
        let request = PageRequest { align: pages * 4096, ..PageRequest::new(pages) };
        session.compare(
            row,
            times,
            || drop(black_box(PageRun::alloc(&frames, &request).expect("there are pages"))),
            || {
                let range = peer.allocate(layout).expect("there are pages");
                give(&mut peer, black_box(range));
            },
        );
    }
}

/// Gives pages to the free list, which trusts its caller that they are unused; these exist as numbers only.
#[expect(unsafe_code, reason = "the peer's interface")]
fn give(list: &mut FreeList<16>, range: PageRange) {
    // SAFETY: nothing is at these addresses; the list never looks at memory.
    unsafe { list.deallocate(range) }.expect("it has room");
}
