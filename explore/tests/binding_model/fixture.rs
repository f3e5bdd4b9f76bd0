//! The modelled system: a handful of devices, their suppliers, and their drivers.

/// One of a fixture's drivers, by name.
pub(crate) type Driver = &'static str;

/// The pass-through owner: it takes only devices whose `driver_override` names it.
pub(crate) const GUEST: Driver = "guest";

/// One device of a fixture.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// The kernel driver of the device.
    pub(crate) driver: Driver,
    /// Devices that it needs, by place in the fixture.
    pub(crate) suppliers: &'static [usize],
    /// The IOMMU that it is behind, one of the suppliers. All devices behind one are one group.
    pub(crate) behind: Option<usize>,
}

/// Devices and drivers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixture {
    pub(crate) devices: &'static [Spec],
    pub(crate) drivers: &'static [Driver],
}

/// An IOMMU and two masters that it cannot keep apart: small enough for every state.
pub(crate) const SMALL: Fixture = Fixture {
    devices: &[
        Spec { name: "mmu", driver: "mmu", suppliers: &[], behind: None },
        Spec { name: "disk", driver: "master", suppliers: &[0], behind: Some(0) },
        Spec { name: "net", driver: "master", suppliers: &[0], behind: Some(0) },
    ],
    drivers: &["mmu", "master", GUEST],
};

/// A chain of four suppliers, two masters in a group, and consumers of one of them.
pub(crate) const LARGE: Fixture = Fixture {
    devices: &[
        Spec { name: "clock", driver: "clock", suppliers: &[], behind: None },
        Spec { name: "mmu", driver: "mmu", suppliers: &[0], behind: None },
        Spec { name: "disk", driver: "master", suppliers: &[0, 1], behind: Some(1) },
        Spec { name: "net", driver: "master", suppliers: &[1], behind: Some(1) },
        Spec { name: "phy", driver: "leaf", suppliers: &[3], behind: None },
        Spec { name: "led", driver: "leaf", suppliers: &[0, 4], behind: None },
    ],
    drivers: &["clock", "mmu", "master", "leaf", GUEST],
};

impl Fixture {
    /// Devices that need `supplier`.
    pub(crate) fn consumers(&self, supplier: usize) -> impl Iterator<Item = usize> {
        (0..self.devices.len()).filter(move |d| self.devices[*d].suppliers.contains(&supplier))
    }
}
