//! Claims, as the parts of a machine take and report them.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;

use super::System;
use crate::claim::{Claim, Conflict, Holder, Mode, Subject};
use crate::env::RamRange;
use crate::event::EventKind;
use crate::promise::Promise;

impl System {
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
}
