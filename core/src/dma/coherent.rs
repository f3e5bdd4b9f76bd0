//! Coherent DMA memory: shared by CPU and device without syncs.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::backend::Backend;
use super::batch::take_entry;
use super::mapping::{Kind, Mapping, NewMapping};
use super::piece::{Backing, Piece, Pieces};
use super::pin::{PagePin, PagePins};
use super::{Attrs, Direction, Dma, DmaError, DmaMemory, Field};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::binding::{Bound, EntryId};
use crate::env::{Barrier, Caching};

/// Coherent memory: CPU and device access it at the same time, without syncs.
///
/// The binding owns it. Dropping or forgetting this handle frees nothing (P9); [`release`](Self::release) frees the
/// memory before the binding ends.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// # example::bind(|dev| {
/// let table = dev.dma().coherent(2048)?;
/// table.write_bytes(8, &[1, 2, 3]);
/// table.publish();
/// // ... write table.device_addr() to a register ...
/// let mut bytes = [0; 3];
/// table.read_bytes(8, &mut bytes);
/// assert_eq!(bytes, [1, 2, 3]);
/// table.release();
/// # Ok(())
/// # });
/// ```
pub struct Coherent<'s> {
    pub(super) mapping: Arc<Mapping>,
    pub(super) memory: Arc<DmaMemory>,
    pub(super) entry: EntryId,
    pub(super) dev: Bound<'s>,
}

impl<'s> Dma<'s> {
    /// Allocates `len` bytes (at least 1) of coherent memory, zeroed, starting on a page.
    ///
    /// # Errors
    ///
    /// [`DmaError::Memory`] or [`DmaError::Mask`] when no pages are left that the device can address,
    /// [`DmaError::Iova`] or [`DmaError::Map`] from the IOMMU, [`DmaError::Quarantined`] while earlier memory of the
    /// device is in quarantine, [`DmaError::Unbinding`] once the binding is being torn down.
    pub fn coherent(&self, len: u64) -> Result<Coherent<'s>, DmaError> {
        self.coherent_with(len, Attrs::empty())
    }

    /// As [`coherent`](Self::coherent), optionally with [`Attrs::WRITE_COMBINE`].
    ///
    /// # Errors
    ///
    /// As [`coherent`](Self::coherent).
    pub fn coherent_with(&self, len: u64, attrs: Attrs) -> Result<Coherent<'s>, DmaError> {
        self.shared(Kind::Coherent, len, PAGE_SIZE, attrs)
    }

    /// As [`coherent`](Self::coherent), at a device address that is a multiple of `align` (a power of two), as queues and tables of
    /// hardware have to be. Where `align` is more than `len` rounded up to a power of two, that much is
    /// taken, of which the first `len` bytes are the caller's.
    ///
    /// ```
    /// # use bindery::binding::Bound;
    /// # use bindery::dma::DmaError;
    /// # fn probe(dev: Bound<'_>) -> Result<(), DmaError> {
    /// let queue = dev.dma().coherent_aligned(0x1_2000, 0x2_0000)?;
    /// assert!(queue.device_addr().is_aligned(0x2_0000));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`coherent`](Self::coherent), and [`DmaError::BadAlignment`] for an `align` that is no power of two, or that no address in the
    /// windows of the device's bus (`dma-ranges`) has.
    pub fn coherent_aligned(&self, len: u64, align: u64) -> Result<Coherent<'s>, DmaError> {
        if !align.is_power_of_two() {
            return Err(DmaError::BadAlignment(align));
        }
        let memory = self.shared(Kind::Coherent, len, align.max(PAGE_SIZE), Attrs::empty())?;
        // What is aligned in memory is not when the offset of the window is not.
        if memory.addr().is_aligned(align) {
            return Ok(memory);
        }
        memory.release();
        Err(DmaError::BadAlignment(align))
    }

    /// Allocates coherent memory of any `kind` at a multiple of `align`: of the physical address, and of the device
    /// address too where the back-end's offset is a multiple of it.
    pub(super) fn shared(&self, kind: Kind, len: u64, align: u64, attrs: Attrs) -> Result<Coherent<'s>, DmaError> {
        let context = self.context()?;
        context.admit()?;
        if kind == Kind::Coherent
            && align == PAGE_SIZE
            && let Some(memory) = Coherent::again(&context, self.dev, len, attrs)
        {
            return Ok(memory);
        }
        let machine = &context.machine;
        let limit = context.coherent_limit();
        // The addresses of an IOMMU are aligned to their number.
        let natural = len.checked_next_power_of_two();
        let bytes = if len > 0 && natural.is_some_and(|natural| natural < align) { align } else { len };
        let run = context.backend.take_coherent(machine, &context.device, bytes, align, limit)?;
        let uncached = attrs.contains(Attrs::WRITE_COMBINE);
        let caching = if uncached { Caching::Uncached } else { context.shared_caching() };
        let memory = DmaMemory::new(run, machine.memory().memory(), caching, len).ok_or(DmaError::BadSize(len))?;
        context.check_zero(&memory);
        let reservation = self.dev.state.reservation()?;
        let (phys, bytes) = (memory.phys(), memory.allocated());
        let addr = match &context.backend {
            Backend::Direct(direct) => direct.bus_addr(phys, bytes, limit).ok_or(DmaError::Mask(limit))?,
            Backend::Translated(domain) => {
                let prot = context.prot(Direction::Bidirectional);
                let pins = &mut || PagePins::from_iter([PagePin::new(&memory, &context.pin_owner)]);
                domain.map(context.map_request(kind, prot, limit, pins), phys, bytes)?
            }
        };
        let piece = Piece::new(Backing::Shared(Arc::clone(&memory)), 0..len, addr, None);
        let direction = Direction::Bidirectional;
        let (span, pieces) = ((addr, bytes), Pieces::One(piece));
        let new = NewMapping { context: &context, kind, direction, attrs, span, pieces };
        let (mapping, entry) = new.begin(self.dev, reservation);
        Ok(Coherent { mapping, memory, entry, dev: self.dev })
    }

    /// Allocates a coherent array of `count` (at least 1) values of `T`, zeroed.
    ///
    /// # Errors
    ///
    /// As [`coherent`](Self::coherent), and [`DmaError::BadSize`] when the array is larger than the address space.
    pub fn coherent_slice<T: FromBytes + IntoBytes + Immutable>(
        &self,
        count: usize,
    ) -> Result<CoherentSlice<'s, T>, DmaError> {
        let len = (size_of::<T>() as u64).checked_mul(count as u64).ok_or(DmaError::BadSize(u64::MAX))?;
        Ok(CoherentSlice { memory: self.coherent(len)?, count, element: PhantomData })
    }
}

impl Coherent<'_> {
    /// DMA address of the first byte. Reading it counts as publishing it to the device, which is no longer known to be
    /// quiesced from then on.
    pub fn device_addr(&self) -> DeviceAddr {
        self.dev.state.publish_dma_address();
        self.mapping.first().addr
    }

    /// DMA address of the first byte, for the core: does not count as publishing it.
    pub(super) fn addr(&self) -> DeviceAddr {
        self.mapping.first().addr
    }

    /// The memory, to be read after the binding has ended. Holding it keeps the pages allocated, but not mapped.
    pub fn memory(&self) -> Arc<DmaMemory> {
        Arc::clone(&self.memory)
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.memory.len()
    }

    /// Never true: an allocation has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Panics
    ///
    /// If the range is not inside the memory.
    pub fn read_bytes(&self, offset: u64, to: &mut [u8]) {
        self.memory.read_bytes(offset, to);
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Panics
    ///
    /// If the range is not inside the memory.
    pub fn write_bytes(&self, offset: u64, from: &[u8]) {
        self.memory.write_bytes(offset, from);
    }

    /// Loads the value at `offset` bytes: in one access when it has 1, 2, 4 or 8 bytes and `offset` is a multiple of its
    /// size, so that the device never shows half of a write. A larger value is copied in words.
    ///
    /// # Panics
    ///
    /// If the value is not inside the memory.
    pub fn read<T: FromBytes + IntoBytes>(&self, offset: u64) -> T {
        self.memory.read(offset)
    }

    /// Stores `value` at `offset` bytes; in one access under the conditions of [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// If the value is not inside the memory.
    pub fn write<T: IntoBytes + Immutable>(&self, offset: u64, value: &T) {
        self.memory.write(offset, value);
    }

    /// Full barrier: makes all earlier writes visible to the device before a following register write, such as a
    /// doorbell (Linux: `wmb`).
    pub fn publish(&self) {
        self.barrier(Barrier::Full);
    }

    /// Orders accesses to coherent memory of any kind, as the device sees them: [`Barrier::Write`] between the contents of a
    /// descriptor and the index or flag that hands it over (Linux: `dma_wmb`), [`Barrier::Read`] between reading the flag
    /// that the device has set and reading what it covers (`dma_rmb`).
    pub fn barrier(&self, barrier: Barrier) {
        self.mapping.context.machine.memory().memory().barrier(barrier);
    }

    /// Gives the memory back before the binding ends. The device must not use it any more.
    ///
    /// Behind an IOMMU up to 32 single pages wait, still mapped for this device, for the next allocation of as many bytes, or the end of
    /// the binding (docs/decisions/0016). With the DMA checker or events each is unmapped at once.
    pub fn release(self) {
        let (state, id) = (self.dev.state, self.entry);
        if let Some(entry) = take_entry(self.dev, id)
            && let Err(entry) = self.keep(entry)
        {
            state.release_early(id, entry);
        }
    }
}

impl fmt::Debug for Coherent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coherent({} bytes at {})", self.len(), self.mapping.first().addr)
    }
}

/// Coherent array of `T`, in the CPU's (little-endian) byte order.
///
/// Values are copied in and out: the device may change them at any time, so there is no `&T`.
///
/// ```
/// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
/// use bindery::env::Barrier;
/// use bindery::field;
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Completion {
///     result: u32,
///     command: u16,
///     /// Bit 0 is the phase: the device inverts it in each round.
///     status: u16,
/// }
///
/// # example::bind(|dev| {
/// let ring = dev.dma().coherent_slice::<Completion>(16)?;
/// # ring.write(3, &Completion { result: 7, command: 9, status: 1 });
/// let status = ring.read_field(3, field!(Completion, status));
/// if status & 1 == 1 {
///     // The device writes the status last: the rest is valid, but not before this barrier.
///     ring.barrier(Barrier::Read);
///     assert_eq!(ring.read_field(3, field!(Completion, result)), 7);
/// }
/// # assert_eq!(status, 1);
/// # Ok(())
/// # });
/// ```
pub struct CoherentSlice<'s, T> {
    memory: Coherent<'s>,
    count: usize,
    element: PhantomData<fn() -> T>,
}

impl<T: FromBytes + IntoBytes + Immutable> CoherentSlice<'_, T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there are no elements.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The element at `index`; in one access when it has 1, 2, 4 or 8 bytes.
    ///
    /// # Panics
    ///
    /// If `index` is out of bounds.
    pub fn read(&self, index: usize) -> T {
        self.memory.read(self.offset(index))
    }

    /// Stores `value` at `index`; in one access when it has 1, 2, 4 or 8 bytes.
    ///
    /// # Panics
    ///
    /// If `index` is out of bounds.
    pub fn write(&self, index: usize, value: &T) {
        self.memory.write(self.offset(index), value);
    }

    /// One field of the element at `index`, without the others; see [`field!`](crate::field).
    ///
    /// # Panics
    ///
    /// If `index` is out of bounds.
    pub fn read_field<F: FromBytes + IntoBytes>(&self, index: usize, field: Field<T, F>) -> F {
        self.memory.read(self.offset(index) + field.offset)
    }

    /// Stores one field of the element at `index`, and leaves the others as they are; see [`field!`](crate::field).
    ///
    /// # Panics
    ///
    /// If `index` is out of bounds.
    pub fn write_field<F: IntoBytes + Immutable>(&self, index: usize, field: Field<T, F>, value: &F) {
        self.memory.write(self.offset(index) + field.offset, value);
    }

    /// DMA address of the first element; see [`Coherent::device_addr`].
    pub fn device_addr(&self) -> DeviceAddr {
        self.memory.device_addr()
    }

    /// The memory as bytes.
    pub fn bytes(&self) -> &Coherent<'_> {
        &self.memory
    }

    /// As [`Coherent::publish`].
    pub fn publish(&self) {
        self.memory.publish();
    }

    /// As [`Coherent::barrier`].
    pub fn barrier(&self, barrier: Barrier) {
        self.memory.barrier(barrier);
    }

    /// As [`Coherent::release`].
    pub fn release(self) {
        self.memory.release();
    }

    fn offset(&self, index: usize) -> u64 {
        assert!(index < self.count, "element {index} of {}", self.count);
        (index * size_of::<T>()) as u64
    }
}

impl<T> fmt::Debug for CoherentSlice<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}] in {:?}", core::any::type_name::<T>(), self.count, self.memory)
    }
}
