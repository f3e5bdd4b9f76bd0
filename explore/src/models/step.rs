//! Set-up and tear-down steps of a binding, under the names that Linux gives them.

/// Makes an enum of steps with their function name in Linux, a sentence, and a coverage point.
macro_rules! steps {
    ($(#[$doc:meta])* $enum:ident, $prefix:literal: $($name:ident = $call:literal, $text:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $enum { $(#[doc = $text] $name,)* }

        impl $enum {
            /// All steps, in the order of the documentation's tables.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The function that does it in Linux, or its name here when there is none.
            pub const fn call(self) -> &'static str { match self { $(Self::$name => $call,)* } }
            /// A description.
            pub const fn text(self) -> &'static str { match self { $(Self::$name => $text,)* } }
            /// The coverage point.
            pub(super) const fn coverage_point(self) -> &'static str {
                match self { $(Self::$name => concat!($prefix, " ", $call),)* }
            }
        }
    };
}

steps! {
    /// A set-up step. Only steps that have an effect in the model are listed.
    SetUp, "set-up":
    CheckSuppliers = "device_links_check_suppliers", "checks the suppliers; their links become `consumer probing`";
    DevresEmpty = "devres list empty?", "looks whether an earlier driver left managed resources";
    SetDriver = "dev->driver = drv", "says which driver the device has";
    Pinctrl = "pinctrl_bind_pins", "takes the pins, as the oldest managed resource";
    DmaConfigure = "bus->dma_configure", "sets DMA translation up";
    ClaimGroup = "iommu_device_use_default_domain", "counts the device as a user of its group";
    NotifyBind = "BIND_DRIVER", "tells the bus that a binding begins";
    SysfsAdd = "driver_sysfs_add", "makes the `driver` links";
    Activate = "pm_domain->activate", "makes the power domain ready";
    PmAttach = "dev_pm_domain_attach", "switches the power domain on";
    Probe = "drv->probe", "runs the driver's probe";
    DevGroups = "device_add_groups", "makes the driver's files";
    Bound = "driver_bound", "says that the device is bound; links become `active`";
}

steps! {
    /// A tear-down step. Only steps that have an effect in the model are listed.
    TearDown, "tear-down":
    NotifyUnbind = "UNBIND_DRIVER", "tells the bus that tear-down begins";
    RemoveGroups = "device_remove_groups", "takes the driver's files away";
    Remove = "drv->remove", "stops the device; the driver releases what is not managed";
    PmDetach = "dev_pm_domain_detach", "switches the power domain off";
    SysfsRemove = "driver_sysfs_remove", "takes the `driver` links away";
    NotifyNotBound = "DRIVER_NOT_BOUND", "tells the bus that there is no binding";
    DevresGroup = "bus->dma_cleanup", "stops counting the device as a user of its group";
    Devres = "devres_release_all", "gives the managed resources back, newest first";
    Teardown = "arch_teardown_dma_ops", "tears DMA translation down";
    ClearDriver = "dev->driver = NULL", "says that the device has no driver";
    ClearData = "drvdata = NULL", "forgets the driver's data";
    Dismiss = "pm_domain->dismiss", "undoes the power domain's activation";
    ReleaseLinks = "device_links_driver_cleanup", "gives the links to the suppliers back";
    NotifyUnbound = "UNBOUND_DRIVER", "tells the bus that the binding is over";
}

impl SetUp {
    /// Returns true when the call itself can fail. Failures inside the driver's probe are chosen there.
    pub(super) const fn is_fallible(self) -> bool {
        use SetUp::{Activate, DevGroups, DmaConfigure, Pinctrl, PmAttach, SysfsAdd};
        matches!(self, Pinctrl | DmaConfigure | SysfsAdd | Activate | PmAttach | DevGroups)
    }

    /// Returns true when later steps depend on the result of this one.
    pub(super) const fn is_depended_on(self) -> bool {
        matches!(self, Self::CheckSuppliers | Self::DmaConfigure | Self::ClaimGroup | Self::PmAttach)
    }

    /// Returns true when the result of this one works only while links, power, group and translation last.
    pub(super) const fn depends_on_earlier(self) -> bool {
        matches!(self, Self::DmaConfigure | Self::Probe)
    }

    /// The tear-down step that undoes this one, if the model has any.
    pub const fn undone_by(self) -> Option<TearDown> {
        Some(match self {
            Self::CheckSuppliers => TearDown::ReleaseLinks,
            Self::SetDriver => TearDown::ClearDriver,
            Self::DmaConfigure => TearDown::Teardown,
            Self::ClaimGroup => TearDown::DevresGroup,
            Self::SysfsAdd => TearDown::SysfsRemove,
            Self::Activate => TearDown::Dismiss,
            Self::PmAttach => TearDown::PmDetach,
            // The pins are the oldest managed resource; the newest come from the probe.
            Self::Probe => TearDown::Devres,
            Self::DevGroups => TearDown::RemoveGroups,
            Self::DevresEmpty | Self::Pinctrl | Self::NotifyBind | Self::Bound => return None,
        })
    }
}
