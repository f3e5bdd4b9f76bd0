//! The link: from COMRESET to a ready device.

use std::time::Duration;

use super::ata::{self, Ata};
use super::model::{Link, NAME, Sata, SataFaults, SataTimer, cancel};
use super::regs;
use crate::clock::Timer;
use crate::models::Bus;

/// Time from the end of COMRESET until the link is up, and from then to the device's signature.
const LINK_UP: Duration = Duration::from_millis(10);
const SIGNATURE: Duration = Duration::from_millis(5);
/// Shortest COMRESET (Serial ATA 3.x, 14.1.3).
const MIN_COMRESET_NS: u64 = 1_000_000;

impl Sata {
    pub(super) fn start_link(&mut self, bus: &mut Bus<'_>) {
        self.link_wanted = true;
        if self.disk.is_some() && !self.faults.link_down {
            bus.clock.set(Timer::Sata(SataTimer::Link), LINK_UP);
        }
    }

    /// Follows a change of the injected faults from `before`: a disk that is pulled out takes the link down, and one that is
    /// plugged in brings it up unless the host holds it in reset or offline.
    pub(crate) fn faults_changed(&mut self, bus: &mut Bus<'_>, before: SataFaults) {
        let det = self.scontrol & regs::SCONTROL_DET;
        match (before.link_down, self.faults.link_down) {
            (false, true) if self.link == Link::Up => self.drop_link(bus, Link::Down),
            (true, false) if self.link == Link::Down && det == regs::DET_NONE && self.link_wanted => {
                self.start_link(bus);
            }
            _ => {}
        }
        self.update_line(bus);
    }

    /// The device sends its signature after `delay`, if it becomes ready.
    pub(super) fn start_device(&self, bus: &mut Bus<'_>, delay: Duration) {
        if !self.faults.not_ready {
            bus.clock.set(Timer::Sata(SataTimer::Signature), delay);
        }
    }

    pub(super) fn drop_link(&mut self, bus: &mut Bus<'_>, to: Link) {
        if self.link == Link::Up {
            self.raise_serror(regs::SERROR_WENT_DOWN);
        }
        self.link = to;
        self.ata = Ata::default();
        cancel(bus, &[SataTimer::Link, SataTimer::Signature, SataTimer::Command, SataTimer::Dma]);
    }

    pub(super) fn link_up(&mut self, bus: &mut Bus<'_>) {
        self.link = Link::Up;
        self.ata.status = ata::BSY;
        self.raise_serror(regs::SERROR_CAME_UP);
        self.start_device(bus, SIGNATURE);
    }

    pub(super) fn raise_serror(&mut self, bits: u32) {
        self.serror |= bits;
        self.int_status |= regs::INT_SERR;
    }

    pub(super) fn write_scontrol(&mut self, bus: &mut Bus<'_>, value: u32) {
        if value & !0xfff != 0 {
            bus.error(NAME, format!("SControl {value:#x} sets bits that are not modelled"));
        }
        let (old, new) = (self.scontrol & regs::SCONTROL_DET, value & regs::SCONTROL_DET);
        self.scontrol = value & 0xfff;
        if old == new {
            return;
        }
        match new {
            regs::DET_NONE => {
                let lasted = bus.clock.now().0 - self.comreset_since;
                if old == regs::DET_COMRESET && lasted < MIN_COMRESET_NS {
                    bus.error(NAME, format!("COMRESET of {lasted} ns, less than 1 ms"));
                }
                self.start_link(bus);
            }
            regs::DET_COMRESET => {
                self.comreset_since = bus.clock.now().0;
                self.drop_link(bus, Link::Down);
            }
            regs::DET_OFFLINE => self.drop_link(bus, Link::Offline),
            _ => bus.error(NAME, format!("SControl.DET {new} is reserved")),
        }
    }
}
