//! Lines of drivers about their devices: they take them, speak of them, let them go.

use super::super::{End, Id, Mark, Model};
use crate::event::Turn;

/// The time in which a driver that leaves says so, in nanoseconds.
const LEAVING: u64 = 1_000_000_000;
/// True when `mark` is in the time in which a driver that began to leave at `left` still says so.
fn at_once(mark: &Mark, left: &Mark) -> bool {
    let times = mark.stamp.zip(left.stamp).filter(|(mark, left)| mark.clock == left.clock);
    times.is_some_and(|(mark, left)| mark.ns.saturating_sub(left.ns) <= LEAVING)
}

impl Model {
    pub(super) fn about(&mut self, mark: Mark, driver: &str, device: &str, turn: Turn) {
        let bus = ["", "pci", "platform", "amba", "iommu", "usb", "pcieport"].contains(&driver);
        let vfio = driver.contains("vfio");
        if turn == Turn::None && !vfio && (bus || self.known(device).is_none()) {
            return;
        }
        let Some(id) = self.id(device) else { return };
        let changed = !bus && self.devices[id].log.driver.as_deref().is_some_and(|old| old != driver);
        if changed && vfio {
            self.taken_over(id, &mark);
        }
        match turn {
            Turn::Leaves => {
                self.flush_run(id);
                let device = &mut self.devices[id];
                device.log.left.get_or_insert(mark.clone());
                device.log.since = None;
                let life = device.life_at(&mark);
                if !bus {
                    life.driver.get_or_insert_with(|| driver.to_owned());
                    device.log.driver = Some(driver.to_owned());
                }
                let life = device.life_at(&mark);
                life.teardown.get_or_insert(mark.clone());
                self.log.last_leaving = Some((id, mark));
            }
            Turn::Arrives if !bus => {
                self.flush_run(id);
                let device = &mut self.devices[id];
                let left = device.log.left.take();
                device.log.since = None;
                device.log.reloaded |= left.is_some();
                device.log.hint = None;
                device.log.driver = Some(driver.to_owned());
                if device.life.as_ref().is_some_and(|life| !life.traced && life.teardown.is_some()) {
                    self.doubt_log_life(id);
                    self.close(id, &mark, End::Reprobed);
                }
            }
            _ if changed && vfio => {
                self.flush_run(id);
                let device = &mut self.devices[id];
                (device.log.left, device.log.since) = (None, None);
                device.log.driver = Some(driver.to_owned());
            }
            _ => {
                if !bus {
                    let log = &mut self.devices[id].log;
                    log.driver = Some(driver.to_owned());
                    // What a driver says while it leaves comes at once.
                    if let Some(left) = &log.left
                        && !at_once(&mark, left)
                    {
                        log.since.get_or_insert(mark);
                    }
                }
            }
        }
    }

    /// VFIO has the device of another driver, whose unbind left no line.
    fn taken_over(&mut self, id: Id, mark: &Mark) {
        self.flush_run(id);
        let device = &mut self.devices[id];
        let known = device.life.as_ref().is_some_and(|life| life.traced || life.teardown.is_some());
        let before = device.log.driver.clone().filter(|driver| !driver.contains("vfio") && !known);
        let Some(before) = before else { return };
        let life = device.life_at(mark);
        life.driver.get_or_insert(before);
        life.teardown.get_or_insert(mark.clone());
        self.doubt_log_life(id);
        self.close(id, mark, End::Reprobed);
    }

    pub(super) fn probe_failed(&mut self, mark: &Mark, driver: &str, device: &str, error: u64) {
        let Some(id) = self.id(device) else { return };
        let device = &mut self.devices[id];
        let life = device.life_at(mark);
        life.driver.get_or_insert_with(|| driver.to_owned());
        let deferred = error == 517;
        let words = if deferred {
            "its probe was deferred".to_owned()
        } else {
            format!("its probe failed with error -{error}")
        };
        life.note(words, vec![mark.cite()]);
        if deferred {
            device.deferred = Some(mark.clone());
        }
    }
}
