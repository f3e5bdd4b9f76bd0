//! Memory that the CPU and the device share.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Dma, DmaContext, DmaError, DmaMemory};
use crate::addr::DeviceAddr;
use crate::binding::{Entry, EntryId, Scope, WayBack};
use crate::env::Barrier;
use crate::event::{EventKind, Outcome};
use crate::iommu::Prot;
use crate::promise::Promise;

/// One allocation: memory, mapping, and the context that made both.
struct Allocation {
    context: Arc<DmaContext>,
    memory: Arc<DmaMemory>,
    addr: DeviceAddr,
}

/// Memory that CPU and device share, of `len` bytes.
///
/// The binding owns it. Dropping or forgetting this handle changes nothing (P9); [`release`](Self::release) gives the
/// memory back early.
pub struct Coherent<'s> {
    allocation: Arc<Allocation>,
    entry: EntryId,
    scope: Scope<'s>,
}

impl<'s> Dma<'s> {
    /// Takes `len` bytes (at least 1) that CPU and device share, zeroed, starting on a page.
    pub fn coherent(&self, len: u64) -> Result<Coherent<'s>, DmaError> {
        let context = self.context()?;
        context.admit()?;
        let machine = &context.machine;
        let run = context.backend.take(machine, &context.device, len, context.limit())?;
        let caching = context.shared_caching();
        let memory = DmaMemory::new(run, machine.memory().memory(), caching, len).ok_or(DmaError::BadSize(len))?;
        if machine.tracks_mappings() {
            machine.promises.check(Promise::CleanHand, memory.is_zero(), || {
                format!("{}: DMA memory at {} is not zero", context.device, memory.phys())
            });
        }
        let mut prot = Prot::READ | Prot::WRITE;
        prot.set(Prot::COHERENT, context.coherent);
        let limit = context.limit();
        let addr = context.backend.map(
            machine,
            &context.device,
            "coherent",
            memory.phys(),
            memory.allocated(),
            prot,
            limit,
        )?;
        machine.emit(Some(&context.device), || EventKind::DmaMapped {
            kind: "coherent",
            addr,
            phys: memory.phys(),
            size: len,
            backend: format!("{}, {}", context.backend.name(), memory.source()),
        });
        let allocation = Arc::new(Allocation { context, memory, addr });
        let entry = self.scope.bound.push(self.scope.tag, AllocationEntry(Arc::clone(&allocation)))?;
        Ok(Coherent { allocation, entry, scope: self.scope })
    }

    /// Takes memory for `count` (at least 1) values of `T` that CPU and device share, zeroed.
    pub fn coherent_slice<T: FromBytes + IntoBytes + Immutable>(
        &self,
        count: usize,
    ) -> Result<CoherentSlice<'s, T>, DmaError> {
        let len = (size_of::<T>() as u64).checked_mul(count as u64).ok_or(DmaError::BadSize(u64::MAX))?;
        Ok(CoherentSlice { memory: self.coherent(len)?, count, element: PhantomData })
    }

    /// Sets the highest address that the device can put on its bus, in bits (1 to 64; 32 until it is set).
    ///
    /// # Panics
    ///
    /// When `bits` is 0 or more than 64.
    pub fn set_mask(&self, bits: u32) -> Result<(), DmaError> {
        assert!((1..=64).contains(&bits), "a DMA mask of {bits} bits");
        self.context()?.set_limit(u64::MAX >> (64 - bits));
        Ok(())
    }

    pub(super) fn context(&self) -> Result<Arc<DmaContext>, DmaError> {
        self.scope.bound.dma.lock().clone().ok_or(DmaError::Unbinding)
    }
}

impl Coherent<'_> {
    /// Where the device finds it. Reading this counts as telling the device: whatever was known about the device being
    /// quiet is void.
    pub fn device_addr(&self) -> DeviceAddr {
        self.scope.bound.expose();
        self.allocation.addr
    }

    /// The memory, to read after the binding has ended. It keeps the pages from their allocator, not the mapping alive.
    pub fn memory(&self) -> Arc<DmaMemory> {
        Arc::clone(&self.allocation.memory)
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.allocation.memory.len()
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
        self.allocation.memory.read_bytes(offset, to);
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Panics
    ///
    /// When the range is not inside the memory.
    pub fn write_bytes(&self, offset: u64, from: &[u8]) {
        self.allocation.memory.write_bytes(offset, from);
    }

    /// Orders everything written so far before the register write that tells the device.
    pub fn publish(&self) {
        self.allocation.context.machine.memory().memory().barrier(Barrier::Full);
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
        write!(f, "Coherent({} bytes at {})", self.len(), self.allocation.addr)
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

struct AllocationEntry(Arc<Allocation>);

impl Entry for AllocationEntry {
    fn resource(&self) -> &'static str {
        "dma coherent"
    }

    fn what(&self) -> String {
        format!("{} bytes at {}", self.0.memory.len(), self.0.addr)
    }

    fn backend(&self) -> String {
        format!("{}, {}", self.0.context.backend.name(), self.0.memory.source())
    }

    fn release(self: Box<Self>, way: &mut WayBack<'_>) -> Outcome {
        let Allocation { context, memory, addr } = &*self.0;
        let machine = &context.machine;
        let same = way.bound.dma.lock().as_ref().is_some_and(|now| Arc::ptr_eq(now, context));
        machine.promises.check(Promise::SameHand, same, || {
            format!("{}: {addr} is freed after the back-end that allocated it was torn down", context.device)
        });
        let unmapped = context.backend.unmap(machine, *addr, memory.allocated(), way.quiet.as_ref());
        machine.emit(Some(&context.device), || EventKind::DmaUnmapped {
            kind: "coherent",
            addr: *addr,
            size: memory.len(),
            backend: context.backend.name(),
        });
        match unmapped {
            Ok(_proof) => {
                let reachable = context.backend.reaches(*addr);
                machine.promises.check(Promise::UnreachableBeforeFree, !reachable, || {
                    format!("{}: {addr} still translates when its pages go back", context.device)
                });
                machine.promises.check(Promise::QuietFirst, true, String::new);
                Outcome::Returned
            }
            Err(why) => {
                machine.quarantine.keep(machine, &context.device, Arc::clone(memory), why);
                Outcome::Quarantined
            }
        }
    }
}
