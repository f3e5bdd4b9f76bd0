//! Claims of the env's devices, and the check that no claim outlives its binding.

use alloc::format;

use super::Machine;
use crate::binding::BindingState;
use crate::claim::{Holder, Mode, Subject};
use crate::device::{Device, Resource};
use crate::promise::Promise;

impl Machine {
    /// Checks that the binding, which has ended, holds no claim that would conflict with the next one.
    pub(super) fn check_no_claims(&self, bound: &BindingState) {
        let left = self.claims.held_by(bound.holder());
        self.promises.check(Promise::Claimed, left.is_empty(), || {
            format!("{} has released its device and still holds {left:?}", bound.holder())
        });
    }

    /// Claims the registers of a device that the env itself drives, for as long as the device exists.
    pub(super) fn claim_for_env(&self, device: &Device) {
        let holder = Holder::new(&device.desc().name, "env");
        for resource in &device.desc().resources {
            let Resource::Mem { base, len } = *resource else { continue };
            if let Ok(claim) = self.claim(&Subject::Registers { base, len }, &holder, Mode::Exclusive) {
                device.env_claims.lock().push(claim);
            }
        }
    }

    /// Number of claims held for devices of the env.
    pub(super) fn claims_of_env(&self) -> usize {
        self.devices().iter().map(|d| d.env_claims.lock().len()).sum()
    }

    /// Releases the claims of a device of the env that is being removed.
    pub(super) fn release_for_env(&self, device: &Device) {
        let claims = core::mem::take(&mut *device.env_claims.lock());
        for claim in &claims {
            self.release_claim(claim);
        }
    }
}
