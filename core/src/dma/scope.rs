//! Borrowed buffers: mapped for the time of one call, which takes the device off them before it returns.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;

use smallvec::SmallVec;

use super::batch::{take_entry, unmap_entries};
use super::mapping::{Kind, Mapping, NewMapping};
use super::piece::{Backing, Piece, Pieces};
use super::streaming::place_buffer;
use super::{Attrs, CpuView, Direction, Dma, DmaBuffer, DmaError, DmaMemory, Mapped, Refused};
use crate::addr::DeviceAddr;
use crate::binding::{Bound, EntryId};
use crate::iommu::DomainKind;
use crate::lifecycle::Quiesced;

/// Scope of borrowed buffers; see [`Dma::scope`].
///
/// # Invariants
///
/// `mapped` has every mapping of the scope that has not ended, and of each memory that some device may still reach by one that has
/// ended at least one. Whoever makes a scope ends it (`end`) before `'scope` does.
pub struct Scope<'scope, 'env: 'scope> {
    dev: Bound<'scope>,
    mapped: RefCell<List>,
    /// Length of the list at which those that have ended are removed.
    swept_at: Cell<usize>,
    /// The driver does not state that the device is done.
    leaves_running: Cell<bool>,
    // Both invariant, as in `std::thread::Scope`: else a shorter borrow could be passed for `'scope`.
    invariant: PhantomData<(&'scope mut &'scope (), &'env mut &'env ())>,
}

/// Mappings of a scope, oldest first. Few need no allocation.
type List = SmallVec<[Item; 4]>;

/// Number of mappings in a scope from which on those that have ended are removed.
const SWEPT_AT: usize = 16;

struct Item {
    entry: EntryId,
    mapping: Arc<Mapping>,
}

impl Item {
    /// True when neither a handle nor the ledger has the mapping any more.
    fn has_ended(&self) -> bool {
        Arc::strong_count(&self.mapping) == 1
    }

    /// Identifies the borrowed memory.
    fn memory(&self) -> Option<*const DmaMemory> {
        self.mapping.first().memory().map(Arc::as_ptr)
    }
}

/// Mapping of a borrowed buffer: the device has it until [`unmap`](Self::unmap), or until the scope ends. Dropping or forgetting it changes
/// nothing of that.
pub struct Borrowed<'scope> {
    /// The borrow of the buffer, which nobody uses while the mapping is.
    buffer: &'scope mut DmaBuffer,
    mapped: Mapped<'scope>,
}

impl Dma<'_> {
    /// Calls `f` with a scope in which buffers are mapped that are only borrowed, and takes the device off all of them before it
    /// returns: unmapped, and confirmed by the IOMMU, in a lazy domain, too. A handle that is forgotten in the scope changes nothing of
    /// that (P9), and nor does a panic.
    ///
    /// By returning from `f`, an error as well, the driver states that the device does not use them any more. Where a step may fail
    /// after the device was started, stop it before the `?`, or call [`leave_running`](Scope::leave_running). A panic states nothing:
    /// without an IOMMU the pages are in quarantine then, until the device is shown to be quiesced.
    ///
    /// ```
    /// use bindery::dma::Direction;
    /// # mod example { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/example.rs")); }
    /// # example::bind(|dev| {
    /// let mut buffer = dev.dma().buffer(4096)?;
    /// dev.dma().scope(|scope| {
    ///     let mapped = scope.map(&mut buffer, Direction::FromDevice)?;
    ///     // ... the device writes to it at mapped.device_addr(), and is done ...
    /// # let _ = mapped.device_addr();
    ///     Ok::<_, bindery::dma::DmaError>(())
    /// })??;
    /// assert_eq!(buffer.as_slice()[0], 0); // the CPU's again
    /// # Ok(())
    /// # });
    /// ```
    ///
    /// The buffer is the scope's until the scope ends:
    ///
    /// ```compile_fail,E0499
    /// # use bindery::{binding::Bound, dma::{Direction, DmaBuffer, DmaError}};
    /// fn both(dev: Bound<'_>, mut buffer: DmaBuffer) {
    ///     let _ = dev.dma().scope(|scope| {
    ///         let mapped = scope.map(&mut buffer, Direction::FromDevice);
    /// buffer.as_mut_slice()[0] = 1; // the device has it
    ///         drop(mapped);
    ///     });
    /// }
    /// ```
    ///
    /// and no mapping leaves it:
    ///
    /// ```compile_fail
    /// # use bindery::{binding::Bound, dma::{Direction, DmaBuffer, DmaError}};
    /// fn smuggle(dev: Bound<'_>, mut buffer: DmaBuffer) {
    /// let _mapped = dev.dma().scope(|scope| scope.map(&mut buffer, Direction::FromDevice));
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`DmaError::Quarantined`], with what `f` returned, when the hardware did not confirm that the device is off the memory: the pages
    /// of so many bytes are in quarantine, while the borrowed buffers lend copies of their bytes, which are not what the device wrote
    /// last.
    pub fn scope<'env, R>(
        &self,
        f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
    ) -> Result<R, Refused<R>> {
        let (mapped, swept_at, leaves_running) = (RefCell::default(), Cell::new(SWEPT_AT), Cell::new(false));
        let scope = Scope { dev: self.dev, mapped, swept_at, leaves_running, invariant: PhantomData };
        let unfinished = Unfinished(&scope);
        let returned = f(&scope);
        core::mem::forget(unfinished);
        let quiesced = (!scope.leaves_running.get()).then(Quiesced::stopped);
        match scope.end(quiesced.as_ref()) {
            0 => Ok(returned),
            lost => Err(Refused { error: DmaError::Quarantined(lost), returned }),
        }
    }
}

/// Ends a scope whose call panics.
struct Unfinished<'a, 'scope, 'env>(&'a Scope<'scope, 'env>);

impl Drop for Unfinished<'_, '_, '_> {
    fn drop(&mut self) {
        self.0.end(None);
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Maps a whole buffer for the device.
    ///
    /// # Errors
    ///
    /// As [`map_range`](Self::map_range).
    pub fn map(
        &'scope self,
        buffer: &'scope mut DmaBuffer,
        direction: Direction,
    ) -> Result<Borrowed<'scope>, Refused<&'scope mut DmaBuffer>> {
        let range = 0..buffer.len();
        self.map_range(buffer, range, direction, Attrs::empty())
    }

    /// Maps `range` of a buffer for the device; the whole buffer is borrowed. See [`Dma::map_range`].
    ///
    /// # Errors
    ///
    /// The borrow is returned in the error; errors are those of [`Dma::map_range`].
    pub fn map_range(
        &'scope self,
        buffer: &'scope mut DmaBuffer,
        range: Range<u64>,
        direction: Direction,
        attrs: Attrs,
    ) -> Result<Borrowed<'scope>, Refused<&'scope mut DmaBuffer>> {
        let kind = Kind::Single;
        let prepared = Dma::new(self.dev).prepare(buffer, &range).and_then(|(context, reservation)| {
            let placement = place_buffer(&context, kind, buffer, &range, direction)?;
            Ok((context, reservation, placement))
        });
        let (context, reservation, placement) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err(Refused { error, returned: buffer }),
        };
        let backing = Backing::DeviceOwned(buffer.lend());
        let pieces = Pieces::One(Piece::new(backing, range, placement.addr, placement.bounce));
        let new = NewMapping { context: &context, kind, direction, attrs, span: placement.span, pieces };
        let (mapping, entry) = new.begin(self.dev, reservation);
        self.add(Item { entry, mapping: Arc::clone(&mapping) });
        Ok(Borrowed { buffer, mapped: Mapped { mapping, entry, dev: self.dev } })
    }

    fn add(&self, item: Item) {
        let mut mapped = self.mapped.borrow_mut();
        if mapped.len() >= self.swept_at.get() {
            sweep(&mut mapped);
            // Each mapping pays for a share of the next time.
            self.swept_at.set(SWEPT_AT.max(2 * mapped.len()));
        }
        mapped.push(item);
    }

    /// Takes back, in advance, the statement that the device is done when the scope ends: it could not be stopped. Without an IOMMU all
    /// pages that are mapped then are in quarantine until it is shown to be quiesced (P11).
    pub fn leave_running(&self) {
        self.leaves_running.set(true);
    }

    /// Unmaps all that is mapped, newest first, and asks for every confirmation that is missing. Returns the bytes of which the device
    /// may still reach the pages; those are in quarantine.
    fn end(&self, quiesced: Option<&Quiesced>) -> u64 {
        let mapped = self.mapped.take();
        let ended = end_all(self.dev, &mapped, quiesced);
        let (mut asks, mut lost) = (true, Vec::new());
        for (item, ended) in mapped.iter().rev().zip(ended) {
            let mapping = &item.mapping;
            // A hung IOMMU is waited for once.
            let is_off = if asks { mapping.confirm_off() } else { mapping.is_off() };
            if !is_off {
                asks = false;
                lost.push((item.memory(), mapping.span.1));
            } else if ended && mapping.is_quarantined() {
                // Confirmed late: only now may the CPU see what the device wrote (P13).
                mapping.take_from_device();
            }
        }
        // Memory that was mapped several times is in quarantine once.
        lost.sort_unstable_by(|a, b| b.cmp(a));
        lost.dedup_by_key(|(memory, _)| *memory);
        lost.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Removes mappings that have ended, but for the newest one of each memory that a device may still reach.
fn sweep(mapped: &mut List) {
    let mut kept = BTreeSet::new();
    mapped.reverse();
    mapped.retain(|item| {
        let is_over = item.has_ended() && (item.mapping.is_off() || kept.contains(&item.memory()));
        if !is_over {
            kept.insert(item.memory());
        }
        !is_over
    });
    mapped.reverse();
}

/// Ends all mappings of a scope, newest first, in a strict domain with one flush. Tells of each whether it had not ended before.
fn end_all(dev: Bound<'_>, mapped: &List, quiesced: Option<&Quiesced>) -> SmallVec<[bool; 4]> {
    let newest_first = mapped.iter().rev().map(|item| item.entry);
    let domain = mapped.first().and_then(|first| first.mapping.context.backend.domain());
    if mapped.len() < 2 || domain.is_none_or(|domain| domain.kind() != DomainKind::Strict) {
        return newest_first.map(|entry| end_entry(dev, entry, quiesced)).collect();
    }
    let mut entries = Vec::with_capacity(mapped.len());
    let ended = newest_first.map(|id| take_entry(dev, id).map(|entry| entries.push((id, entry))).is_some()).collect();
    unmap_entries(dev, entries, quiesced);
    ended
}

/// Ends the mapping of ledger entry `entry`. False when it has ended before.
fn end_entry(dev: Bound<'_>, entry: EntryId, quiesced: Option<&Quiesced>) -> bool {
    let Some(taken) = dev.state.ledger.take(entry) else { return false };
    dev.state.release_with(entry, taken, quiesced.map(|_| Quiesced::stopped()));
    true
}

impl Mapping {
    /// True when no device can reach the memory, after asking for the confirmations that are missing.
    fn confirm_off(&self) -> bool {
        self.memories().all(|memory| memory.confirm_unmapped(None).is_ok())
    }

    /// True when no device can reach the memory.
    fn is_off(&self) -> bool {
        self.memories().all(|memory| !memory.record().is_pinned())
    }

    fn memories(&self) -> impl Iterator<Item = &Arc<DmaMemory>> {
        self.pieces.as_slice().iter().filter_map(Piece::memory)
    }
}

impl<'scope> Borrowed<'scope> {
    /// DMA address of the first byte; see [`Mapped::device_addr`].
    pub fn device_addr(&self) -> DeviceAddr {
        self.mapped.device_addr()
    }

    /// Mapped bytes.
    pub fn len(&self) -> u64 {
        self.mapped.len()
    }

    /// Never true: at least one byte is mapped.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// True when the device accesses a bounce buffer instead of the memory.
    pub fn is_bounced(&self) -> bool {
        self.mapped.is_bounced()
    }

    /// Transfers the bytes to the CPU while the view exists; see [`Mapped::sync_for_cpu`].
    pub fn sync_for_cpu(&mut self) -> CpuView<'_> {
        self.mapped.sync_for_cpu()
    }

    /// Unmaps before the scope ends, and returns the borrow. By this call the driver states that the device does not use the buffer any
    /// more. In a lazy domain the device may reach it until the scope ends, or somebody borrows a slice of it.
    ///
    /// # Errors
    ///
    /// [`DmaError::Quarantined`] when the IOMMU did not confirm; see [`Dma::scope`].
    pub fn unmap(self) -> Result<&'scope mut DmaBuffer, Refused<&'scope mut DmaBuffer>> {
        let Self { buffer, mapped: Mapped { mapping, entry, dev } } = self;
        let ended = end_entry(dev, entry, Some(&Quiesced::stopped()));
        if mapping.is_quarantined() {
            if !(ended && mapping.confirm_off()) {
                return Err(Refused { error: DmaError::Quarantined(mapping.span.1), returned: buffer });
            }
            mapping.take_from_device();
        }
        Ok(buffer)
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({} mappings of {})", self.mapped.borrow().len(), self.dev.name())
    }
}

impl fmt::Debug for Borrowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Borrowed({:?})", self.mapped)
    }
}
