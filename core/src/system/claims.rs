//! Claims to resources of a machine, and their reports.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;

use super::System;
use crate::claim::{Claim, Conflict, Holder, Mode, Subject};
use crate::env::RamRange;
use crate::event::EventKind;
use crate::promise::Promise;

impl System {
    /// Claims `subject` for `holder`. A refusal emits an event with the names of both holders.
    ///
    /// # Errors
    ///
    /// The conflicting claim, or RAM at these addresses.
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

    /// Releases a claim after its last use. Returns true when it was the last claim to exactly this subject.
    pub(crate) fn release_claim(&self, claim: &Arc<Claim>) -> bool {
        claim.close(self);
        self.claims.release(claim)
    }

    /// Another user than `holder` that currently holds all or part of `subject`. Checked at each operation that requires a
    /// sole holder.
    pub fn other_holder(&self, subject: &Subject, holder: &Holder) -> Option<Conflict> {
        self.claims.other_holder(subject, holder)
    }

    /// Conflict that currently prevents `holder` from claiming `subject` in `mode`, if there is one.
    pub fn conflict(&self, subject: &Subject, holder: &Holder, mode: Mode) -> Option<Conflict> {
        self.ram_in(subject).or_else(|| self.claims.conflict(subject, holder, mode))
    }

    /// Conflict with RAM, which cannot be claimed as registers.
    fn ram_in(&self, subject: &Subject) -> Option<Conflict> {
        let ranges = matches!(subject, Subject::Registers { .. }).then(|| self.memory.memory().ranges());
        let of = |range: &RamRange| Subject::Registers { base: range.base, len: range.len };
        let ram = ranges?.iter().map(of).find(|ram| ram.overlaps(subject))?;
        let holder = Holder::new(&"the machine".into(), "RAM");
        Some(Conflict { subject: ram, holder, mode: Mode::Exclusive })
    }

    /// Checks that no two conflicting claims to the subject of `claim` exist (P14).
    pub(crate) fn check_claim(&self, claim: &Claim) {
        let contested = self.claims.find_conflicting(claim.subject());
        self.promises.check(Promise::Claimed, contested.is_none(), || {
            contested.map(|(first, second)| format!("{first}, and by {second}")).unwrap_or_default()
        });
    }
}
