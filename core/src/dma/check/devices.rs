//! State of each device, by its name.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::state::Device;

/// Limit of tracked devices.
const MAX_DEVICES: usize = 4096;

/// Devices by name; the one that was looked for last is found without a search.
#[derive(Default)]
pub(super) struct Devices {
    numbers: BTreeMap<Arc<str>, usize>,
    /// By number. Those of `free` are as new.
    states: Vec<Device>,
    free: Vec<usize>,
    recent: Option<(Arc<str>, usize)>,
}

impl Devices {
    fn number(&self, name: &Arc<str>) -> Option<usize> {
        match &self.recent {
            Some((recent, number)) if Arc::ptr_eq(recent, name) => Some(*number),
            _ => self.numbers.get(name).copied(),
        }
    }

    pub(super) fn get(&self, name: &Arc<str>) -> Option<&Device> {
        self.states.get(self.number(name)?)
    }

    pub(super) fn get_mut(&mut self, name: &Arc<str>) -> Option<&mut Device> {
        let number = self.number(name)?;
        self.states.get_mut(number)
    }

    /// The state of `name`, made if it is new and the limit of devices is not reached.
    pub(super) fn get_or_new(&mut self, name: &Arc<str>) -> Option<&mut Device> {
        let number = match self.number(name) {
            Some(number) => number,
            None if self.numbers.len() >= MAX_DEVICES => return None,
            None => self.add(name),
        };
        if self.recent.as_ref().is_none_or(|(recent, _)| !Arc::ptr_eq(recent, name)) {
            self.recent = Some((Arc::clone(name), number));
        }
        self.states.get_mut(number)
    }

    #[cold]
    fn add(&mut self, name: &Arc<str>) -> usize {
        let number = self.free.pop().unwrap_or_else(|| {
            self.states.push(Device::default());
            self.states.len() - 1
        });
        self.numbers.insert(Arc::clone(name), number);
        number
    }

    pub(super) fn remove(&mut self, name: &Arc<str>) -> Option<Device> {
        let number = self.numbers.remove(name)?;
        self.recent = None;
        self.free.push(number);
        self.states.get_mut(number).map(core::mem::take)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::format;

    use proptest::prelude::*;

    use super::*;

    const NAMES: usize = 4;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Beside a plain set of names: each has a number of its own, and one that has gone has none, whichever was looked for last.
        #[test]
        fn each_device_has_a_state_of_its_own(steps in prop::collection::vec((0..3_u8, 0..NAMES), 1..60)) {
            let names: [Arc<str>; NAMES] = core::array::from_fn(|n| format!("{n}.lab").into());
            let (mut devices, mut live) = (Devices::default(), BTreeSet::new());
            for (step, n) in steps {
                match step {
                    0 => {
                        prop_assert!(devices.get_or_new(&names[n]).is_some());
                        live.insert(n);
                    }
                    1 => prop_assert_eq!(devices.remove(&names[n]).is_some(), live.remove(&n)),
                    _ => prop_assert_eq!(devices.get_mut(&names[n]).is_some(), live.contains(&n)),
                }
                let numbers: Vec<_> = names.iter().map(|name| devices.number(name)).collect();
                let distinct: BTreeSet<_> = numbers.iter().flatten().collect();
                prop_assert_eq!(distinct.len(), live.len());
                prop_assert!((0..NAMES).all(|n| numbers[n].is_some() == live.contains(&n)));
            }
        }
    }
}
