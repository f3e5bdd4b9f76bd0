//! The guest: a second machine, which the host's disk controller is handed to.

use std::error::Error;
use std::sync::Arc;

use bindery::device::Nodes;
use bindery::driver::Driver;
use bindery::firmware::fdt::describe;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;
use bindery_sim::guest::{self, GuestEnv, Layout, RAM_LEN};
use bindery_sim::salvator::GUEST_DEVICE_TREE;

use super::{Session, controller};
use crate::output::count;

/// The guest's behaviour when the host wants the device back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum GuestKind {
    /// It unbinds its driver and releases the device.
    Cooperative,
    /// It receives the request and does nothing.
    Unresponsive,
}

/// A guest with the host's disk controller.
pub type Guest = guest::Guest<SataRcar>;

/// Starts a guest on `device` of the host, which the pass-through owner holds.
fn start(session: &Session, device: &str, kind: GuestKind) -> Result<Guest, Box<dyn Error>> {
    let owner = session.host.client::<Vfio>(device).ok_or("the pass-through owner does not hold the device")?;
    let vfio = Vfio::open(&owner)?;
    let described = describe(GUEST_DEVICE_TREE, &mut Nodes::new())?;
    let desc = controller(&described.devices).ok_or("the guest's device tree has no disk controller")?;
    let env = GuestEnv::new(&session.host, vfio, Layout::of(desc), RAM_LEN)?;
    env.on_event(session.log.listener("guest"));
    let guest = Guest::start(env, GUEST_DEVICE_TREE, Arc::clone(&desc.name), kind == GuestKind::Cooperative)?;
    bindery_drivers::register_all(&guest.machine);
    Ok(guest)
}

impl Session {
    /// Starts a guest on the disk controller, and lets it bind its driver: its devices, or why it has not bound it.
    pub fn start_guest(&mut self, kind: GuestKind) -> Result<String, String> {
        let sata = controller(&self.description.devices).and_then(|desc| self.host.device(&desc.name));
        let sata = sata.ok_or("the machine has no disk controller")?;
        let guest = start(self, sata.name(), kind).map_err(|error| error.to_string())?;
        // Of one whose device the host has taken back.
        self.end_guest();
        let guest = self.guest.insert(guest);
        let settled = guest.machine.settle();
        if guest.client().is_some() {
            let devices = count(guest.machine.devices().len(), "device");
            return Ok(format!("the guest has {devices} and bound {} of them", settled.bound));
        }
        let waits = guest.machine.waiting().into_iter().map(|w| format!("{} waits for {}", w.device, w.on.join(", ")));
        Err(format!("the guest has not bound {} ({settled:?}) {}", SataRcar::NAME, waits.collect::<String>()))
    }

    /// Shuts the guest down, if there is one, and keeps the counts of its promises.
    pub fn end_guest(&mut self) {
        if let Some(guest) = self.guest.take() {
            let machine = Arc::clone(&*guest.machine);
            drop(guest);
            self.guests.add(&machine);
        }
    }
}

#[cfg(test)]
mod tests {
    use bindery::machine::Machine;
    use bindery::promise::Promise;

    use super::*;
    use crate::session::Config;
    use crate::shell;

    const SATA: &str = "ee300000.sata";

    fn give_away(session: &Session) {
        let path = format!("/sys/bus/platform/devices/{SATA}/driver_override");
        shell::echo(&session.control, Vfio::NAME, &path).unwrap();
        session.host.bind(SATA, Vfio::NAME).unwrap();
    }

    /// Breaks a promise, and some others as often as more than is told of each.
    fn break_some(guest: &Machine, number: usize) {
        let broken = Promise::ALL[number];
        guest.promises().check(broken, false, || format!("planted in guest {number}"));
        for again in 0..100 * number {
            guest.promises().check(broken, false, || format!("{again} in guest {number}"));
        }
    }

    /// Guests one after the other, of which these break promises, and each of which ends by itself or by its device's return.
    fn one_after_the_other(breaks: &[bool], returns: bool) {
        let mut session = Session::new(&Config::default()).unwrap();
        session.add_drivers();
        session.host.settle();
        session.host.unbind(SATA, SataRcar::NAME).unwrap();
        let mut guests = Vec::new();
        for (number, breaks) in breaks.iter().enumerate() {
            give_away(&session);
            session.start_guest(GuestKind::Cooperative).unwrap();
            let guest = Arc::clone(&*session.guest.as_ref().unwrap().machine);
            if *breaks {
                break_some(&guest, number);
            }
            guests.push(guest);
            if !returns {
                session.end_guest();
            }
            session.host.unbind(SATA, Vfio::NAME).unwrap();
        }
        session.end_guest();
        let counts = &session.guests;
        for (at, promise) in Promise::ALL.into_iter().enumerate() {
            let checked: u64 = guests.iter().map(|guest| guest.promises().checked(promise)).sum();
            assert_eq!(counts.checked[at], checked, "{promise:?} of {breaks:?}, {returns}");
        }
        let told: Vec<_> = guests.iter().flat_map(|guest| guest.promises().broken()).collect();
        let count: u64 = guests.iter().map(|guest| guest.promises().broken_count()).sum();
        let mut left = counts.broken.clone();
        for (promise, seen) in &told {
            assert_eq!(left[*promise as usize].remove(0), *seen, "{breaks:?}, {returns}");
        }
        assert!(left.iter().all(Vec::is_empty), "{left:?} of {breaks:?}, {returns}");
        assert_eq!(counts.more_broken, count - told.len() as u64, "{breaks:?}, {returns}");
        assert_eq!(count > 0, breaks.contains(&true));
    }

    #[test]
    fn what_each_guest_has_checked_and_broken_is_kept_whatever_the_others_do() {
        for number in 0..1 << 3 {
            let breaks = [0, 1, 2].map(|guest| number >> guest & 1 != 0);
            one_after_the_other(&breaks, false);
            one_after_the_other(&breaks, true);
        }
    }
}
