//! The state machine.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::{Attrs, DMA_ALIGN, Direction, Kind, SegmentLimits};
use super::active::{ActiveMapping, Mappings};
use super::pools::Pools;
use super::{Check, CpuMemory, Misuse, Op, Record};
use crate::addr::DeviceAddr;

/// Default limit of tracked objects (mappings, pool items, descriptors) over all devices (the initial number of Linux's
/// checker).
const MAX_TRACKED: usize = 65_536;
/// Limit of tracked devices.
const MAX_DEVICES: usize = 4096;
/// Limit of tracked unmaps whose flush is not confirmed.
const MAX_QUEUED: usize = 1024;
/// Limit of mappings of one cache line (`kernel/dma/debug.c`, `ACTIVE_CACHELINE_MAX_OVERLAP`).
const MAX_OVERLAPS: usize = 7;
/// Return value of a failed map call.
const MAPPING_ERROR: DeviceAddr = DeviceAddr(u64::MAX);

/// State of one device.
#[derive(Default)]
struct Device {
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
    devices: BTreeMap<Arc<str>, Device>,
    /// Cache lines that devices may write: (first byte, number) to end, both physical.
    lines: BTreeMap<(u64, u64), u64>,
    longest: u64,
    next: u64,
    tracked: usize,
    queued: VecDeque<(Arc<str>, DeviceAddr, u64)>,
    overlaps_reported: bool,
    untracked: u64,
}

impl Default for Checker {
    fn default() -> Self {
        Self::with_capacity(MAX_TRACKED)
    }
}

/// Misuses found by one operation.
struct Found<'a> {
    device: &'a Arc<str>,
    list: Vec<Misuse>,
}

impl Found<'_> {
    fn add(&mut self, check: Check, detail: String) {
        self.list.push(Misuse { check, device: Arc::clone(self.device), detail });
    }

    fn add_if(&mut self, wrong: bool, check: Check, detail: impl FnOnce() -> String) {
        if wrong {
            self.add(check, detail());
        }
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
            devices: BTreeMap::new(),
            lines: BTreeMap::new(),
            longest: 0,
            next: 0,
            tracked: 0,
            queued: VecDeque::new(),
            overlaps_reported: false,
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
    pub fn feed(&mut self, op: &Op) -> Vec<Misuse> {
        let device = match op {
            Op::Map { record, .. } | Op::Unmap(record) | Op::Sync { record, .. } => &record.device,
            Op::ErrorChecked { device, .. }
            | Op::Segment { device, .. }
            | Op::Limits { device, .. }
            | Op::Access { device, .. }
            | Op::Descriptor { device, .. }
            | Op::PoolAlloc { device, .. }
            | Op::PoolFree { device, .. }
            | Op::PoolDestroyed { device, .. }
            | Op::TranslationGone { device }
            | Op::Unbound { device }
            | Op::ProbeFailed { device } => device,
            Op::Queued { backend, addr, len } => {
                if self.queued.len() == MAX_QUEUED {
                    self.queued.pop_front();
                }
                self.queued.push_back((Arc::clone(backend), *addr, *len));
                return Vec::new();
            }
            Op::Confirmed { backend, range } => {
                let inside = |at: &DeviceAddr| range.is_none_or(|(first, len)| *at >= first && *at - first < len);
                self.queued.retain(|(b, at, _)| b != backend || !inside(at));
                return Vec::new();
            }
        };
        let mut found = Found { device, list: Vec::new() };
        match op {
            Op::Map { record, checked } => self.map(record, *checked, &mut found),
            Op::Unmap(record) => self.unmap(record, &mut found),
            Op::Sync { record, to_cpu } => self.sync(record, *to_cpu, &mut found),
            Op::Unbound { .. } => self.end(Check::LeftAtUnbind, &mut found),
            Op::ProbeFailed { .. } => self.end(Check::LeftAfterFailedProbe, &mut found),
            _ => self.other(op, &mut found),
        }
        found.list
    }

    /// State of a device, made if it is new and the limit of devices is not reached.
    fn device(&mut self, name: &Arc<str>) -> Option<&mut Device> {
        if self.devices.len() >= MAX_DEVICES && !self.devices.contains_key(name) {
            self.untracked += 1;
            return None;
        }
        Some(self.devices.entry(Arc::clone(name)).or_default())
    }

    /// True when one more object of a device can be tracked; otherwise marks the device as incomplete.
    fn has_capacity(&mut self, name: &Arc<str>) -> bool {
        let full = self.tracked >= self.capacity;
        let Some(device) = self.device(name) else { return false };
        device.incomplete |= full;
        self.untracked += u64::from(full);
        !full
    }

    fn map(&mut self, record: &Record, checked: bool, found: &mut Found<'_>) {
        let r = record;
        if r.addr == MAPPING_ERROR {
            return;
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
            *backend == r.backend && addr.0 < r.addr.0.saturating_add(r.len) && r.addr.0 < addr.0.saturating_add(*len)
        };
        if let Some((_, addr, _)) = self.queued.iter().find(clash) {
            found.add(Check::ReusedBeforeFlush, format!("{} while the unmap of {addr} waits for its flush", r.addr));
        }
        if !self.has_capacity(&r.device) {
            return;
        }
        let lines = self.track_lines(r, found);
        self.tracked += 1;
        let Some(device) = self.devices.get_mut(&r.device) else { return };
        device.check_mask(r, found);
        device.mappings.insert(ActiveMapping { record: r.clone(), checked, lines });
    }

    /// Tracks the cache lines that the device may write, and reports overlaps.
    fn track_lines(&mut self, r: &Record, found: &mut Found<'_>) -> Option<(u64, u64)> {
        if r.direction == Direction::ToDevice || r.memory == CpuMemory::Registers || r.len == 0 {
            return None;
        }
        let first = r.phys.0 & !(DMA_ALIGN - 1);
        let end = r.phys.0.saturating_add(r.len).checked_next_multiple_of(DMA_ALIGN).unwrap_or(u64::MAX);
        let from = (first.saturating_sub(self.longest), 0);
        let overlaps = self.lines.range(from..(end, 0)).filter(|(_, other_end)| **other_end > first).count();
        let unsynced = r.attrs.contains(Attrs::SKIP_CPU_SYNC);
        found.add_if(overlaps > 0 && !unsynced, Check::LinesOverlap, || {
            format!("cache lines at {} are in {overlaps} more mappings", r.phys)
        });
        if overlaps > MAX_OVERLAPS && !self.overlaps_reported {
            self.overlaps_reported = true;
            found.add(Check::TooManyOverlaps, format!("cache lines at {} are in {overlaps} more mappings", r.phys));
        }
        self.next += 1;
        self.longest = self.longest.max(end - first);
        self.lines.insert((first, self.next), end);
        Some((first, self.next))
    }

    fn unmap(&mut self, r: &Record, found: &mut Found<'_>) {
        if r.addr == MAPPING_ERROR {
            found.add(Check::UnmapOfError, format!("{} of the error address", r.kind.name()));
            return;
        }
        let Some(device) = self.devices.get_mut(&r.device) else {
            found.add_if(self.untracked == 0, Check::UnmapOfUnmapped, || format!("{} is not mapped", r.addr));
            return;
        };
        let Some(active) = device.mappings.take(r) else {
            found.add_if(!device.incomplete, Check::UnmapOfUnmapped, || format!("{} is not mapped", r.addr));
            return;
        };
        device.check_mask(&active.record, found);
        let owned = device.owned.range(r.addr.0..r.addr.0.saturating_add(active.record.len)).next().copied();
        if let Some(at) = owned {
            found.add(Check::FreeWhileOwned, format!("the hardware owns a descriptor that points to {at:#x}"));
        }
        self.tracked -= 1;
        if let Some(key) = active.lines {
            self.lines.remove(&key);
        }
        compare(&active, r, found);
    }

    fn sync(&mut self, r: &Record, to_cpu: bool, found: &mut Found<'_>) {
        let device = self.devices.get(&r.device);
        let Some(active) = device.and_then(|d| d.mappings.covering(r.addr, r)) else {
            let incomplete = device.is_some_and(|d| d.incomplete);
            found.add_if(!incomplete, Check::SyncOfUnmapped, || format!("{} is not mapped", r.addr));
            return;
        };
        let own = &active.record;
        let end = r.addr.0.saturating_add(r.len);
        found.add_if(end > own.addr.0.saturating_add(own.len), Check::SyncOutside, || {
            format!("{} bytes at {} of {} at {}", r.len, r.addr, own.len, own.addr)
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
    }

    /// Reports and drops the mappings that are left at the end of a binding.
    fn end(&mut self, check: Check, found: &mut Found<'_>) {
        let Some(mut device) = self.devices.remove(found.device) else { return };
        self.tracked -= device.mappings.count() + device.pools.count() + device.owned.len();
        let left = device.mappings.drain();
        if let Some(first) = left.first() {
            let r = &first.record;
            found.add(
                check,
                format!("{} mappings, first {} of {} bytes at {}", left.len(), r.kind.name(), r.len, r.addr),
            );
        }
        for key in left.iter().filter_map(|l| l.lines) {
            self.lines.remove(&key);
        }
        if self.lines.is_empty() {
            self.longest = 0;
        }
    }

    fn other(&mut self, op: &Op, found: &mut Found<'_>) {
        let name = found.device;
        let new_thing = matches!(op, Op::PoolAlloc { .. } | Op::Descriptor { owned: true, .. });
        if new_thing && !self.has_capacity(name) {
            return;
        }
        let Some(device) = self.device(name) else { return };
        let before = device.pools.count() + device.owned.len();
        match op {
            Op::ErrorChecked { addr, .. } => device.mappings.error_checked(*addr),
            Op::Segment { addr, len, .. } => device.check_segment(*addr, *len, found),
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
    }
}

impl Device {
    fn check_mask(&self, r: &Record, found: &mut Found<'_>) {
        let Some((_, mask)) = self.limits else { return };
        let last = r.addr.0.saturating_add(r.len.saturating_sub(1));
        found.add_if(last > mask.0, Check::OutsideMask, || format!("{} bytes at {} above {mask}", r.len, r.addr));
    }

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
fn compare(active: &ActiveMapping, r: &Record, found: &mut Found<'_>) {
    let own = &active.record;
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
    found.add_if(own.backend != r.backend, Check::BackendDiffers, || {
        format!("{} comes from {}, is freed to {}", r.addr, own.backend, r.backend)
    });
    found.add_if(own.attrs != r.attrs, Check::AttrsDiffer, || {
        format!("{} was mapped with {:?}, is unmapped with {:?}", r.addr, own.attrs, r.attrs)
    });
    found.add_if(!active.checked, Check::ErrorUnchecked, || format!("{} was never checked for an error", r.addr));
}
