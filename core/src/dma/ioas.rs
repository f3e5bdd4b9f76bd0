//! I/O address space of a pass-through device: its user maps memory at addresses of the user's choice.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt;

use super::DmaMemory;
use super::pin::{AccessPath, PagePin, PagePins, PinOwner};
use crate::addr::{DeviceAddr, PAGE_SIZE};
use crate::iommu::{Domain, FixedError, MapError, Membership, Prot, Range};
use crate::sync::{Mutex, MutexGuard};
use crate::system::System;

/// Maximum number of maps of one user, as in Linux (`dma_entry_limit`, `drivers/vfio/vfio_iommu_type1.c`). Unmapped
/// ranges that the IOMMU has not confirmed count.
pub const MAX_MAPS: usize = 65_535;

/// Error of a user's map or unmap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IoasError {
    /// The range is empty, not page aligned, wraps, or is not inside the memory.
    #[error("bad range: {len:#x} bytes at {iova}")]
    BadRange {
        /// First device address.
        iova: DeviceAddr,
        /// Bytes.
        len: u64,
    },
    /// No map has this address and length.
    #[error("no map at {0}")]
    NoMap(DeviceAddr),
    /// The user has too many maps.
    #[error("more than {0} maps")]
    TooManyMaps(usize),
    /// The memory belongs to another machine.
    #[error("the memory belongs to another machine")]
    ForeignMemory,
    /// The IOMMU has not confirmed that an earlier map at this address is gone: the address is neither mapped nor free,
    /// and the earlier map's memory stays pinned. Unmapping or mapping again asks the IOMMU once more.
    #[error("the IOMMU has not confirmed the end of an earlier map at {0}; try again")]
    Unconfirmed(DeviceAddr),
    /// A part of the range is a reserved region of the device's IOMMU group (`reserved_regions`).
    #[error("the range at {0} holds a reserved region of the IOMMU group")]
    Reserved(DeviceAddr),
    /// The page table refused.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The device was taken back, and the address space closed.
    #[error("the device was taken back")]
    Closed,
}

struct State {
    /// `None` once it is closed, so that the translation context becomes free.
    domain: Option<Arc<Domain>>,
    /// Length of each map in bytes, and the pin of its memory.
    maps: BTreeMap<DeviceAddr, (u64, PagePin)>,
    /// Ranges that were unmapped without confirmation by the IOMMU, and their lengths.
    unconfirmed: BTreeMap<DeviceAddr, u64>,
    /// The device is blocked: the IOMMU has not confirmed that the previous user's maps are gone.
    blocked: bool,
}

/// I/O address space of the user of a pass-through device. Each map pins its memory until the IOMMU has confirmed that
/// the map is gone; until then its address cannot be mapped again. It is closed when the binding ends, at the latest.
pub struct Ioas {
    machine: Weak<System>,
    pin_owner: Arc<PinOwner>,
    member: Option<Membership>,
    /// Held by whoever removes maps until the IOMMU has answered: while one thread waits for the flush, another one cannot know
    /// whether all maps are gone.
    removal: Mutex<()>,
    /// Not held while the IOMMU is waited for.
    state: Mutex<State>,
}

impl Ioas {
    pub(crate) fn new(
        machine: &Arc<System>,
        device: &Arc<str>,
        member: Option<Membership>,
        domain: Arc<Domain>,
    ) -> Self {
        let pin_owner = PinOwner::new(machine, device, AccessPath::Domain(Arc::downgrade(&domain)));
        let machine = Arc::downgrade(machine);
        let (maps, unconfirmed) = (BTreeMap::new(), BTreeMap::new());
        let state = State { domain: Some(domain), maps, unconfirmed, blocked: false };
        Self { machine, pin_owner, member, removal: Mutex::new(()), state: Mutex::new(state) }
    }

    fn open(&self) -> Result<(Arc<System>, Arc<Domain>), IoasError> {
        let domain = self.state.lock().domain.clone();
        self.machine.upgrade().zip(domain).ok_or(IoasError::Closed)
    }

    /// Number of maps.
    pub fn maps(&self) -> usize {
        self.state.lock().maps.len()
    }

    /// Maps `len` bytes of `memory`, from `offset` on, at `iova` (all multiples of the page size).
    ///
    /// # Errors
    ///
    /// [`IoasError::BadRange`], [`IoasError::ForeignMemory`], [`IoasError::Reserved`], [`IoasError::TooManyMaps`],
    /// [`IoasError::Map`] from the page table (nothing is mapped then), [`IoasError::Unconfirmed`] while an earlier map
    /// in the range is not confirmed to be gone, [`IoasError::Closed`].
    pub fn map(
        &self,
        iova: DeviceAddr,
        memory: &Arc<DmaMemory>,
        offset: u64,
        len: u64,
        prot: Prot,
    ) -> Result<(), IoasError> {
        let (machine, domain) = self.open()?;
        let aligned = iova.is_aligned(PAGE_SIZE) && offset.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
        let inside = offset.checked_add(len).is_some_and(|end| end <= memory.allocated());
        if len == 0 || !aligned || !inside || iova.checked_add(len - 1).is_none() {
            return Err(IoasError::BadRange { iova, len });
        }
        if !memory.is_of(machine.memory().memory()) {
            return Err(IoasError::ForeignMemory);
        }
        let range = Range { iova, len };
        if !self.try_unblock(&machine, &domain) || domain.retry_unconfirmed(&machine, range) {
            return Err(IoasError::Unconfirmed(iova));
        }
        let mut s = self.state.lock();
        // Checked again under the lock: `close` may have run since `open`.
        if s.domain.is_none() {
            return Err(IoasError::Closed);
        }
        s.unconfirmed.retain(|at, len| domain.is_unconfirmed(Range { iova: *at, len: *len }));
        if s.maps.len() + s.unconfirmed.len() >= MAX_MAPS {
            return Err(IoasError::TooManyMaps(MAX_MAPS));
        }
        match domain.map_fixed(range, memory.phys() + offset, prot) {
            Ok(()) => {}
            Err(FixedError::Map(e @ MapError::Unconfirmed(_))) => {
                let pins = PagePins::from_iter([PagePin::new(memory, &self.pin_owner)]);
                domain.hold_unconfirmed(&machine, &self.pin_owner.device, range, pins, e);
                s.unconfirmed.insert(iova, len);
                return Err(IoasError::Unconfirmed(iova));
            }
            Err(FixedError::Reserved) => return Err(IoasError::Reserved(iova)),
            Err(FixedError::Map(e)) => return Err(IoasError::Map(e)),
            Err(FixedError::Unconfirmed(at)) => return Err(IoasError::Unconfirmed(at)),
        }
        s.maps.insert(iova, (len, PagePin::new(memory, &self.pin_owner)));
        Ok(())
    }

    /// Unmaps the map of `len` bytes at `iova`, and waits until the device cannot reach it.
    ///
    /// # Errors
    ///
    /// [`IoasError::NoMap`] when no map has this address and length, [`IoasError::Unconfirmed`] when the IOMMU does not
    /// confirm (the same call asks it again), [`IoasError::Closed`].
    pub fn unmap(&self, iova: DeviceAddr, len: u64) -> Result<(), IoasError> {
        let (machine, domain) = self.open()?;
        let range = Range { iova, len };
        let _removal = self.removal.lock();
        let pin = {
            let mut s = self.state.lock();
            if s.maps.get(&iova).is_some_and(|(l, _)| *l == len) {
                s.maps.remove(&iova).map(|(_, pin)| pin)
            } else if s.unconfirmed.get(&iova) == Some(&len) {
                None
            } else {
                return Err(IoasError::NoMap(iova));
            }
        };
        let gone = match pin {
            Some(pin) => {
                domain.unmap_fixed(&machine, &self.pin_owner.device, &[range], PagePins::from_iter([pin])).is_ok()
            }
            None => !domain.retry_unconfirmed(&machine, range),
        };
        let mut s = self.state.lock();
        if gone {
            s.unconfirmed.remove(&iova);
            Ok(())
        } else {
            s.unconfirmed.insert(iova, len);
            Err(IoasError::Unconfirmed(iova))
        }
    }

    /// Removes every map with one flush. When the IOMMU does not confirm, the device is blocked until it does, because
    /// it must not reach this user's memory on behalf of the next one. True when all maps are confirmed to be gone.
    pub fn clear(&self) -> bool {
        let removal = self.removal.lock();
        let Ok((machine, domain)) = self.open() else { return !self.state.lock().blocked };
        self.remove_all(&removal, &machine, &domain)
    }

    fn remove_all(&self, _: &MutexGuard<'_, ()>, machine: &System, domain: &Arc<Domain>) -> bool {
        let (ranges, pins): (Vec<_>, PagePins) = {
            let mut s = self.state.lock();
            let maps = core::mem::take(&mut s.maps);
            maps.into_iter().map(|(iova, (len, pin))| (Range { iova, len }, pin)).unzip()
        };
        let gone = ranges.is_empty() || domain.unmap_fixed(machine, &self.pin_owner.device, &ranges, pins).is_ok();
        let mut s = self.state.lock();
        let earlier = core::mem::take(&mut s.unconfirmed);
        let gone = gone && !earlier.into_iter().any(|(iova, len)| domain.is_unconfirmed(Range { iova, len }));
        if !gone {
            s.blocked = true;
            if let Some(member) = &self.member {
                member.group.block(&member.streams);
            }
        }
        gone
    }

    /// Unblocks the device if the previous user's maps are confirmed to be gone. False when it stays blocked.
    fn try_unblock(&self, machine: &System, domain: &Arc<Domain>) -> bool {
        let all_blocked = self.member.as_ref().is_some_and(|m| m.group.is_all_blocked());
        if !self.state.lock().blocked && !all_blocked {
            return true;
        }
        if !domain.retry(machine) {
            return false;
        }
        let mut s = self.state.lock();
        let through = self.member.as_ref().is_none_or(|m| m.group.unblock(&m.streams));
        s.blocked &= !through;
        through
    }

    /// Unblocks a device that an unconfirmed [`clear`](Self::clear) left blocked, if the IOMMU confirms now. False when
    /// the device stays blocked; each [`map`](Self::map) tries again.
    pub fn resume(&self) -> bool {
        self.open().is_ok_and(|(machine, domain)| self.try_unblock(&machine, &domain))
    }

    /// Removes every map, as [`clear`](Self::clear), and refuses further calls.
    pub fn close(&self) {
        let removal = self.removal.lock();
        // Refused before the maps are removed: one that another thread makes afterwards would be nobody's.
        let domain = self.state.lock().domain.take();
        if let Some((machine, domain)) = self.machine.upgrade().zip(domain) {
            self.remove_all(&removal, &machine, &domain);
        }
    }
}

impl Drop for Ioas {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Ioas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.state.lock();
        write!(f, "Ioas({}, {} maps, {} unconfirmed)", self.pin_owner.device, s.maps.len(), s.unconfirmed.len())
    }
}
