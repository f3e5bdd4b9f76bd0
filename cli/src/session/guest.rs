//! The guest: a second machine, which the host's disk controller is handed to.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bindery::device::Nodes;
use bindery::driver::{Client, Driver};
use bindery::firmware::fdt::describe;
use bindery::machine::{Handle, Machine, Policy};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;
use bindery_sim::guest::{GuestEnv, Layout, RAM_LEN};
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
pub struct Guest {
    /// Its machine.
    pub machine: Handle,
    /// The env that the machine runs on.
    pub env: Arc<GuestEnv>,
    /// Name of the controller in the guest.
    pub device: Arc<str>,
    asked: Arc<AtomicBool>,
}

impl Guest {
    /// Starts a guest on `device` of the host, which the pass-through owner holds.
    pub fn start(session: &Session, device: &str, kind: GuestKind) -> Result<Self, Box<dyn Error>> {
        let owner = session.host.client::<Vfio>(device).ok_or("the pass-through owner does not hold the device")?;
        let vfio = Vfio::open(&owner)?;
        let described = describe(GUEST_DEVICE_TREE, &mut Nodes::new())?;
        let desc = controller(&described.devices).ok_or("the guest's device tree has no disk controller")?;
        let env = GuestEnv::new(&session.host, vfio, Layout::of(desc), RAM_LEN)?;
        env.on_event(session.log.listener("guest"));
        let machine = env.machine(Policy::default());
        machine.add_device_tree(GUEST_DEVICE_TREE)?;
        bindery_drivers::register_all(&machine);

        let asked = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&asked);
        let (of, on, name) = (Arc::downgrade(&*machine), Arc::downgrade(&env), Arc::clone(&desc.name));
        env.on_request(move || {
            heard.store(true, Ordering::Release);
            let (GuestKind::Cooperative, Some(env)) = (kind, on.upgrade()) else { return };
            // Nothing to unbind when the guest had not bound it.
            let _ = of.upgrade().map(|machine| machine.unbind(&name, SataRcar::NAME));
            env.release_device();
        })?;
        Ok(Self { machine, env, device: Arc::clone(&desc.name), asked })
    }

    /// The guest's SATA driver, if it holds the controller.
    pub fn port(&self) -> Option<Client<SataRcar>> {
        self.machine.client::<SataRcar>(&self.device)
    }

    /// True once the guest was asked to release the device.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Shuts the guest down; its machine, for the counts of its promises.
    fn end(self) -> Arc<Machine> {
        let machine = Arc::clone(&*self.machine);
        drop(self.machine);
        self.env.release_device();
        machine
    }
}

impl Session {
    /// Starts a guest on the disk controller, and lets it bind its driver: its devices, or why it has not bound it.
    pub fn start_guest(&mut self, kind: GuestKind) -> Result<String, String> {
        let sata = controller(&self.description.devices).and_then(|desc| self.host.device(&desc.name));
        let sata = sata.ok_or("the machine has no disk controller")?;
        let guest = Guest::start(self, sata.name(), kind).map_err(|error| error.to_string())?;
        let guest = self.guest.insert(guest);
        let settled = guest.machine.settle();
        if guest.port().is_some() {
            let devices = count(guest.machine.devices().len(), "device");
            return Ok(format!("the guest has {devices} and bound {} of them", settled.bound));
        }
        let waits = guest.machine.waiting().into_iter().map(|w| format!("{} waits for {}", w.device, w.on.join(", ")));
        Err(format!("the guest has not bound {} ({settled:?}) {}", SataRcar::NAME, waits.collect::<String>()))
    }

    /// Shuts the guest down, if there is one, and keeps the counts of its promises.
    pub fn end_guest(&mut self) {
        if let Some(guest) = self.guest.take() {
            self.guests.add(&guest.end());
        }
    }
}
