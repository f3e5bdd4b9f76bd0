//! The orders by name.

use std::fmt;
use std::str::FromStr;

use super::table::{Arch, BINDERY, LINUX_5_0, LINUX_5_0_RC5, LINUX_5_1, LINUX_6_12, Procedure};

macro_rules! orders {
    ($($(#[$doc:meta])* $order:ident = $name:literal, $title:literal, $procedure:expr;)*) => {
        /// An order of set-up and tear-down.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Order { $($(#[$doc])* $order,)* }

        impl Order {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$order,)*];
            /// The name, as commands take it.
            pub const fn name(self) -> &'static str { match self { $(Self::$order => $name,)* } }
            /// What it is, in words.
            pub const fn title(self) -> &'static str { match self { $(Self::$order => $title,)* } }
            /// Its steps.
            pub const fn procedure(self) -> Procedure { match self { $(Self::$order => $procedure,)* } }
        }
    };
}

orders! {
    /// The seed's base.
    Linux50Rc5 = "linux-5.0-rc5", "5.0-rc5, where the seed's crash was seen", LINUX_5_0_RC5;
    /// The same tear-down, before probe deferral reached the driver core.
    Linux50Rc5Swallowed = "linux-5.0-rc5-swallowed", "the same tear-down, deferral swallowed (before e8e683ae9a73)",
        Procedure { swallows_deferral: true, ..LINUX_5_0_RC5 };
    /// With the seed's patch.
    Linux50 = "linux-5.0", "5.0, with the seed's patch (376991db4b64)", LINUX_5_0;
    /// With the second half of it.
    Linux51 = "linux-5.1", "5.1, with its second half (0b777eee88d7)", LINUX_5_1;
    /// A present-day kernel.
    Linux612 = "linux-6.12", "6.12, long-term", LINUX_6_12;
    /// arm32 before both patches.
    Arm32Old = "arm32-old", "arm32, tear-down before managed resources", Procedure { arch: Arch::Arm32, ..LINUX_5_0_RC5 };
    /// arm32 with both patches.
    Arm32New = "arm32-new", "arm32, managed resources before tear-down", Procedure { arch: Arch::Arm32, ..LINUX_5_1 };
    /// arm32 of a present-day kernel.
    Arm32Now = "arm32-6.12", "arm32 in 6.12", Procedure { arch: Arch::Arm32, ..LINUX_6_12 };
    /// arm32 with one mapping for all masters, before both patches.
    Arm32SharedOld = "arm32-shared-old", "arm32 on R-Car Gen2 (one mapping for all), tear-down first",
        Procedure { arch: Arch::Arm32Shared, ..LINUX_5_0_RC5 };
    /// arm32 with one mapping for all masters, with both patches.
    Arm32SharedNew = "arm32-shared-new", "arm32 on R-Car Gen2 (one mapping for all), managed resources first",
        Procedure { arch: Arch::Arm32Shared, ..LINUX_5_1 };
    /// Our own.
    Bindery = "bindery", "Bindery: one ledger, newest entry first", BINDERY;
}

/// No order has this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no order {asked:?}; there are {}", Order::ALL.iter().map(|o| o.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownOrder {
    /// What was asked for, at most 40 characters of it.
    pub asked: String,
}

impl FromStr for Order {
    type Err = UnknownOrder;

    fn from_str(text: &str) -> Result<Self, UnknownOrder> {
        let unknown = || UnknownOrder { asked: text.chars().take(40).collect() };
        Self::ALL.iter().copied().find(|order| order.name() == text).ok_or_else(unknown)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
