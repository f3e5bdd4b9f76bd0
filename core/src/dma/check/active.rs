//! The current mappings of one device, and its latest unmapped ones.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::{Attrs, Direction, Kind};
use super::Call;
use super::lines::Number;
use crate::addr::{DeviceAddr, PhysAddr};
use crate::iommu::{Places, Ranged};

/// A mapping of a device: what of its parameters is compared later.
pub(super) struct Mapping {
    pub(super) backend: Arc<str>,
    pub(super) len: u64,
    pub(super) phys: PhysAddr,
    /// Number of its cache lines, if they are tracked.
    pub(super) lines: Option<Number>,
    pub(super) count: u32,
    pub(super) kind: Kind,
    pub(super) direction: Direction,
    pub(super) attrs: Attrs,
    /// The caller has checked the result for an error.
    pub(super) checked: bool,
}

impl Mapping {
    pub(super) fn of(call: &Call<'_>, checked: bool, lines: Option<Number>) -> Self {
        let Call { backend, kind, len, phys, direction, count, attrs, .. } = *call;
        Self { backend: Arc::clone(backend), len, phys, lines, count, kind, direction, attrs, checked }
    }

    /// Becomes that of `call`, if this has no fewer bytes.
    fn replace(&mut self, call: &Call<'_>, checked: bool, lines: Option<Number>) -> bool {
        if call.len < self.len {
            return false;
        }
        if !Arc::ptr_eq(&self.backend, call.backend) {
            self.backend = Arc::clone(call.backend);
        }
        let Call { kind, len, phys, direction, count, attrs, .. } = *call;
        (self.len, self.phys, self.lines, self.count) = (len, phys, lines, count);
        (self.kind, self.direction, self.attrs, self.checked) = (kind, direction, attrs, checked);
        true
    }
}

impl Ranged for Mapping {
    fn len(&self) -> u64 {
        self.len
    }
}

/// Mappings of one device; see the module.
#[derive(Default)]
pub(super) struct Mappings {
    places: Places<Mapping>,
    /// Further mappings at first addresses that have one: the same memory may be mapped again there.
    others: BTreeMap<u64, Vec<Mapping>>,
    /// Length of the longest of these so far, which bounds searches.
    longest_other: u64,
    count: usize,
}

impl Mappings {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, call: &Call<'_>, checked: bool, lines: Option<Number>) {
        self.count += 1;
        let new = || Mapping::of(call, checked, lines);
        if !self.places.begin(call.addr, call.len, new, |mapping| mapping.replace(call, checked, lines)) {
            self.longest_other = self.longest_other.max(call.len);
            self.others.entry(call.addr.0).or_default().push(new());
        }
    }

    /// Shows the mapping that an unmap refers to, and ends it: of those at its address the most similar one, of several the newest.
    /// False when there is none.
    pub(super) fn end(&mut self, unmap: &Call<'_>, show: impl FnOnce(&Mapping)) -> bool {
        let ended =
            if self.others.is_empty() { self.places.end(unmap.addr, show) } else { self.end_of_several(unmap, show) };
        self.count -= usize::from(ended);
        ended
    }

    #[cold]
    fn end_of_several(&mut self, unmap: &Call<'_>, show: impl FnOnce(&Mapping)) -> bool {
        let Entry::Occupied(mut others) = self.others.entry(unmap.addr.0) else {
            return self.places.end(unmap.addr, show);
        };
        let list = others.get_mut();
        let best = (0..list.len()).max_by_key(|i| similarity(&list[*i], unmap)).unwrap_or(0);
        let first = self.places.get_mut(unmap.addr);
        let first = first.is_some_and(|first| similarity(first, unmap) > similarity(&list[best], unmap));
        let mut one = list.remove(if first { 0 } else { best });
        if first {
            self.places.swap(unmap.addr, &mut one);
        }
        if list.is_empty() {
            others.remove();
        }
        show(&one);
        self.places.add_ended(unmap.addr, one);
        true
    }

    /// Shows the mappings whose first address is one of `len` bytes at `addr`, and ends them. Returns their number.
    pub(super) fn end_within(&mut self, addr: DeviceAddr, len: u64, mut show: impl FnMut(&Mapping)) -> usize {
        let inside = addr.0..addr.0.saturating_add(len);
        let before = self.count;
        for (at, list) in self.others.extract_if(inside.clone(), |_, _| true) {
            self.count -= list.len();
            for one in list {
                show(&one);
                self.places.add_ended(DeviceAddr(at), one);
            }
        }
        for at in self.places.within(inside) {
            self.count -= usize::from(self.places.end(at, &mut show));
        }
        before - self.count
    }

    /// The mappings that cover `addr`, with their first addresses.
    fn all_at(&self, addr: DeviceAddr) -> impl Iterator<Item = (DeviceAddr, &Mapping)> {
        let near = self.others.range(addr.0.saturating_sub(self.longest_other)..=addr.0);
        let others = near.flat_map(|(first, list)| list.iter().map(|one| (DeviceAddr(*first), one)));
        self.places.at(addr).chain(others.filter(move |(first, one)| addr - *first < one.len))
    }

    /// The mapping that covers the address of `like`, with its first address; of several the one most similar.
    pub(super) fn covering(&self, like: &Call<'_>) -> Option<(DeviceAddr, &Mapping)> {
        self.all_at(like.addr).max_by_key(|(_, mapping)| similarity(mapping, like))
    }

    /// Marks the results at `addr` as checked for errors.
    pub(super) fn error_checked(&mut self, addr: DeviceAddr) {
        let others = self.others.get_mut(&addr.0).into_iter().flatten();
        self.places.get_mut(addr).into_iter().chain(others).for_each(|mapping| mapping.checked = true);
    }

    /// True when `addr` was mapped and is not any more.
    pub(super) fn was_unmapped(&self, addr: DeviceAddr) -> bool {
        self.all_at(addr).next().is_none() && self.places.last_at(addr, |_| true).is_some()
    }

    /// Removes and returns all mappings, with their first addresses.
    pub(super) fn drain(&mut self) -> Vec<(DeviceAddr, Mapping)> {
        let Self { mut places, others, .. } = core::mem::take(self);
        let others = others.into_iter().flat_map(|(at, list)| list.into_iter().map(move |one| (DeviceAddr(at), one)));
        let mut all = places.take().0;
        all.extend(others);
        all.sort_by_key(|(at, _)| *at);
        all
    }
}

/// Number of parameters in which a call agrees with a mapping.
fn similarity(a: &Mapping, b: &Call<'_>) -> u32 {
    let same = [a.kind == b.kind, a.len == b.len, a.direction == b.direction, a.phys == b.phys, a.count == b.count];
    same.into_iter().map(u32::from).sum()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::dma::check::CpuMemory;
    use proptest::prelude::*;

    /// A call for `len` bytes at `addr`; nothing but the length tells mappings of one address apart.
    fn with_call<R>(addr: u64, len: u64, look: impl FnOnce(&Call<'_>) -> R) -> R {
        let (device, backend) = (Arc::from("device"), Arc::from("backend"));
        look(&Call {
            device: &device,
            backend: &backend,
            kind: Kind::Single,
            addr: DeviceAddr(addr),
            len,
            phys: PhysAddr(0),
            memory: CpuMemory::Pages,
            direction: Direction::ToDevice,
            count: 1,
            attrs: Attrs::empty(),
        })
    }

    #[derive(Clone, Debug)]
    enum Op {
        Map(u64, u64),
        /// The n-th mapping.
        Unmap(usize),
        /// One that there is perhaps not.
        UnmapAt(u64, u64),
        /// All that begin in a range.
        Forget(u64, u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        let at = || (0_u64..6, 1_u64..5);
        prop_oneof![
            4 => at().prop_map(|(addr, len)| Op::Map(addr, len)),
            4 => any::<usize>().prop_map(Op::Unmap),
            1 => at().prop_map(|(addr, len)| Op::UnmapAt(addr, len)),
            1 => at().prop_map(|(addr, len)| Op::Forget(addr, len)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }) })]

        #[test]
        fn they_are_what_two_plain_lists_are(ops in proptest::collection::vec(op(), 0..40)) {
            let mut mappings = Mappings::default();
            let (mut live, mut ended) = (Vec::new(), Vec::new());
            let covers = |list: &[(u64, u64)], at: u64| list.iter().any(|(addr, len)| (*addr..addr + len).contains(&at));
            for op in ops {
                match op {
                    Op::Map(addr, len) => {
                        with_call(addr, len, |call| mappings.insert(call, true, None));
                        live.push((addr, len));
                    }
                    Op::Unmap(n) if !live.is_empty() => {
                        let one = live.remove(n % live.len());
                        let mut shown = None;
                        prop_assert!(with_call(one.0, one.1, |call| mappings.end(call, |mapping| shown = Some(mapping.len))));
                        prop_assert_eq!(shown, Some(one.1), "the one that is most similar");
                        ended.push(one);
                    }
                    Op::UnmapAt(addr, len) if live.iter().all(|(at, _)| *at != addr) => {
                        let known = with_call(addr, len, |call| mappings.end(call, |_| ()));
                        prop_assert!(!known);
                    }
                    Op::Forget(addr, len) => {
                        let gone: Vec<_> = live.extract_if(.., |(at, _)| (addr..addr + len).contains(at)).collect();
                        prop_assert_eq!(mappings.end_within(DeviceAddr(addr), len, |_| ()), gone.len());
                        ended.extend(gone);
                    }
                    Op::Unmap(_) | Op::UnmapAt(..) => {}
                }
                prop_assert_eq!(mappings.count(), live.len());
                for at in 0..12 {
                    prop_assert_eq!(mappings.was_unmapped(DeviceAddr(at)), !covers(&live, at) && covers(&ended, at), "at {}", at);
                    prop_assert_eq!(with_call(at, 1, |call| mappings.covering(call).is_some()), covers(&live, at), "at {}", at);
                }
            }
            let mut left: Vec<_> = mappings.drain().into_iter().map(|(addr, mapping)| (addr.0, mapping.len)).collect();
            left.sort_unstable();
            live.sort_unstable();
            prop_assert_eq!(left, live);
            prop_assert!((0..12).all(|at| !mappings.was_unmapped(DeviceAddr(at))), "all is forgotten");
        }
    }
}
