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
