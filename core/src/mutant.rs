//! Historical bugs, to be put back on purpose: who looks for broken promises must find each of them.
//!
//! With the feature `mutants` a machine takes one from [`Env::mutant`](crate::env::Env::mutant); each place that Linux
//! once had wrong then asks [`Machine::is_mutant`] and does it wrong, too. Without the feature nobody can ask for one.
//! A mutant breaks promises, panics or touches the hardware wrongly; it stays memory-safe, like all safe Rust.

use crate::machine::Machine;
use crate::promise::Promise;

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $breaks:ident, $history:literal;)*) => {
        /// A bug that a machine can be given. The list below is the only one.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
        pub enum Mutant { $($(#[$doc])* $name,)* }

        impl Mutant {
            /// Every one, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that commands take and reports print.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Where the bug was: commit or source, and what it did there.
            pub const fn history(self) -> &'static str {
                match self { $(Self::$name => $history,)* }
            }

            /// The promise that it breaks first of all. It may break more.
            pub const fn breaks(self) -> Promise {
                match self { $(Self::$name => Promise::$breaks,)* }
            }
        }
    };
}

mutants! {
    /// DMA is torn down before managed resources go back when a driver is unbound.
    DmaBeforeDevres = "dma-before-devres", SameHand,
        "376991db4b64 (v5.0): arch_teardown_dma_ops() ran before devres_release_all() on unbind";
    /// The same when a probe fails.
    DmaBeforeDevresOnFailure = "dma-before-devres-on-failure", SameHand,
        "0b777eee88d7 (v5.1): the same order on the way out of a failed probe, overlooked by 376991db4b64";
    /// The group's ownership is dropped before managed resources go back.
    GroupBeforeDevres = "group-before-devres", OneOwner,
        "512881eacfa7 (v5.19): dma_cleanup() lowers owner_cnt before devres_release_all(), still so in v6.12";
}

impl Mutant {
    /// The mutant of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|m| m.name() == name)
    }
}

/// The kinds of ledger entries that a mutant gives back before their turn, right after the driver's data, on the way
/// back from a `failed` probe or from a binding that stood.
pub(crate) fn ahead_of_turn(machine: &Machine, failed: bool) -> &'static [&'static str] {
    let has = |mutant| machine.is_mutant(mutant);
    if has(if failed { Mutant::DmaBeforeDevresOnFailure } else { Mutant::DmaBeforeDevres }) {
        &["translation"]
    } else if has(Mutant::GroupBeforeDevres) {
        &["group"]
    } else {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_kebab_case_and_lead_back() {
        for (n, mutant) in Mutant::ALL.iter().enumerate() {
            let name = mutant.name();
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            assert_eq!(Mutant::named(name), Some(*mutant));
            assert!(Mutant::ALL[n + 1..].iter().all(|other| other.name() != name), "{name} twice");
            assert!(!mutant.history().is_empty(), "{name}");
        }
        assert_eq!(Mutant::named("no-such-bug"), None);
    }
}
