//! Memory that the CPU and the device share.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::backend::Backend;
use super::mapping::{Backing, Kind, Mapping, Piece, Pieces};
use super::pin::PagePin;
use super::{Attrs, Direction, Dma, DmaError, DmaMemory};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::binding::{EntryId, Scope};
use crate::env::{Barrier, Caching};

/// Memory that CPU and device share, of `len` bytes.
///
/// The binding owns it. Dropping or forgetting this handle changes nothing (P9); [`release`](Self::release) gives the
/// memory back early.
pub struct Coherent<'s> {
    mapping: Arc<Mapping>,
    memory: Arc<DmaMemory>,
    entry: EntryId,
    scope: Scope<'s>,
}

impl<'s> Dma<'s> {
    /// Takes `len` bytes (at least 1) that CPU and device share, zeroed, starting on a page.
    pub fn coherent(&self, len: u64) -> Result<Coherent<'s>, DmaError> {
        self.coherent_with(len, Attrs::empty())
    }

    /// As [`coherent`](Self::coherent), with [`Attrs::WRITE_COMBINE`] or without.
    pub fn coherent_with(&self, len: u64, attrs: Attrs) -> Result<Coherent<'s>, DmaError> {
        self.shared(Kind::Coherent, len, PAGE_SIZE, attrs)
    }

    /// Memory that CPU and device share, for whatever use, at a multiple of `align`: of the physical address, and so of the
    /// device address where the back-end does not move pages by less.
    pub(super) fn shared(&self, kind: Kind, len: u64, align: u64, attrs: Attrs) -> Result<Coherent<'s>, DmaError> {
        let context = self.context()?;
        context.admit()?;
        let machine = &context.machine;
        let limit = context.coherent_limit();
        let run = context.backend.take_shared(machine, &context.device, len, align, limit)?;
        let uncached = attrs.contains(Attrs::WRITE_COMBINE);
        let caching = if uncached { Caching::Uncached } else { context.shared_caching() };
        let memory = DmaMemory::new(run, machine.memory().memory(), caching, len).ok_or(DmaError::BadSize(len))?;
        context.check_zero(&memory);
        let reservation = self.scope.bound.reservation()?;
        let (phys, bytes) = (memory.phys(), memory.allocated());
        let addr = match &context.backend {
            Backend::Direct(direct) => direct.reach(phys, bytes, limit).ok_or(DmaError::Mask(limit))?,
            Backend::Translated(domain) => {
                let prot = context.prot(Direction::Bidirectional);
                let pins = &mut || Vec::from([PagePin::new(&memory, &context.pinner)]);
                domain.map(machine, &context.device, kind.name(), phys, bytes, prot, context.reach(limit), pins)?
            }
        };
        let piece = Piece::new(Backing::Shared(Arc::clone(&memory)), 0..len, addr, None);
        let (mapping, entry) = Mapping::begin(
            &context,
            self.scope,
            reservation,
            kind,
            Direction::Bidirectional,
            attrs,
            (addr, bytes),
            Pieces::One(piece),
        );
        Ok(Coherent { mapping, memory, entry, scope: self.scope })
    }

    /// Takes memory for `count` (at least 1) values of `T` that CPU and device share, zeroed.
    pub fn coherent_slice<T: FromBytes + IntoBytes + Immutable>(
        &self,
        count: usize,
    ) -> Result<CoherentSlice<'s, T>, DmaError> {
        let len = (size_of::<T>() as u64).checked_mul(count as u64).ok_or(DmaError::BadSize(u64::MAX))?;
        Ok(CoherentSlice { memory: self.coherent(len)?, count, element: PhantomData })
    }
}

impl Coherent<'_> {
    /// Where the device finds it. Reading this counts as telling the device: whatever was known about the device being
    /// quiet is void.
    pub fn device_addr(&self) -> DeviceAddr {
        self.scope.bound.publish_dma_address();
        self.mapping.first().addr
    }

    /// Where the device would find it, without telling it.
    pub(super) fn addr(&self) -> DeviceAddr {
        self.mapping.first().addr
    }

    /// The memory, to read after the binding has ended. It keeps the pages from their allocator, not the mapping alive.
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
    /// When the range is not inside the memory.
    pub fn read_bytes(&self, offset: u64, to: &mut [u8]) {
        self.memory.read_bytes(offset, to);
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Panics
    ///
    /// When the range is not inside the memory.
    pub fn write_bytes(&self, offset: u64, from: &[u8]) {
        self.memory.write_bytes(offset, from);
    }

    /// Orders everything written so far before the register write that tells the device.
    pub fn publish(&self) {
        self.mapping.context.machine.memory().memory().barrier(Barrier::Full);
    }

    /// Gives it back before the binding ends. The device must not use it any more.
    pub fn release(self) {
        if let Some(entry) = self.scope.bound.ledger.take(self.entry) {
            self.scope.bound.release_early(self.entry, entry);
        }
    }
}

impl fmt::Debug for Coherent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coherent({} bytes at {})", self.len(), self.mapping.first().addr)
    }
}

/// An array of `T` that CPU and device share, in the CPU's (little-endian) byte order.
///
/// Values are copied in and out: the device may change them at any time, so there is no `&T`.
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

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The element at `index`.
    ///
    /// # Panics
    ///
    /// When there is no such element.
    pub fn read(&self, index: usize) -> T {
        let mut value = T::new_zeroed();
        self.memory.read_bytes(self.offset(index), value.as_mut_bytes());
        value
    }

    /// Stores `value` at `index`.
    ///
    /// # Panics
    ///
    /// When there is no such element.
    pub fn write(&self, index: usize, value: &T) {
        self.memory.write_bytes(self.offset(index), value.as_bytes());
    }

    /// Where the device finds the first element; see [`Coherent::device_addr`].
    pub fn device_addr(&self) -> DeviceAddr {
        self.memory.device_addr()
    }

    /// The memory as bytes.
    pub fn bytes(&self) -> &Coherent<'_> {
        &self.memory
    }

    /// Orders everything written so far before the register write that tells the device.
    pub fn publish(&self) {
        self.memory.publish();
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
