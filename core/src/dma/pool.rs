//! DMA pools: small items of coherent memory.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::check::Op;
use super::{Attrs, Coherent, Dma, DmaError, DmaMemory, Kind};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::binding::Bound;
use crate::sync::Mutex;

/// Largest item, in bytes.
const LARGEST: u64 = 1 << 20;

/// Pool of coherent items of one size, for descriptors and the like.
///
/// The binding owns the pages; they stay mapped until it ends, however many items are in use. Clones refer to the same
/// pool.
#[derive(Clone)]
pub struct Pool<'s>(Arc<Inner<'s>>);

struct Inner<'s> {
    name: &'static str,
    size: u64,
    layout: Layout,
    dev: Bound<'s>,
    state: Mutex<State<'s>>,
}

/// Location of an item: block and index, the block's memory, the block's device address.
type Location = ((u32, u32), Arc<DmaMemory>, DeviceAddr);

struct State<'s> {
    blocks: Vec<Coherent<'s>>,
    /// Free items: block and index in it. Last in, first out.
    free: Vec<(u32, u32)>,
    out: usize,
}

impl State<'_> {
    fn at(&self, location: (u32, u32)) -> Option<Location> {
        let block = self.blocks.get(location.0 as usize)?;
        Some((location, block.memory(), block.addr()))
    }
}

/// Layout of items in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    /// Bytes of a block: whole pages.
    block: u64,
    /// Alignment of a block.
    align: u64,
    /// Distance between items within a window.
    stride: u64,
    /// Distance between boundaries in the block, or the block's size.
    window: u64,
    /// Items in a window.
    per_window: u64,
    /// As asked for.
    boundary: u64,
}

impl Layout {
    /// The layout of items of `size` bytes at multiples of `align` that cross no multiple of `boundary` (0: none).
    fn new(size: u64, align: u64, boundary: u64) -> Option<Self> {
        let sane = size > 0 && size <= LARGEST && align.is_power_of_two() && align <= PAGE_SIZE;
        if !sane || (boundary != 0 && (!boundary.is_power_of_two() || boundary < size)) {
            return None;
        }
        let stride = size.next_multiple_of(align);
        let block = stride.next_multiple_of(PAGE_SIZE);
        // A block starts on a page, so items that cross no page cross no larger boundary.
        let small = Self { block, align: PAGE_SIZE, stride, window: block, per_window: block / stride, boundary };
        Some(match boundary {
            0 => small,
            b if size <= b.min(PAGE_SIZE) => {
                let window = b.min(PAGE_SIZE);
                // When the boundary is smaller than the alignment, only every alignment step has an item.
                let window = window.max(align);
                Self { window, per_window: (b.min(PAGE_SIZE) - size) / stride + 1, ..small }
            }
            // Longer than a page: one item in a block, which starts at a multiple of its size rounded up.
            _ => Self { align: size.next_power_of_two(), window: block, per_window: 1, ..small },
        })
    }

    fn per_block(&self) -> u64 {
        (self.block / self.window) * self.per_window
    }

    fn offset(&self, index: u64) -> u64 {
        (index / self.per_window) * self.window + (index % self.per_window) * self.stride
    }

    /// True when the only item of a block at `addr` would cross the boundary.
    fn crosses(&self, addr: DeviceAddr) -> bool {
        self.boundary > PAGE_SIZE && self.per_block() == 1 && {
            let last = addr.0 + (self.stride - 1);
            addr.0 / self.boundary != last / self.boundary
        }
    }
}

impl<'s> Dma<'s> {
    /// Makes a pool of items of `size` bytes (1 to 1 MiB) at device addresses that are multiples of `align` (a power of
    /// two, up to a page) and that cross no multiple of `boundary` (a power of two, not less than `size`; 0 for none).
    ///
    /// # Errors
    ///
    /// [`DmaError::BadPool`] for parameters outside these ranges, [`DmaError::Unbinding`] once the binding is being
    /// torn down.
    pub fn pool(&self, name: &'static str, size: u64, align: u64, boundary: u64) -> Result<Pool<'s>, DmaError> {
        let layout = Layout::new(size, align, boundary).ok_or(DmaError::BadPool { size, align, boundary })?;
        self.context()?;
        Ok(Pool(Arc::new(Inner {
            name,
            size,
            layout,
            dev: self.dev,
            state: Mutex::new(State { blocks: Vec::new(), free: Vec::new(), out: 0 }),
        })))
    }
}

impl<'s> Pool<'s> {
    /// Allocates an item, zeroed (P12).
    ///
    /// # Errors
    ///
    /// As [`Dma::coherent`], when a new block is needed; [`DmaError::BadPool`] when the block lies across the boundary
    /// in the windows of the bus.
    pub fn alloc(&self) -> Result<PoolItem<'s>, DmaError> {
        let reused = self.reuse();
        let (location, memory, block) = match reused {
            Some(item) => item,
            None => self.grow()?,
        };
        let offset = self.0.layout.offset(location.1.into());
        let item = PoolItem { pool: self.clone(), location, memory, offset, addr: block + offset };
        // One call for the whole item, whatever its size.
        item.memory.fill_zero(item.offset, item.len());
        let bound = self.0.dev.state;
        bound.system().check_dma(|| Op::PoolAlloc {
            device: Arc::clone(&bound.desc().name),
            pool: self.0.name.into(),
            addr: item.addr,
        });
        Ok(item)
    }

    fn reuse(&self) -> Option<Location> {
        let mut state = self.0.state.lock();
        let location = state.free.pop()?;
        let found = state.at(location)?;
        state.out += 1;
        Some(found)
    }

    /// Adds a block and allocates its first item.
    fn grow(&self) -> Result<Location, DmaError> {
        let Inner { layout, size, .. } = *self.0;
        let block = Dma::new(self.0.dev).shared(Kind::Pool, layout.block, layout.align, Attrs::empty())?;
        if layout.crosses(block.addr()) {
            // Physically aligned memory may still cross the boundary after the offset of a bus window.
            block.release();
            return Err(DmaError::BadPool { size, align: layout.align, boundary: layout.boundary });
        }
        let mut state = self.0.state.lock();
        let number = state.blocks.len() as u32;
        let found = ((number, 0), block.memory(), block.addr());
        state.blocks.push(block);
        state.free.extend((1..layout.per_block() as u32).rev().map(|i| (number, i)));
        state.out += 1;
        Ok(found)
    }

    /// Number of items in use.
    pub fn in_use(&self) -> usize {
        self.0.state.lock().out
    }

    /// Name of the pool.
    pub fn name(&self) -> &'static str {
        self.0.name
    }
}

impl fmt::Debug for Pool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({}, {} of {} bytes in use)", self.0.name, self.in_use(), self.0.size)
    }
}

/// Item of a pool. Dropping it returns it to the pool, so it cannot be freed twice; forgetting it leaks the item and,
/// at the end of the binding, its pages (P9).
pub struct PoolItem<'s> {
    pool: Pool<'s>,
    location: (u32, u32),
    memory: Arc<DmaMemory>,
    offset: u64,
    addr: DeviceAddr,
}

impl PoolItem<'_> {
    /// DMA address of the item; see [`Coherent::device_addr`].
    pub fn device_addr(&self) -> DeviceAddr {
        self.pool.0.dev.state.publish_dma_address();
        self.addr
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.pool.0.size
    }

    /// Never true: an item has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Loads the value at `offset` bytes; see [`Coherent::read`].
    ///
    /// # Panics
    ///
    /// If the value is not inside the item.
    pub fn read<T: FromBytes + IntoBytes>(&self, offset: u64) -> T {
        self.check(offset, size_of::<T>());
        self.memory.read(self.offset + offset)
    }

    /// Stores `value` at `offset` bytes; see [`Coherent::write`].
    ///
    /// # Panics
    ///
    /// If the value is not inside the item.
    pub fn write<T: IntoBytes + Immutable>(&self, offset: u64, value: &T) {
        self.check(offset, size_of::<T>());
        self.memory.write(self.offset + offset, value);
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Panics
    ///
    /// If the range is not inside the item.
    pub fn read_bytes(&self, offset: u64, to: &mut [u8]) {
        self.check(offset, to.len());
        self.memory.read_bytes(self.offset + offset, to);
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Panics
    ///
    /// If the range is not inside the item.
    pub fn write_bytes(&self, offset: u64, from: &[u8]) {
        self.check(offset, from.len());
        self.memory.write_bytes(self.offset + offset, from);
    }

    fn check(&self, offset: u64, len: usize) {
        let end = offset.checked_add(len as u64);
        assert!(end.is_some_and(|e| e <= self.len()), "{len} bytes at {offset} of a pool item of {} bytes", self.len());
    }
}

impl Drop for PoolItem<'_> {
    fn drop(&mut self) {
        let bound = self.pool.0.dev.state;
        bound.system().check_dma(|| Op::PoolFree {
            device: Arc::clone(&bound.desc().name),
            pool: self.pool.0.name.into(),
            addr: self.addr,
        });
        let mut state = self.pool.0.state.lock();
        state.out -= 1;
        state.free.push(self.location);
    }
}

impl fmt::Debug for PoolItem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolItem({} bytes at {} of {})", self.len(), self.addr, self.pool.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each layout of small sizes and around a page, at each address that a block may have, item by item.
    #[test]
    fn items_of_a_block_lie_in_it_apart_and_aligned_and_cross_no_boundary_where_the_layout_says_so() {
        let sizes = [1, 3, 24, 64, 2048, 2049, 4096, 4097, 8192, 12_000];
        let boundaries = core::iter::once(0).chain((0..17).map(|n| 1 << n));
        for (size, align, boundary) in boundaries
            .flat_map(|boundary| sizes.map(|size| (size, boundary)))
            .flat_map(|(size, boundary)| [1, 16, 1024, 4096].map(|align| (size, align, boundary)))
        {
            let Some(layout) = Layout::new(size, align, boundary) else {
                assert!(boundary != 0 && boundary < size, "{size} {align} {boundary}");
                continue;
            };
            assert!(layout.align >= PAGE_SIZE && layout.per_block() > 0);
            let mut ends = 0;
            let offsets: Vec<_> = (0..layout.per_block()).map(|index| layout.offset(index)).collect();
            for offset in &offsets {
                assert!(*offset >= ends && offset % align == 0, "{size} {align} {boundary}: {offsets:?}");
                ends = offset + size;
            }
            assert!(ends <= layout.block);
            // Behind a bus with an offset a block may begin at any page.
            for block in (0..64).map(|n| n * PAGE_SIZE) {
                let crossing = |at: u64| boundary != 0 && at / boundary != (at + size - 1) / boundary;
                let any = offsets.iter().any(|offset| crossing(block + offset));
                let told = layout.crosses(DeviceAddr(block));
                assert!(told || !any, "{size} {align} {boundary} at {block:#x}");
                // An item is as long as its stride then.
                assert!(!told || any || layout.stride != size, "{size} {align} {boundary} at {block:#x}");
            }
        }
    }
}
