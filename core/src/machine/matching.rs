//! Index by which devices and drivers find each other: the names that drivers match and devices list.
//!
//! Each name has a number for as long as somebody has it, and a device remembers the numbers of its own, so that finding its
//! drivers compares no text.

#[cfg(all(test, not(loom)))]
mod tests;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::cmp::Ordering;

use crate::device::{Device, DeviceDesc, MatchNumbers, NodeId};
use crate::driver::{AnyDriver, Match};

/// Name of an entry, from a driver or from a device.
enum Name {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        match self {
            Self::Static(name) => name,
            Self::Shared(name) => name,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Borrow::<str>::borrow(self) == Borrow::<str>::borrow(other)
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        Borrow::<str>::borrow(self).cmp(other.borrow())
    }
}

#[derive(Default)]
struct Entry {
    /// The drivers that match the name, sorted by their own.
    drivers: Vec<Arc<dyn AnyDriver>>,
    /// The text that the devices below share. A device that has this very text has the number of this entry: no other entry
    /// has it, and it stays allocated while the device has it.
    text: Option<Arc<str>>,
    /// The devices that list the name, in order of arrival.
    devices: Vec<NodeId>,
}

/// The names, with the drivers and devices of each.
#[derive(Default)]
pub(super) struct MatchIndex {
    numbers: BTreeMap<Name, u32>,
    entries: Vec<Entry>,
    /// Numbers that nobody has.
    free: Vec<u32>,
}

impl MatchIndex {
    /// Number of the name, which gets one if it has none.
    fn number(&mut self, name: Name) -> u32 {
        let (entries, free) = (&mut self.entries, &mut self.free);
        *self.numbers.entry(name).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                entries.push(Entry::default());
                entries.len() as u32 - 1
            })
        })
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Gives the number of `name` back when nobody has the name.
    fn forget_unused(&mut self, name: &str, number: u32) {
        let entry = &mut self.entries[number as usize];
        if entry.devices.is_empty() {
            entry.text = None;
            if entry.drivers.is_empty() {
                self.numbers.remove(name);
                self.free.push(number);
            }
        }
        if self.numbers.is_empty() {
            *self = Self::default();
        }
    }

    /// Adds a driver. Returns the devices that list a name which it matches, in its order of names, then by arrival; one that
    /// lists several of them more than once.
    pub(super) fn add_driver(&mut self, driver: &Arc<dyn AnyDriver>) -> Vec<NodeId> {
        let mut listed = Vec::new();
        for name in driver.matches().iter().filter_map(Match::name) {
            let number = self.number(match name {
                Cow::Borrowed(name) => Name::Static(name),
                Cow::Owned(name) => Name::Shared(name.into()),
            });
            let entry = &mut self.entries[number as usize];
            if let Err(at) = entry.drivers.binary_search_by_key(&driver.name(), |d| d.name()) {
                entry.drivers.insert(at, Arc::clone(driver));
            }
            listed.extend(&entry.devices);
        }
        listed
    }

    /// Removes a driver.
    pub(super) fn remove_driver(&mut self, driver: &Arc<dyn AnyDriver>) {
        for name in driver.matches().iter().filter_map(Match::name) {
            // A name that the driver gives twice may be forgotten by now.
            let Some(number) = self.find(&name) else { continue };
            self.entries[number as usize].drivers.retain(|d| !Arc::ptr_eq(d, driver));
            self.forget_unused(&name, number);
        }
    }

    /// Adds the device that will be at `node`, and lets it share the texts of its names with those of other devices.
    pub(super) fn add_device(&mut self, node: NodeId, desc: &mut DeviceDesc) -> MatchNumbers {
        let mut list = |text: &mut Arc<str>| {
            let number = self.find(text).unwrap_or_else(|| self.number(Name::Shared(Arc::clone(text))));
            let entry = &mut self.entries[number as usize];
            *text = Arc::clone(entry.text.get_or_insert_with(|| Arc::clone(text)));
            entry.devices.push(node);
            number
        };
        match &mut desc.compatible[..] {
            [only] => MatchNumbers::One(list(only)),
            names => MatchNumbers::Many(names.iter_mut().map(list).collect()),
        }
    }

    /// Removes a device.
    pub(super) fn remove_device(&mut self, device: &Device) {
        for name in &device.desc().compatible {
            // A name that the device lists twice may be forgotten by now.
            let Some(number) = self.find(name) else { continue };
            self.entries[number as usize].devices.retain(|node| *node != device.node());
            self.forget_unused(name, number);
        }
    }

    /// Entry of name `at` of `device`: the one whose number it remembers, or, when it is not a device of this machine any more,
    /// the one by the text.
    fn entry(&self, device: &Device, at: usize, name: &Arc<str>) -> Option<&Entry> {
        let numbered = device.numbers().get(at).and_then(|number| self.entries.get(number as usize));
        let is_its_own = |entry: &&Entry| entry.text.as_ref().is_some_and(|text| Arc::ptr_eq(text, name));
        match numbered.filter(is_its_own) {
            None => Some(&self.entries[self.find(name)? as usize]),
            entry => entry,
        }
    }

    /// Calls `each` with the drivers that match a name which `device` lists, in its order of names, then by their own names;
    /// with none twice.
    #[inline]
    pub(super) fn drivers_of<'i>(&'i self, device: &Device, mut each: impl FnMut(&'i Arc<dyn AnyDriver>)) {
        let names = &device.desc().compatible[..];
        for (at, name) in names.iter().enumerate() {
            let Some(entry) = self.entry(device, at, name) else { continue };
            for driver in &entry.drivers {
                if at == 0 || !self.is_matched_before(device, at, driver) {
                    each(driver);
                }
            }
        }
    }

    /// True when `driver` matches a name of `device` before name `at`.
    fn is_matched_before(&self, device: &Device, at: usize, driver: &Arc<dyn AnyDriver>) -> bool {
        let mut earlier = device.desc().compatible.iter().enumerate().take(at);
        earlier.any(|(at, name)| {
            self.entry(device, at, name).is_some_and(|entry| entry.drivers.iter().any(|d| Arc::ptr_eq(d, driver)))
        })
    }

    /// Number of names, of which each is some driver's or device's, for leak checks.
    #[cfg(all(test, not(loom)))]
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

/// List that allocates nothing while it has at most one element.
pub(super) struct Few<T> {
    pub(super) first: Option<T>,
    rest: Vec<T>,
}

impl<T> Few<T> {
    pub(super) const fn new() -> Self {
        Self { first: None, rest: Vec::new() }
    }

    pub(super) fn push(&mut self, element: T) {
        if self.first.is_none() {
            self.first = Some(element);
        } else {
            self.rest.push(element);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = core::iter::Chain<core::option::IntoIter<T>, alloc::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}
