//! The promises P1 to P14 by name, and how often each was checked.

use alloc::string::String;
use alloc::vec::Vec;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

macro_rules! promises {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $title:literal;)*) => {
        /// One of the promises of DESIGN (see ARCHITECTURE.md).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        pub enum Promise { $($(#[$doc])* $name,)* }

        impl Promise {
            /// All of them, P1 first.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$name,)*];
            /// How many there are.
            pub const COUNT: usize = [$($id,)*].len();
            /// `"P1"` to `"P14"`.
            pub const fn id(self) -> &'static str { match self { $(Self::$name => $id,)* } }
            /// The promise in three words.
            pub const fn title(self) -> &'static str { match self { $(Self::$name => $title,)* } }
        }
    };
}

promises! {
    /// A resource goes back to the back-end that gave it.
    MatchingBackend = "P1", "matching back-end on free";
    /// A page returns to its allocator only when no translation lets a device reach it.
    UnreachableBeforeFree = "P2", "unreachable before free";
    /// One ledger and one unwinder, newest entry first.
    SingleUnwindPath = "P3", "single unwind path";
    /// After the way back the device holds nothing.
    NothingLeft = "P4", "nothing left";
    /// After driver data is dropped, nobody reaches it.
    NoUseAfterRevoke = "P5", "no use after revoke";
    /// Consumers are unbound before their supplier.
    SuppliersOutlast = "P6", "suppliers outlast consumers";
    /// An IOMMU group has one owner, until its last managed resource is gone.
    OneOwner = "P7", "one owner";
    /// Where probing ends does not depend on registration order.
    OrderIndependent = "P8", "order-independent";
    /// Forgetting a handle costs memory at most.
    ForgetProof = "P9", "forget-proof";
    /// No device runs untranslated without a written policy.
    NoSilentDowngrade = "P10", "no silent downgrade";
    /// Device memory is released only after the device is shown to be quiesced.
    QuiescedFirst = "P11", "quiesced first";
    /// Memory that changes owner is zeroed.
    ZeroedOnOwnerChange = "P12", "zeroed on change of owner";
    /// When a buffer changes hands, CPU and device see the same bytes.
    CoherentAtTransfer = "P13", "coherent at transfer";
    /// Nothing has a second holder that the first does not know of.
    Claimed = "P14", "claimed";
}

/// Most broken promises that are kept in words.
const KEPT: usize = 64;

/// Counts checks and keeps what was broken.
#[derive(Default)]
pub struct Promises {
    checked: [AtomicU64; Promise::COUNT],
    broken_count: AtomicU64,
    broken: Mutex<Vec<(Promise, String)>>,
}

impl Promises {
    /// Counts one check of `promise`; when it does not hold, keeps what `detail` says.
    pub fn check(&self, promise: Promise, holds: bool, detail: impl FnOnce() -> String) {
        self.checked[promise as usize].fetch_add(1, Ordering::Relaxed);
        if !holds {
            self.broken_count.fetch_add(1, Ordering::Relaxed);
            let mut broken = self.broken.lock();
            if broken.len() < KEPT {
                broken.push((promise, detail()));
            }
        }
    }

    /// How often `promise` was checked.
    pub fn checked(&self, promise: Promise) -> u64 {
        self.checked[promise as usize].load(Ordering::Relaxed)
    }

    /// The first 64 broken promises, with what was seen.
    pub fn broken(&self) -> Vec<(Promise, String)> {
        self.broken.lock().clone()
    }

    /// How many checks failed in all.
    pub fn broken_count(&self) -> u64 {
        self.broken_count.load(Ordering::Relaxed)
    }
}
