//! The state machine.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::{Direction, Kind, SegmentLimits};
use super::active::{Mapping, Mappings};
use super::devices::Devices;
use super::found::Found;
use super::lines::Lines;
use super::pools::Pools;
use super::{Call, Check, CpuMemory, Misuse, Op};
use crate::addr::DeviceAddr;

/// Default limit of tracked objects (mappings, pool items, descriptors) over all devices (the initial number of Linux's
/// checker).
const MAX_TRACKED: usize = 65_536;
/// Limit of tracked unmaps whose flush is not confirmed.
const MAX_QUEUED: usize = 1024;
/// Return value of a failed map call.
const MAPPING_ERROR: DeviceAddr = DeviceAddr(u64::MAX);

/// State of one device.
#[derive(Default)]
pub(super) struct Device {
    mappings: Mappings,
    pools: Pools,
    /// Device addresses in descriptors that the hardware owns.
    owned: BTreeSet<u64>,
    limits: Option<(SegmentLimits, DeviceAddr)>,
    /// Something was not tracked because the limit was reached, so an unknown address is no misuse.
    incomplete: bool,
}

/// Checker of DMA API use.
///
/// It tracks at most 65,536 objects (or the capacity that it was made with) on at most 4096 devices. Objects beyond
/// that are not tracked, and misuses that may be due to this are not reported; [`untracked`](Self::untracked) counts them.
pub struct Checker {
    /// Limit of tracked objects.
    capacity: usize,
    devices: Devices,
    lines: Lines,
    tracked: usize,
    queued: VecDeque<(Arc<str>, DeviceAddr, u64)>,
    untracked: u64,
}

impl Default for Checker {
    fn default() -> Self {
        Self::with_capacity(MAX_TRACKED)
    }
}

impl Checker {
    /// A checker without any state.
    pub fn new() -> Self {
        Self::default()
    }

    /// A checker that tracks at most `capacity` objects.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            devices: Devices::default(),
            lines: Lines::default(),
            tracked: 0,
            queued: VecDeque::new(),
            untracked: 0,
        }
    }

    /// Number of objects that were not tracked because the limit was reached.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    /// Number of tracked objects.
    pub fn tracked(&self) -> usize {
        self.tracked
    }

    /// Processes one operation; returns the misuses that it reveals.
    pub fn feed(&mut self, op: Op) -> Vec<Misuse> {
        match op {
            Op::Map { record, checked } => self.map(&record.call(), checked),
            Op::Unmap(record) => self.unmap(&record.call()),
            Op::Forgotten { device, addr, len } => {
                self.forgotten(&device, addr, len);
                Vec::new()
            }
            Op::Sync { record, to_cpu } => self.sync(&record.call(), to_cpu),
            Op::Unbound { device } => self.end(&device, Check::LeftAtUnbind),
            Op::ProbeFailed { device } => self.end(&device, Check::LeftAfterFailedProbe),
            Op::Queued { backend, addr, len } => {
                if self.queued.len() == MAX_QUEUED {
                    self.queued.pop_front();
                }
                self.queued.push_back((backend, addr, len));
                Vec::new()
            }
            Op::Confirmed { backend, range } => {
                let inside = |at: &DeviceAddr| range.is_none_or(|(first, len)| *at >= first && *at - first < len);
                self.queued.retain(|(b, at, _)| *b != backend || !inside(at));
                Vec::new()
            }
            Op::ErrorChecked { ref device, .. }
            | Op::Segment { ref device, .. }
            | Op::Limits { ref device, .. }
            | Op::Access { ref device, .. }
            | Op::Descriptor { ref device, .. }
            | Op::PoolAlloc { ref device, .. }
            | Op::PoolFree { ref device, .. }
            | Op::PoolDestroyed { ref device, .. }
            | Op::TranslationGone { ref device } => self.other(&op, device),
        }
    }

    /// True when one more object of a device can be tracked; otherwise marks the device as incomplete.
    fn has_capacity(&mut self, name: &Arc<str>) -> bool {
        let full = self.tracked >= self.capacity;
        let Some(device) = self.devices.get_or_new(name) else {
            self.untracked += 1;
            return false;
        };
        device.incomplete |= full;
        self.untracked += u64::from(full);
        !full
    }

    /// A mapping or allocation was made, see [`Op::Map`].
    pub(crate) fn map(&mut self, r: &Call<'_>, checked: bool) -> Vec<Misuse> {
        let mut found = Found::of(r.device);
        if r.addr == MAPPING_ERROR {
            return found.list;
        }
        let memory = match r.memory {
            CpuMemory::Pages | CpuMemory::Registers => None,
            CpuMemory::Stack => Some((Check::StackMemory, "memory of a stack")),
            CpuMemory::Image => Some((Check::ProgramImage, "code or constants of the program")),
            CpuMemory::Virtual => Some((Check::VirtualMemory, "memory that is contiguous in virtual addresses only")),
            CpuMemory::Invalid => Some((Check::InvalidMemory, "memory that is not RAM")),
        };
        if let Some((check, what)) = memory {
            found.add(check, format!("{} of {what} at {}", r.kind.name(), r.phys));
        }
        let clash = |(backend, addr, len): &&(Arc<str>, DeviceAddr, u64)| {
            backend == r.backend && addr.0 < r.addr.0.saturating_add(r.len) && r.addr.0 < addr.0.saturating_add(*len)
        };
        if let Some((_, addr, _)) = self.queued.iter().find(clash) {
            found.add(Check::ReusedBeforeFlush, format!("{} while the unmap of {addr} waits for its flush", r.addr));
        }
        let full = self.tracked >= self.capacity;
        let Some(device) = self.devices.get_or_new(r.device) else {
            self.untracked += 1;
            return found.list;
        };
        if full {
            device.incomplete = true;
            self.untracked += 1;
            return found.list;
        }
        let lines = self.lines.add(r, &mut found);
        self.tracked += 1;
        check_mask(device.limits.as_ref(), r.addr, r.len, &mut found);
        device.mappings.insert(r, checked, lines);
        found.list
    }

    /// A mapping is unmapped, or an allocation freed, see [`Op::Unmap`].
    pub(crate) fn unmap(&mut self, r: &Call<'_>) -> Vec<Misuse> {
        let mut found = Found::of(r.device);
        if r.addr == MAPPING_ERROR {
            found.add(Check::UnmapOfError, format!("{} of the error address", r.kind.name()));
            return found.list;
        }
        let Some(device) = self.devices.get_mut(r.device) else {
            found.add_if(self.untracked == 0, Check::UnmapOfUnmapped, || format!("{} is not mapped", r.addr));
            return found.list;
        };
        let Device { mappings, owned, limits, incomplete, .. } = device;
        let was_mapped = mappings.end(r, |mapping| {
            check_mask(limits.as_ref(), r.addr, mapping.len, &mut found);
            if let Some(at) = owned_in(owned, r.addr, mapping.len) {
                found.add(Check::FreeWhileOwned, format!("the hardware owns a descriptor that points to {at:#x}"));
            }
            if let Some(number) = mapping.lines {
                self.lines.remove(mapping.phys, number);
            }
            compare(mapping, r, &mut found);
        });
        self.tracked -= usize::from(was_mapped);
        found.add_if(!was_mapped && !*incomplete, Check::UnmapOfUnmapped, || format!("{} is not mapped", r.addr));
        found.list
    }

    /// Ends the mappings in a range, of which nobody says any more how each was made.
    fn forgotten(&mut self, name: &Arc<str>, addr: DeviceAddr, len: u64) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let ended = device.mappings.end_within(addr, len, |mapping| {
            mapping.lines.into_iter().for_each(|number| self.lines.remove(mapping.phys, number));
        });
        self.tracked -= ended;
    }

    /// Ownership of a range goes to the CPU or to the device, see [`Op::Sync`].
    pub(crate) fn sync(&self, r: &Call<'_>, to_cpu: bool) -> Vec<Misuse> {
        let mut found = Found::of(r.device);
        let device = self.devices.get(r.device);
        let Some((at, own)) = device.and_then(|d| d.mappings.covering(r)) else {
            let incomplete = device.is_some_and(|d| d.incomplete);
            found.add_if(!incomplete, Check::SyncOfUnmapped, || format!("{} is not mapped", r.addr));
            return found.list;
        };
        let end = r.addr.0.saturating_add(r.len);
        found.add_if(end > at.0.saturating_add(own.len), Check::SyncOutside, || {
            format!("{} bytes at {} of {} at {at}", r.len, r.addr, own.len)
        });
        let mapped = own.direction;
        found.add_if(mapped != Direction::Bidirectional && mapped != r.direction, Check::SyncDirectionDiffers, || {
            format!("{} was mapped {mapped}, is synced {}", r.addr, r.direction)
        });
        let reads_nothing = to_cpu && mapped == Direction::ToDevice && r.direction != Direction::ToDevice;
        found.add_if(reads_nothing, Check::SyncOfReadOnly, || format!("the device cannot write {}", r.addr));
        let writes_nothing = !to_cpu && mapped == Direction::FromDevice && r.direction != Direction::FromDevice;
        found.add_if(writes_nothing, Check::SyncOfWriteOnly, || format!("the device cannot read {}", r.addr));
        let lists = own.kind == Kind::Scatter && r.kind == Kind::Scatter;
        found.add_if(lists && own.count != r.count, Check::SyncCountDiffers, || {
            format!("{} entries of a list of {}", r.count, own.count)
        });
        found.list
    }

    /// Reports and drops the mappings that are left at the end of a binding.
    fn end(&mut self, name: &Arc<str>, check: Check) -> Vec<Misuse> {
        let mut found = Found::of(name);
        let Some(mut device) = self.devices.remove(name) else { return found.list };
        self.tracked -= device.mappings.count() + device.pools.count() + device.owned.len();
        let left = device.mappings.drain();
        if let Some((addr, first)) = left.first() {
            let (kind, len) = (first.kind.name(), first.len);
            found.add(check, format!("{} mappings, first {kind} of {len} bytes at {addr}", left.len()));
        }
        for (_, active) in &left {
            active.lines.into_iter().for_each(|number| self.lines.remove(active.phys, number));
        }
        found.list
    }

    fn other(&mut self, op: &Op, name: &Arc<str>) -> Vec<Misuse> {
        let mut found = Found::of(name);
        let new_thing = matches!(op, Op::PoolAlloc { .. } | Op::Descriptor { owned: true, .. });
        if new_thing && !self.has_capacity(name) {
            return found.list;
        }
        let Some(device) = self.devices.get_or_new(name) else {
            self.untracked += 1;
            return found.list;
        };
        let before = device.pools.count() + device.owned.len();
        match op {
            Op::ErrorChecked { addr, .. } => device.mappings.error_checked(*addr),
            Op::Segment { addr, len, .. } => device.check_segment(*addr, *len, &mut found),
            Op::Limits { segments, mask, .. } => device.limits = Some((*segments, *mask)),
            Op::Access { addr, .. } => {
                found.add_if(device.mappings.was_unmapped(*addr), Check::UseAfterUnmap, || {
                    format!("{addr} was unmapped before")
                });
            }
            Op::Descriptor { addr, owned: true, .. } => {
                device.owned.insert(addr.0);
            }
            Op::Descriptor { addr, owned: false, .. } => {
                device.owned.remove(&addr.0);
            }
            Op::PoolAlloc { pool, addr, .. } => device.pools.alloc(pool, *addr),
            Op::PoolFree { pool, addr, .. } => {
                let known = device.pools.free(pool, *addr) || device.incomplete;
                found.add_if(!known, Check::PoolItemForeign, || format!("{addr} is no item of {pool} in use"));
            }
            Op::PoolDestroyed { pool, .. } => {
                let out = device.pools.destroy(pool);
                found.add_if(out > 0, Check::PoolBusy, || format!("{out} items of {pool} are in use"));
            }
            Op::TranslationGone { .. } => {
                let left = device.mappings.count();
                found.add_if(left > 0, Check::TranslationGone, || format!("{left} mappings are left"));
            }
            _ => {}
        }
        let after = device.pools.count() + device.owned.len();
        self.tracked = self.tracked + after - before;
        found.list
    }
}

/// A device address in the range to which one of the descriptors that the hardware owns points.
fn owned_in(owned: &BTreeSet<u64>, addr: DeviceAddr, len: u64) -> Option<u64> {
    if owned.is_empty() {
        return None;
    }
    owned.range(addr.0..addr.0.saturating_add(len)).next().copied()
}

#[inline]
fn check_mask(limits: Option<&(SegmentLimits, DeviceAddr)>, addr: DeviceAddr, len: u64, found: &mut Found<'_>) {
    let Some((_, mask)) = limits else { return };
    let last = addr.0.saturating_add(len.saturating_sub(1));
    found.add_if(last > mask.0, Check::OutsideMask, || format!("{len} bytes at {addr} above {mask}"));
}

impl Device {
    fn check_segment(&self, addr: DeviceAddr, len: u64, found: &mut Found<'_>) {
        let Some((limits, _)) = self.limits else { return };
        found.add_if(len > limits.max_segment_size, Check::SegmentTooLong, || {
            format!("{len} bytes at {addr}, at most {} are allowed", limits.max_segment_size)
        });
        let boundary = limits.segment_boundary;
        let last = addr.0.saturating_add(len.saturating_sub(1));
        let crosses = boundary != 0 && addr.0 / boundary != last / boundary;
        found.add_if(crosses, Check::SegmentCrossesBoundary, || {
            format!("{len} bytes at {addr} cross a multiple of {boundary:#x}")
        });
    }
}

/// Compares an unmap with its mapping.
fn compare(own: &Mapping, r: &Call<'_>, found: &mut Found<'_>) {
    found.add_if(own.kind != r.kind, Check::KindDiffers, || {
        format!("{} was mapped as {}, is unmapped as {}", r.addr, own.kind.name(), r.kind.name())
    });
    found.add_if(own.len != r.len, Check::SizeDiffers, || {
        format!("{} was mapped with {} bytes, is unmapped with {}", r.addr, own.len, r.len)
    });
    let allocated = matches!(own.kind, Kind::Coherent | Kind::Pool);
    found.add_if(allocated && own.phys != r.phys, Check::MemoryDiffers, || {
        format!("{} is memory at {}, is freed with {}", r.addr, own.phys, r.phys)
    });
    let lists = own.kind == Kind::Scatter && r.kind == Kind::Scatter;
    found.add_if(lists && own.count != r.count, Check::CountDiffers, || {
        format!("{} was mapped with {} entries, is unmapped with {}", r.addr, own.count, r.count)
    });
    found.add_if(own.direction != r.direction, Check::DirectionDiffers, || {
        format!("{} was mapped {}, is unmapped {}", r.addr, own.direction, r.direction)
    });
    let same_backend = Arc::ptr_eq(&own.backend, r.backend) || own.backend == *r.backend;
    found.add_if(!same_backend, Check::BackendDiffers, || {
        format!("{} comes from {}, is freed to {}", r.addr, own.backend, r.backend)
    });
    found.add_if(own.attrs != r.attrs, Check::AttrsDiffer, || {
        format!("{} was mapped with {:?}, is unmapped with {:?}", r.addr, own.attrs, r.attrs)
    });
    found.add_if(!own.checked, Check::ErrorUnchecked, || format!("{} was never checked for an error", r.addr));
}
