//! What handles say of themselves, how the ledger lists what they hold, and where their memory ends.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::board::TestBoard;
use crate::addr::{PAGE_SIZE, PhysAddr};
use crate::device::{DeviceDesc, Resource};
use crate::dma::{Coherent, CoherentSlice, Direction, PoolItem};
use crate::iommu::DomainKind;

const FIFO: PhysAddr = PhysAddr(0xe600_0000);

#[test]
fn the_ledger_names_what_each_entry_is_and_who_gave_it() {
    let board = TestBoard::translated(DomainKind::Strict);
    let mut fifo = DeviceDesc::new("fifo");
    fifo.resources.push(Resource::Mem { base: FIFO, len: 0x100 });
    board.machine.add_device(fifo).unwrap();
    board.run(|dev| {
        let listed = || -> Vec<String> {
            dev.resources().into_iter().map(|(_, kind, what, by)| format!("{kind}: {what}, of {by}")).collect()
        };
        let first = ["links: suppliers, of core", "group: 0, of mmu", "translation: toy strict, of mmu"];
        assert_eq!(listed(), [&first[..], &["control: drivers/lab, of core"]].concat());
        let begun = listed().len();

        dev.action("switch off", || {})?;
        dev.provide(Arc::new(5_u32))?;
        let coherent = dev.dma().coherent(100)?;
        let streamed = dev.dma().map(dev.dma().buffer(5000)?, Direction::ToDevice)?;
        let resource = dev.dma().map_resource(FIFO + 0x40, 8, Direction::FromDevice)?;
        let list = Vec::from([dev.dma().buffer(100)?, dev.dma().buffer(PAGE_SIZE)?]);
        let scattered = dev.dma().map_sg(list, Direction::FromDevice)?;
        let arena = dev.dma().arena(3)?;
        let pool = dev.dma().pool("rings", 48, 16, 0)?;
        let item = pool.alloc()?;
        let segments: Vec<_> = scattered.segments().collect();
        let expected = [
            "action: switch off, of driver".into(),
            "service: u32, of core".into(),
            format!("dma coherent: 100 bytes at {}, of iommu toy strict, frames", coherent.device_addr()),
            format!("dma single: 5000 bytes at {}, of iommu toy strict, frames", streamed.device_addr()),
            // Registers are of no allocator.
            format!("dma resource: 8 bytes at {}, of iommu toy strict", resource.device_addr()),
            format!("dma sg: 4196 bytes at {}, of iommu toy strict, frames", segments[0].0),
            "dma arena: 3 slots, of iommu toy strict".into(),
            format!("dma pool: 4096 bytes at {}, of iommu toy strict, frames", item.device_addr().page_start()),
        ];
        assert_eq!(listed()[begun..], expected);

        assert_eq!((coherent.len(), streamed.len(), scattered.len(), item.len()), (100, 5000, 4196, 48));
        let empty = [coherent.is_empty(), streamed.is_empty(), scattered.is_empty(), item.is_empty()];
        assert_eq!(empty, [false; 4]);
        assert_eq!((streamed.direction(), streamed.is_bounced()), (Direction::ToDevice, false));
        assert_eq!((pool.name(), pool.in_use()), ("rings", 1));
        let lens: Vec<_> = segments.iter().map(|(_, len)| *len).collect();
        assert_eq!(lens, [100, PAGE_SIZE]);
        assert_eq!(resource.device_addr().page_offset(), 0x40);
        drop(item);
        assert_eq!(pool.in_use(), 0);
        streamed.unmap()?;
        scattered.unmap()?;
        resource.unmap()?;
        coherent.release();
        drop(arena);
        // An arena and a pool are the binding's, and stay until it ends.
        let kind = |line: &String| line.split(':').next().map(String::from);
        let left: Vec<String> = listed()[begun..].iter().filter_map(kind).collect();
        assert_eq!(left, ["action", "service", "dma arena", "dma pool"]);
        Ok(Vec::new())
    });
}

/// Bytes of one access, and the access at an offset.
type Access<T> = (&'static str, u64, fn(&T, u64));

fn ends_at<T>(len: u64, memory: &T, accesses: &[Access<T>]) {
    for (name, bytes, access) in accesses {
        for (at, inside) in [(0, true), (len - bytes, true), (len - bytes + 1, false), (len, false), (u64::MAX, false)]
        {
            let done = catch_unwind(AssertUnwindSafe(|| access(memory, at)));
            assert_eq!(done.is_ok(), inside, "{name} of {bytes} bytes at {at} of {len}");
        }
    }
}

/// Their ends, and not those of the pages that they lie in: what is behind is another item, or nobody's.
#[test]
fn an_access_beyond_the_end_of_a_coherent_buffer_a_slice_or_an_item_of_a_pool_panics() {
    TestBoard::translated(DomainKind::Strict).run(|dev| {
        let coherent: [Access<Coherent<'_>>; 4] = [
            ("read_bytes", 3, |m, at| m.read_bytes(at, &mut [0; 3])),
            ("write_bytes", 3, |m, at| m.write_bytes(at, &[1; 3])),
            ("read", 4, |m, at| _ = m.read::<u32>(at)),
            ("write", 4, |m, at| m.write(at, &7_u32)),
        ];
        ends_at(100, &dev.dma().coherent(100)?, &coherent);
        let item: [Access<PoolItem<'_>>; 4] = [
            ("read_bytes", 3, |m, at| m.read_bytes(at, &mut [0; 3])),
            ("write_bytes", 3, |m, at| m.write_bytes(at, &[1; 3])),
            ("read", 4, |m, at| _ = m.read::<u32>(at)),
            ("write", 4, |m, at| m.write(at, &7_u32)),
        ];
        let pool = dev.dma().pool("rings", 48, 16, 0)?;
        let (before, between, behind) = (pool.alloc()?, pool.alloc()?, pool.alloc()?);
        for (item, byte) in [(&before, 1), (&behind, 3)] {
            item.write_bytes(0, &[byte; 48]);
        }
        ends_at(48, &between, &item);
        for (item, byte) in [(&before, 1), (&behind, 3)] {
            let mut read = [0; 48];
            item.read_bytes(0, &mut read);
            assert_eq!(read, [byte; 48]);
        }
        let slice: [Access<CoherentSlice<'_, u32>>; 2] = [
            ("read", 1, |m, at| _ = m.read(usize::try_from(at).unwrap())),
            ("write", 1, |m, at| m.write(usize::try_from(at).unwrap(), &7)),
        ];
        let numbers = dev.dma().coherent_slice::<u32>(10)?;
        assert_eq!((numbers.len(), numbers.is_empty(), numbers.bytes().len()), (10, false, 40));
        ends_at(10, &numbers, &slice);
        Ok(Vec::new())
    });
}
