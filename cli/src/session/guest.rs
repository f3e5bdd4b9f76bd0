//! The guest: a second machine, which the host's disk controller is handed to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bindery::device::{DeviceDesc, Nodes};
use bindery::driver::Client;
use bindery::driver::Driver;
use bindery::firmware::fdt::describe;
use bindery::machine::{Handle, Machine, Policy};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;
use bindery_sim::guest::{GuestEnv, Layout, RAM_LEN};
use bindery_sim::salvator::GUEST_DEVICE_TREE;

use super::{PromiseCounts, Session};

/// The guest's behaviour when the host wants the device back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    env: Arc<GuestEnv>,
    /// Name of the controller in the guest.
    pub device: Arc<str>,
    asked: Arc<AtomicBool>,
}

impl Guest {
    /// Starts a guest on `device` of the host, which the pass-through owner holds.
    pub fn start(session: &Session, device: &str, kind: GuestKind) -> Result<Self, String> {
        let owner = session.host.client::<Vfio>(device).ok_or("the pass-through owner does not hold the device")?;
        let vfio = Vfio::open(&owner).map_err(|e| e.to_string())?;
        let desc = controller()?;
        let env = GuestEnv::new(&session.host, vfio, Layout::of(&desc), RAM_LEN).map_err(|e| e.to_string())?;
        env.on_event(session.log.listener("guest"));
        let machine = env.machine(Policy::default());
        machine.add_device_tree(GUEST_DEVICE_TREE).map_err(|e| e.to_string())?;
        bindery_drivers::register_all(&machine);

        let asked = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&asked);
        let (of, on, name) = (Arc::downgrade(&*machine), Arc::downgrade(&env), Arc::clone(&desc.name));
        env.on_request(move || {
            heard.store(true, Ordering::Release);
            if kind == GuestKind::Cooperative {
                release(&of, &on, &name);
            }
        })
        .map_err(|e| e.to_string())?;
        Ok(Self { machine, env, device: desc.name, asked })
    }

    /// The guest's SATA driver, if it holds the controller.
    pub fn port(&self) -> Option<Client<SataRcar>> {
        self.machine.client::<SataRcar>(&self.device)
    }

    /// True once the guest was asked to release the device.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// True while the guest has the device.
    pub fn has_device(&self) -> bool {
        self.env.has_device()
    }

    /// Shuts the guest down; the counts of its promises.
    pub(super) fn end(self) -> PromiseCounts {
        let machine = Arc::clone(&*self.machine);
        drop(self.machine);
        self.env.release_device();
        PromiseCounts::of(&machine)
    }
}

/// Releases the device on request: its driver is unbound first.
fn release(machine: &Weak<Machine>, env: &Weak<GuestEnv>, device: &str) {
    if let Some(machine) = machine.upgrade() {
        // Nothing to unbind when the guest had not bound it.
        let _ = machine.unbind(device, SataRcar::NAME);
    }
    if let Some(env) = env.upgrade() {
        env.release_device();
    }
}

/// The controller as the guest's device tree has it.
fn controller() -> Result<DeviceDesc, String> {
    let described = describe(GUEST_DEVICE_TREE, &mut Nodes::new()).map_err(|e| e.to_string())?;
    let drives = |c: &Arc<str>| SataRcar::MATCHES.iter().any(|m| **c == *m.name());
    let found = described.devices.into_iter().find(|d| d.compatible.iter().any(drives));
    found.ok_or_else(|| "the guest's device tree has no disk controller".into())
}
