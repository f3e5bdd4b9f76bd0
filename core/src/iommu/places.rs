//! What is at device addresses, and what was there last.

use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::addr::DeviceAddr;

/// Number of ended ranges that are remembered, at least.
pub(crate) const REMEMBERED: usize = 64;

/// What is known of a range of device addresses.
pub(crate) trait Ranged {
    /// Length in bytes.
    fn len(&self) -> u64;
}

/// A range at its first address. Device addresses recur, so one that has ended keeps its place, and is remembered there.
#[derive(Debug)]
struct Place<T> {
    value: T,
    /// When it ended: its number among the ends. 0 while it lasts.
    ended: u64,
}

/// Ranges with their first addresses.
type List<T> = Vec<(DeviceAddr, T)>;

/// Ranges of device addresses by their first one, of which no two are the same at a time, and the latest that have ended: at least
/// [`REMEMBERED`], if there were so many.
#[derive(Debug)]
pub(crate) struct Places<T> {
    by_address: BTreeMap<u64, Place<T>>,
    count: usize,
    ends: u64,
    /// Ended ranges whose place was taken by another one that does not stand for them, oldest first.
    replaced: VecDeque<(DeviceAddr, Place<T>)>,
    /// Number of an end. It and those before it are not remembered, even where they are still here.
    forgotten: u64,
    /// Length of the longest range so far, which bounds searches.
    longest: u64,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { by_address: BTreeMap::new(), count: 0, ends: 0, replaced: VecDeque::new(), forgotten: 0, longest: 0 }
    }
}

impl<T: Ranged> Places<T> {
    /// Number of ranges that last.
    #[cfg(all(test, not(loom)))]
    fn count(&self) -> usize {
        self.count
    }

    /// Begins a range of `len` bytes at `at`, made by `new`, or of the one that has ended there by `again`. That returns false, and changes
    /// nothing, when the new one does not stand for the old one, which is to be remembered beside it. False, and nothing has changed,
    /// while a range lasts that begins there.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        at: DeviceAddr,
        len: u64,
        new: impl FnOnce() -> T,
        again: impl FnOnce(&mut T) -> bool,
    ) -> bool {
        match self.by_address.entry(at.0) {
            Entry::Vacant(free) => {
                free.insert(Place { value: new(), ended: 0 });
            }
            Entry::Occupied(place) => {
                let place = place.into_mut();
                if place.ended == 0 {
                    return false;
                }
                if again(&mut place.value) {
                    place.ended = 0;
                } else {
                    let old = core::mem::replace(place, Place { value: new(), ended: 0 });
                    self.remember(at, old);
                }
            }
        }
        self.longest = self.longest.max(len);
        self.count += 1;
        true
    }

    /// Exchanges the range that begins at `at` with `value`.
    pub(crate) fn swap(&mut self, at: DeviceAddr, value: &mut T) {
        self.longest = self.longest.max(value.len());
        if let Some(own) = self.get_mut(at) {
            core::mem::swap(own, value);
        }
    }

    /// The range that begins at `at`.
    pub(crate) fn get_mut(&mut self, at: DeviceAddr) -> Option<&mut T> {
        self.by_address.get_mut(&at.0).filter(|place| place.ended == 0).map(|place| &mut place.value)
    }

    /// Shows the range that begins at `at` and ends it. False when there is none.
    #[inline]
    pub(crate) fn end(&mut self, at: DeviceAddr, show: impl FnOnce(&T)) -> bool {
        let Some(place) = self.by_address.get_mut(&at.0).filter(|place| place.ended == 0) else { return false };
        show(&place.value);
        self.ends += 1;
        self.count -= 1;
        place.ended = self.ends;
        if self.by_address.len() > 2 * (self.count + REMEMBERED) {
            self.forget_oldest();
        }
        true
    }

    /// First addresses of the ranges that begin inside of `bytes`.
    pub(crate) fn within(&self, bytes: core::ops::Range<u64>) -> Vec<DeviceAddr> {
        let inside = self.by_address.range(bytes).filter(|(_, place)| place.ended == 0);
        inside.map(|(at, _)| DeviceAddr(*at)).collect()
    }

    /// Remembers a range at `at` that has ended without a place here.
    #[cold]
    pub(crate) fn add_ended(&mut self, at: DeviceAddr, value: T) {
        self.longest = self.longest.max(value.len());
        self.ends += 1;
        let ended = self.ends;
        self.remember(at, Place { value, ended });
    }

    #[cold]
    fn remember(&mut self, at: DeviceAddr, place: Place<T>) {
        if self.replaced.len() == REMEMBERED
            && let Some((_, oldest)) = self.replaced.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest.ended);
        }
        self.replaced.push_back((at, place));
    }

    /// Forgets all but the latest that have ended: so seldom that it costs an end little.
    #[cold]
    fn forget_oldest(&mut self) {
        let mut ends: Vec<u64> =
            self.by_address.values().map(|place| place.ended).filter(|ended| *ended != 0).collect();
        ends.sort_unstable();
        if let Some(newest) = ends.len().checked_sub(REMEMBERED + 1) {
            self.forgotten = self.forgotten.max(ends[newest]);
        }
        self.by_address.retain(|_, place| place.ended == 0 || place.ended > self.forgotten);
        self.replaced.retain(|(_, place)| place.ended > self.forgotten);
    }

    fn near(&self, addr: DeviceAddr) -> impl Iterator<Item = (DeviceAddr, &Place<T>)> {
        let from = addr.0.saturating_sub(self.longest);
        let near = self.by_address.range(from..=addr.0).map(|(first, place)| (DeviceAddr(*first), place));
        near.filter(move |(first, place)| covers(*first, &place.value, addr))
    }

    /// The ranges that cover `addr`, with their first addresses.
    pub(crate) fn at(&self, addr: DeviceAddr) -> impl Iterator<Item = (DeviceAddr, &T)> {
        self.near(addr).filter(|(_, place)| place.ended == 0).map(|(first, place)| (first, &place.value))
    }

    /// Of the ended ranges that covered `addr` and are meant, the one that ended last.
    pub(crate) fn last_at(&self, addr: DeviceAddr, is_meant: impl Fn(&T) -> bool) -> Option<(DeviceAddr, &T)> {
        let replaced = self.replaced.iter().map(|(first, place)| (*first, place));
        let replaced = replaced.filter(|(first, place)| covers(*first, &place.value, addr));
        let ended = self.near(addr).chain(replaced).filter(|(_, place)| place.ended > self.forgotten);
        let meant = ended.filter(|(_, place)| is_meant(&place.value));
        meant.max_by_key(|(_, place)| place.ended).map(|(first, place)| (first, &place.value))
    }

    /// Removes everything. Returns the ranges that last, and those that have ended, in the order of their ends.
    pub(crate) fn take(&mut self) -> (List<T>, List<T>) {
        let Self { by_address, replaced, forgotten, .. } = core::mem::take(self);
        let places = by_address.into_iter().map(|(at, place)| (DeviceAddr(at), place));
        let (live, mut ended): (Vec<_>, Vec<_>) = places.chain(replaced).partition(|(_, place)| place.ended == 0);
        ended.retain(|(_, place)| place.ended > forgotten);
        ended.sort_unstable_by_key(|(_, place)| place.ended);
        let values =
            |list: Vec<(DeviceAddr, Place<T>)>| list.into_iter().map(|(at, place)| (at, place.value)).collect();
        (values(live), values(ended))
    }
}

fn covers<T: Ranged>(first: DeviceAddr, range: &T, addr: DeviceAddr) -> bool {
    addr >= first && addr - first < range.len()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Length, and a name.
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Named(u64, u32);

    impl Ranged for Named {
        fn len(&self) -> u64 {
            self.0
        }
    }

    impl Named {
        /// It covers as much, and has a name of the same kind.
        fn stands_for(&self, old: &Self) -> bool {
            self.0 >= old.0 && self.1 % 2 == old.1 % 2
        }
    }

    fn begin(places: &mut Places<Named>, at: u64, value: Named) -> bool {
        let again = |old: &mut Named| {
            let stands_for_it = value.stands_for(old);
            *old = if stands_for_it { value } else { *old };
            stands_for_it
        };
        places.begin(DeviceAddr(at), value.0, || value, again)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }) })]

        #[test]
        fn they_are_what_two_plain_lists_are(ops in proptest::collection::vec((any::<bool>(), 0_u64..6, 1_u64..5), 0..60)) {
            let mut places = Places::default();
            let (mut live, mut ended) = (Vec::<(u64, Named)>::new(), Vec::<(u64, Named)>::new());
            for (n, (is_new, at, len)) in ops.into_iter().enumerate() {
                let value = Named(len, n as u32);
                let known = live.iter().position(|(own, _)| *own == at);
                if is_new {
                    prop_assert_eq!(begin(&mut places, at, value), known.is_none());
                    if known.is_none() {
                        live.push((at, value));
                        // What was there last is not remembered if the new one stands for it.
                        let last = ended.iter().rposition(|(other, _)| *other == at);
                        last.filter(|n| value.stands_for(&ended[*n].1)).map(|n| ended.remove(n));
                    }
                } else {
                    let mut shown = None;
                    let did = places.end(DeviceAddr(at), |value| shown = Some(*value));
                    prop_assert_eq!((did, shown), (known.is_some(), known.map(|n| live[n].1)));
                    ended.extend(known.map(|n| live.remove(n)));
                }
                prop_assert_eq!(places.count(), live.len());
                for addr in 0..12 {
                    let covers = |(at, value): &&(u64, Named)| (*at..at + value.0).contains(&addr);
                    let mut now: Vec<_> = places.at(DeviceAddr(addr)).map(|(at, value)| (at.0, *value)).collect();
                    now.sort_by_key(|(_, value)| value.1);
                    let mut wanted: Vec<_> = live.iter().filter(covers).copied().collect();
                    wanted.sort_by_key(|(_, value)| value.1);
                    prop_assert_eq!(now, wanted);
                    for odd in [None, Some(0), Some(1)] {
                        let meant = |value: &Named| odd.is_none_or(|odd| value.1 % 2 == odd);
                        let last = places.last_at(DeviceAddr(addr), meant).map(|(at, value)| (at.0, *value));
                        let wanted = ended.iter().filter(covers).rfind(|(_, value)| meant(value)).copied();
                        prop_assert_eq!(last, wanted, "at {}", addr);
                    }
                }
            }
            let (mut left, past) = places.take();
            left.sort_by_key(|(_, value)| value.1);
            prop_assert_eq!(left, live.iter().map(|(at, value)| (DeviceAddr(*at), *value)).collect::<Vec<_>>());
            prop_assert!(past.iter().map(|(_, value)| ended.iter().position(|(_, own)| own == value)).is_sorted());
        }
    }

    #[test]
    fn the_latest_are_remembered_and_places_stay_few() {
        let (live, all) = if cfg!(miri) { (10, 200) } else { (300, 20_000) };
        let mut places = Places::default();
        (0..live).for_each(|at| assert!(begin(&mut places, at, Named(1, 0))));
        for at in live..all {
            assert!(begin(&mut places, at, Named(1, 0)) && places.end(DeviceAddr(at), |_| ()));
            assert!(places.by_address.len() <= 2 * (live as usize + REMEMBERED), "{} at {at}", places.by_address.len());
            let mut latest = (at + 1).saturating_sub(REMEMBERED as u64).max(live)..=at;
            assert!(latest.all(|at| places.last_at(DeviceAddr(at), |_| true).is_some()), "at {at}");
        }
        assert_eq!(places.count() as u64, live);
        for len in (1..200).rev() {
            assert!(begin(&mut places, 1 << 20, Named(len, 0)) && places.end(DeviceAddr(1 << 20), |_| ()));
        }
        assert_eq!(places.replaced.len(), REMEMBERED);
    }
}
