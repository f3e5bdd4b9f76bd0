//! Claims, as a machine takes and tells them.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;

use super::Machine;
use crate::binding::Bound;
use crate::claim::{Claim, Conflict, Holder, Mode, Subject};
use crate::device::{Device, Resource};
use crate::env::RamRange;
use crate::event::EventKind;
use crate::promise::Promise;

impl Machine {
    /// Claims `subject` for `holder`. A refusal is told, with the names of both.
    pub(crate) fn claim(&self, subject: &Subject, holder: &Holder, mode: Mode) -> Result<Arc<Claim>, Conflict> {
        let taken = match self.ram_in(subject) {
            Some(conflict) => Err(conflict),
            None => self.claims.take(subject, holder, mode),
        };
        match &taken {
            Ok(claim) => self.check_claim(claim),
            Err(conflict) => self.emit(Some(holder.device()), || EventKind::Refused {
                what: format!("{subject} ({mode}) for {}", holder.user()),
                reason: conflict.to_string(),
            }),
        }
        taken
    }

    /// Takes a claim back, when its last use is over. True when it was the last one to just the same.
    pub(crate) fn release_claim(&self, claim: &Arc<Claim>) -> bool {
        claim.close(self);
        self.claims.release(claim)
    }

    /// Somebody else than `holder` who has `subject`, or some of it, at this moment: to be asked at each use that only a
    /// sole holder may make.
    pub fn other_holder(&self, subject: &Subject, holder: &Holder) -> Option<Conflict> {
        self.claims.other_holder(subject, holder)
    }

    /// Who stands in the way of `holder`, which would like to have `subject` on the terms of `mode`, at this moment.
    pub fn conflict(&self, subject: &Subject, holder: &Holder, mode: Mode) -> Option<Conflict> {
        self.ram_in(subject).or_else(|| self.claims.conflict(subject, holder, mode))
    }

    /// RAM, which is never anybody's registers.
    fn ram_in(&self, subject: &Subject) -> Option<Conflict> {
        let ranges = matches!(subject, Subject::Registers { .. }).then(|| self.memory.memory().ranges());
        let of = |range: &RamRange| Subject::Registers { base: range.base, len: range.len };
        let ram = ranges?.iter().map(of).find(|ram| ram.overlaps(subject))?;
        let holder = Holder::new(&"the machine".into(), "RAM");
        Some(Conflict { subject: ram, holder, mode: Mode::Exclusive })
    }

    /// Whether two hold the same as `claim` on terms that leave no room for both (P14).
    pub(crate) fn check_claim(&self, claim: &Claim) {
        let contested = self.claims.find_conflicting(claim.subject());
        self.promises.check(Promise::Claimed, contested.is_none(), || {
            contested.map(|(first, second)| format!("{first}, and by {second}")).unwrap_or_default()
        });
    }

    /// The binding has ended: nobody stands in the next one's way in its name.
    pub(super) fn check_no_claims(&self, bound: &Bound) {
        let left = self.claims.held_by(bound.holder());
        self.promises.check(Promise::Claimed, left.is_empty(), || {
            format!("{} has let go of its device and still holds {left:?}", bound.holder())
        });
    }

    /// Registers of a device that the env itself drives are nobody else's, for as long as it is there.
    pub(super) fn claim_for_env(&self, device: &Device) {
        let holder = Holder::new(&device.desc().name, "env");
        for resource in &device.desc().resources {
            let Resource::Mem { base, len } = *resource else { continue };
            if let Ok(claim) = self.claim(&Subject::Registers { base, len }, &holder, Mode::Exclusive) {
                device.env_claims.lock().push(claim);
            }
        }
    }

    /// How many claims stand for devices of the env.
    pub(super) fn claims_of_env(&self) -> usize {
        self.devices().iter().map(|d| d.env_claims.lock().len()).sum()
    }

    /// The device leaves.
    pub(super) fn release_for_env(&self, device: &Device) {
        let claims = core::mem::take(&mut *device.env_claims.lock());
        for claim in &claims {
            self.release_claim(claim);
        }
    }
}
