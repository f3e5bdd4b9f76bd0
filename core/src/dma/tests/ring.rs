//! Rings in coherent memory: single fields, and barriers, as drivers of disk controllers and IOMMUs use them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::board::TestBoard;
use crate::env::Barrier;
use crate::field;

#[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Entry {
    address: u64,
    flags: u16,
    command: u16,
    link: Link,
}

#[derive(Clone, Copy, PartialEq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Link {
    next: u16,
    tag: [u8; 2],
}

#[test]
fn a_field_is_accessed_alone_and_at_once() {
    let board = TestBoard::direct();
    let ram = Arc::clone(&board.ram);
    board.run(move |dev| {
        let ring = dev.dma().coherent_slice::<Entry>(8)?;
        let entry =
            Entry { address: 0x1122_3344_5566_7788, flags: 0x8001, command: 3, link: Link { next: 5, tag: [1, 2] } };
        ring.write(2, &entry);
        assert_eq!(ring.read(2), entry);
        ram.take_windows();
        ring.write_field(2, field!(Entry, flags), &0x8002);
        ring.write_field(2, field!(Entry, link.next), &6);
        ring.barrier(Barrier::Write);
        ring.write_field(2, field!(Entry, address), &9);
        assert_eq!(ring.read_field(2, field!(Entry, flags)), 0x8002);
        assert_eq!(ring.read_field(2, field!(Entry, link.tag)), [1, 2]);
        assert_eq!(ram.take_windows(), 0, "each is one access of the CPU, without a call of the target");
        let changed = Entry { address: 9, flags: 0x8002, link: Link { next: 6, ..entry.link }, ..entry };
        assert_eq!((ring.read(1), ring.read(2), ring.read(3)), (Entry::new_zeroed(), changed, Entry::new_zeroed()));
        Ok(Vec::new())
    });
}
