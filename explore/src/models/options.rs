//! What an exploration of a model includes.

use serde::{Deserialize, Serialize};

/// When the IOMMU's driver is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// After the first probe of the disk controller, as on the board of commit 376991db4b64.
    #[default]
    IommuLater,
    /// Before it.
    IommuFirst,
    /// Either: both are explored.
    Either,
}

/// Something that some drivers do, explored beside the driver that does not.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Habit {
    /// A managed action that writes device registers, for example to stop a PHY.
    ManagedRegisterWrite,
    /// A streaming mapping that is never taken down.
    ForgottenMapping,
    /// `remove()` detaches the device from its arm32 mapping itself. Without effect elsewhere.
    DetachesItself,
}

impl Habit {
    /// What the driver does, in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ManagedRegisterWrite => "the driver has a managed action that writes its registers",
            Self::ForgottenMapping => "the driver forgets a streaming mapping",
            Self::DetachesItself => "the driver detaches its device from the arm32 mapping in remove()",
        }
    }
}

/// What an exploration of a model includes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Most failing calls on one path.
    pub faults: u32,
    /// Most preemptions on one path.
    pub preemptions: u32,
    /// When the IOMMU's driver is there.
    pub boot: Boot,
    /// Habits of drivers that are explored beside the plain one.
    pub habits: Vec<Habit>,
    /// Linux is built to remove and probe again every driver once (`CONFIG_DEBUG_TEST_DRIVER_REMOVE`).
    pub test_remove: bool,
}

impl Default for Options {
    /// One fault, one preemption, the boot order of commit 376991db4b64, drivers with and without a managed register write.
    fn default() -> Self {
        Self {
            faults: 1,
            preemptions: 1,
            boot: Boot::default(),
            habits: vec![Habit::ManagedRegisterWrite],
            test_remove: false,
        }
    }
}
