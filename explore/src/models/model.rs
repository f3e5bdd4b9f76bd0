//! The models by name.

use std::fmt;
use std::str::FromStr;

use super::procedure::{Arch, Procedure};
use super::releases::{bindery, linux_5_0, linux_5_0_rc5, linux_5_1, linux_6_12};

macro_rules! models {
    ($($(#[$doc:meta])* $model:ident = $name:literal, $title:literal, $procedure:expr;)*) => {
        /// A model of set-up and tear-down.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Model { $($(#[$doc])* $model,)* }

        impl Model {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$model,)*];
            /// The name, as commands take it.
            pub const fn name(self) -> &'static str { match self { $(Self::$model => $name,)* } }
            /// A description.
            pub const fn title(self) -> &'static str { match self { $(Self::$model => $title,)* } }
            /// Set-up and tear-down of the model.
            pub fn procedure(self) -> Procedure { match self { $(Self::$model => $procedure,)* } }
        }
    };
}

models! {
    /// The base of commit 376991db4b64.
    Linux50Rc5 = "linux-5.0-rc5", "5.0-rc5, where the crash on unbind was seen", linux_5_0_rc5();
    /// The same tear-down, before probe deferral reached the driver core.
    Linux50Rc5Swallowed = "linux-5.0-rc5-swallowed", "the same tear-down, deferral swallowed (before e8e683ae9a73)",
        Procedure { swallows_deferral: true, ..linux_5_0_rc5() };
    /// With commit 376991db4b64.
    Linux50 = "linux-5.0", "5.0, with 376991db4b64", linux_5_0();
    /// With 0b777eee88d7, too.
    Linux51 = "linux-5.1", "5.1, with 0b777eee88d7, too", linux_5_1();
    /// A present-day kernel.
    Linux612 = "linux-6.12", "6.12, long-term", linux_6_12();
    /// arm32 before both patches.
    Arm32Old = "arm32-old", "arm32, tear-down before managed resources", Procedure { arch: Arch::Arm32, ..linux_5_0_rc5() };
    /// arm32 with both patches.
    Arm32New = "arm32-new", "arm32, managed resources before tear-down", Procedure { arch: Arch::Arm32, ..linux_5_1() };
    /// arm32 of a present-day kernel.
    Arm32Now = "arm32-6.12", "arm32 in 6.12", Procedure { arch: Arch::Arm32, ..linux_6_12() };
    /// arm32 with one mapping for all masters, before both patches.
    Arm32SharedOld = "arm32-shared-old", "arm32 on R-Car Gen2 (one mapping for all), tear-down first",
        Procedure { arch: Arch::Arm32Shared, ..linux_5_0_rc5() };
    /// arm32 with one mapping for all masters, with both patches.
    Arm32SharedNew = "arm32-shared-new", "arm32 on R-Car Gen2 (one mapping for all), managed resources first",
        Procedure { arch: Arch::Arm32Shared, ..linux_5_1() };
    /// Our own.
    Bindery = "bindery", "Bindery: one ledger, newest entry first", bindery();
}

/// No model has this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no model {asked:?}; there are {}", Model::ALL.iter().map(|m| m.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownModel {
    /// The name that was asked for, at most 40 characters of it.
    pub asked: String,
}

impl FromStr for Model {
    type Err = UnknownModel;

    fn from_str(text: &str) -> Result<Self, UnknownModel> {
        let unknown = || UnknownModel { asked: text.chars().take(40).collect() };
        Self::ALL.iter().copied().find(|model| model.name() == text).ok_or_else(unknown)
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
