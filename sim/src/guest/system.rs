//! A guest as a whole: a machine on its env, and the device that both are there for.

#![forbid(unsafe_code)]

use std::marker::PhantomData;
use std::sync::Arc;

use bindery::driver::{Client, Driver};
use bindery::firmware::fdt::FdtError;
use bindery::machine::{Handle, Policy};
use bindery::sync::atomic::{AtomicBool, Ordering};
use bindery_drivers::vfio::VfioError;

use super::GuestEnv;

/// A guest whose driver for the device passed through to it is `D`.
pub struct Guest<D: Driver> {
    /// Its machine.
    pub machine: Handle,
    /// The env that the machine runs on.
    pub env: Arc<GuestEnv>,
    /// Name of the device in the guest.
    pub device: Arc<str>,
    asked: Arc<AtomicBool>,
    driver: PhantomData<fn() -> D>,
}

/// Failure to start a guest.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// Its device tree cannot be read.
    #[error("the guest's device tree: {0}")]
    DeviceTree(#[from] FdtError),
    /// The host has taken the device back already.
    #[error(transparent)]
    Session(#[from] VfioError),
}

impl<D: Driver> Guest<D> {
    /// Starts a guest on `env`: a machine with the devices of `device_tree`, among them `device`, and no driver yet. When the
    /// host wants `device` back, a guest that `cooperates` unbinds `D` from it and releases it, and another one does nothing.
    ///
    /// # Errors
    ///
    /// When the device tree cannot be read, or the host has taken the device back.
    pub fn start(
        env: Arc<GuestEnv>,
        device_tree: &[u8],
        device: Arc<str>,
        cooperates: bool,
    ) -> Result<Self, GuestError> {
        let machine = env.machine(Policy::default());
        machine.add_device_tree(device_tree)?;
        let asked = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&asked);
        // Weak: the env holds the session, which holds this closure.
        let (of, on, name) = (Arc::downgrade(&*machine), Arc::downgrade(&env), Arc::clone(&device));
        env.on_request(move || {
            // Pairs with the load of `was_asked`, which may be on another thread.
            heard.store(true, Ordering::Release);
            let (true, Some(env)) = (cooperates, on.upgrade()) else { return };
            // Nothing to unbind when the guest had not bound it.
            let _ = of.upgrade().map(|machine| machine.unbind(&name, D::NAME));
            env.release_device();
        })?;
        Ok(Self { machine, env, device, asked, driver: PhantomData })
    }

    /// A client of its driver, if that holds the device.
    pub fn client(&self) -> Option<Client<D>> {
        self.machine.client::<D>(&self.device)
    }

    /// True once the host has asked for the device.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

/// Unbinds the device and returns it, and then shuts the machine down.
impl<D: Driver> Drop for Guest<D> {
    fn drop(&mut self) {
        let _ = self.machine.unbind(&self.device, D::NAME);
        self.env.release_device();
    }
}
