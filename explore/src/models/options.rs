//! Options of an exploration of a model.

use serde::{Deserialize, Serialize};

/// The time at which the IOMMU's driver is there.
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

/// A driver other than the disk controller's own, explored beside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriverVariant {
    /// A driver with a managed action that writes device registers, for example to stop a PHY.
    ManagedRegisterWrite,
    /// A driver that never unmaps a streaming mapping.
    ForgottenMapping,
    /// A driver whose `remove()` detaches the device from its arm32 mapping. Without effect elsewhere.
    DetachesItself,
}

impl DriverVariant {
    /// A description.
    pub const fn text(self) -> &'static str {
        match self {
            Self::ManagedRegisterWrite => "the driver has a managed action that writes its registers",
            Self::ForgottenMapping => "the driver forgets a streaming mapping",
            Self::DetachesItself => "the driver detaches its device from the arm32 mapping in remove()",
        }
    }
}

/// Options of an exploration of a model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Most failing calls on one path.
    pub faults: u32,
    /// Most preemptions on one path.
    pub preemptions: u32,
    /// The time at which the IOMMU's driver is there.
    pub boot: Boot,
    /// Drivers that are explored beside the disk controller's own.
    pub variants: Vec<DriverVariant>,
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
            variants: vec![DriverVariant::ManagedRegisterWrite],
            test_remove: false,
        }
    }
}
