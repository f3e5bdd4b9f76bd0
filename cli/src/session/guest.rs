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

    #[test]
    fn what_a_guest_has_broken_is_kept_when_the_next_one_starts() {
        let mut session = Session::new(&Config::default()).unwrap();
        session.add_drivers();
        session.host.settle();
        session.host.unbind(SATA, SataRcar::NAME).unwrap();
        give_away(&session);
        session.start_guest(GuestKind::Cooperative).unwrap();
        let former = Arc::clone(&*session.guest.as_ref().unwrap().machine);
        former.promises().check(Promise::ALL[0], false, || "planted".into());
        // The host takes the device back, and gives it away again.
        session.host.unbind(SATA, Vfio::NAME).unwrap();
        give_away(&session);
        session.start_guest(GuestKind::Cooperative).unwrap();
        assert_eq!(session.guests.broken[0].len(), 1);
        for (at, promise) in Promise::ALL.into_iter().enumerate() {
            assert_eq!(session.guests.checked[at], former.promises().checked(promise), "{promise:?}");
        }
    }
}
