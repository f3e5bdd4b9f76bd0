//! One step of a plan.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::face::Face;
use crate::inventory::{Device, Override};

/// The attribute that decides whether a device may sleep.
pub(super) const POWER: &str = "power/control";
/// The attribute that decides whether a PCI device that sleeps may lose its power.
pub(super) const D3COLD: &str = "d3cold_allowed";

/// A device, as a step names it: a step must be understood after the device's driver, and all it made, is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The bus.
    pub bus: String,
    /// The name on the bus.
    pub name: String,
    /// The path in `/sys/devices`.
    pub path: String,
}

impl From<&Device> for Place {
    fn from(device: &Device) -> Self {
        Self { bus: device.bus.clone(), name: device.name.clone(), path: device.path.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bus == "pci" { f.write_str(&self.name) } else { write!(f, "{}/{}", self.bus, self.name) }
    }
}

impl Place {
    /// A file of the device.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// A file of a driver on the device's bus.
    pub fn driver_file(&self, driver: &str, name: &str) -> String {
        format!("/sys/bus/{}/drivers/{driver}/{name}", self.bus)
    }

    /// The driver that is bound now.
    pub fn driver(&self, face: &dyn Face) -> Option<String> {
        face.link_name(&self.file("driver"))
    }

    fn as_device(&self) -> Device {
        Device { bus: self.bus.clone(), name: self.name.clone(), path: self.path.clone(), ..Device::default() }
    }
}

/// A change to the host, or a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Loads a module that brings a driver.
    LoadModule {
        /// The module.
        module: String,
        /// The bus of the driver.
        bus: String,
        /// The driver that must be there afterwards; its name may differ from the module's by dashes.
        driver: String,
    },
    /// Sets or clears `driver_override`.
    Override {
        /// The value before.
        from: Option<String>,
        /// The value after.
        to: Option<String>,
    },
    /// Unbinds a driver.
    Unbind {
        /// The driver.
        driver: String,
    },
    /// Binds a driver.
    Bind {
        /// The driver.
        driver: String,
    },
    /// Lets the kernel match a driver.
    Probe,
    /// Changes the number of virtual functions.
    Functions {
        /// The number before.
        from: u32,
        /// The number after.
        to: u32,
    },
    /// Changes whether new virtual functions are probed.
    Autoprobe {
        /// Before.
        from: bool,
        /// After.
        to: bool,
    },
    /// Sets whether the device may suspend at run time: `power/control`, `auto` or `on`.
    ///
    /// vfio-pci leaves `on` behind, and so do the drivers that have an opinion of their own.
    Power {
        /// The value.
        to: String,
    },
    /// Sets whether a PCI device that sleeps may lose its power: `d3cold_allowed`. Monitors and people switch it off for devices
    /// that do not come back.
    D3cold {
        /// The value.
        allowed: bool,
    },
    /// Compares the driver that is bound with the one that is wanted. Writes nothing.
    VerifyDriver {
        /// The driver.
        driver: String,
    },
    /// Compares the numbers of the nodes in `/dev/vfio` with the kernel's. Writes nothing.
    VerifyNodes,
    /// Gives a node in `/dev/vfio` to a user.
    Own {
        /// The user and group.
        user: u32,
        /// The user's group.
        group: u32,
    },
}

/// A condition on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// This driver, or none, is bound.
    Driver(Option<String>),
    /// Some driver is bound.
    SomeDriver,
    /// `driver_override` has this value.
    Override(Option<String>),
    /// A file of the device has this value.
    File(&'static str, String),
    /// A driver exists on a bus.
    DriverExists(String, String),
    /// The nodes' numbers agree with the kernel's.
    Nodes,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The device.
    pub device: Place,
    /// The action.
    pub action: Action,
    /// Actions that undo it, in order. Each of these is left out when what it aims at holds already.
    pub inverse: Vec<Action>,
    /// The requested device that the step is for, by label.
    pub for_device: String,
    /// The role of the step's device.
    pub role: Role,
}

/// Relation of a step's device to the device that was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The device itself, or a virtual function of it.
    Own,
    /// Another member of its IOMMU group, or a virtual function of that.
    Sibling,
}

impl Step {
    /// A step on `device`, for the device with this label and role.
    pub fn new(device: &Place, action: Action, inverse: Vec<Action>, (label, role): (&str, Role)) -> Self {
        Self { device: device.clone(), action, inverse, for_device: label.into(), role }
    }
}

impl Action {
    /// A word for programs and columns.
    pub fn word(&self) -> &'static str {
        match self {
            Self::LoadModule { .. } => "load-module",
            Self::Override { .. } => "driver_override",
            Self::Unbind { .. } => "unbind",
            Self::Bind { .. } => "bind",
            Self::Probe => "drivers_probe",
            Self::Functions { .. } => "sriov_numvfs",
            Self::Autoprobe { .. } => "sriov_drivers_autoprobe",
            Self::Power { .. } => "power-control",
            Self::D3cold { .. } => "d3cold-allowed",
            Self::VerifyDriver { .. } => "verify-driver",
            Self::VerifyNodes => "verify-node",
            Self::Own { .. } => "owner",
        }
    }

    /// The file that is written, and the value; `None` for a step that writes no file.
    pub fn write(&self, device: &Place) -> Option<(String, String)> {
        let (path, value) = match self {
            Self::Override { to, .. } => (device.file("driver_override"), to.clone().unwrap_or_default() + "\n"),
            Self::Unbind { driver } => (device.driver_file(driver, "unbind"), device.name.clone()),
            Self::Bind { driver } => (device.driver_file(driver, "bind"), device.name.clone()),
            Self::Probe => (format!("/sys/bus/{}/drivers_probe", device.bus), device.name.clone()),
            Self::Functions { to, .. } => (device.file("sriov_numvfs"), to.to_string()),
            Self::Autoprobe { to, .. } => (device.file("sriov_drivers_autoprobe"), u32::from(*to).to_string()),
            Self::Power { to } => (device.file(POWER), to.clone()),
            Self::D3cold { allowed } => (device.file(D3COLD), u32::from(*allowed).to_string()),
            Self::LoadModule { .. } | Self::VerifyDriver { .. } | Self::VerifyNodes | Self::Own { .. } => return None,
        };
        Some((path, value))
    }

    /// Precondition.
    pub fn before(&self) -> Condition {
        match self {
            Self::LoadModule { .. }
            | Self::Power { .. }
            | Self::D3cold { .. }
            | Self::VerifyDriver { .. }
            | Self::VerifyNodes => Condition::Always,
            Self::Override { from, .. } => Condition::Override(from.clone()),
            Self::Unbind { driver } => Condition::Driver(Some(driver.clone())),
            Self::Bind { .. } | Self::Probe => Condition::Driver(None),
            Self::Functions { from, .. } => Condition::File("sriov_numvfs", from.to_string()),
            Self::Autoprobe { from, .. } => Condition::File("sriov_drivers_autoprobe", u32::from(*from).to_string()),
            Self::Own { .. } => Condition::Nodes,
        }
    }

    /// Postcondition.
    pub fn after(&self) -> Condition {
        match self {
            Self::LoadModule { bus, driver, .. } => Condition::DriverExists(bus.clone(), driver.clone()),
            Self::Override { to, .. } => Condition::Override(to.clone()),
            Self::Unbind { .. } => Condition::Driver(None),
            Self::Bind { driver } | Self::VerifyDriver { driver } => Condition::Driver(Some(driver.clone())),
            Self::Probe => Condition::SomeDriver,
            Self::Functions { to, .. } => Condition::File("sriov_numvfs", to.to_string()),
            Self::Autoprobe { to, .. } => Condition::File("sriov_drivers_autoprobe", u32::from(*to).to_string()),
            Self::Power { to } => Condition::File(POWER, to.clone()),
            Self::D3cold { allowed } => Condition::File(D3COLD, u32::from(*allowed).to_string()),
            Self::VerifyNodes | Self::Own { .. } => Condition::Nodes,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoadModule { module, .. } => write!(f, "load the module {module}"),
            Self::Override { to: Some(to), .. } => write!(f, "driver_override {to}"),
            Self::Override { to: None, .. } => f.write_str("driver_override cleared"),
            Self::Unbind { driver } => write!(f, "unbind from {driver}"),
            Self::Bind { driver } => write!(f, "bind to {driver}"),
            Self::Probe => f.write_str("drivers_probe: let the kernel match a driver"),
            Self::Functions { from, to } => write!(f, "sriov_numvfs {from} to {to}"),
            Self::Autoprobe { to, .. } => write!(f, "sriov_drivers_autoprobe {}", u32::from(*to)),
            Self::Power { to } => write!(f, "power/control {to}"),
            Self::D3cold { allowed } => write!(f, "d3cold_allowed {}", u32::from(*allowed)),
            Self::VerifyDriver { driver } => write!(f, "verify that the driver is {driver}"),
            Self::VerifyNodes => f.write_str("verify the node's number in /dev/vfio"),
            Self::Own { user, group } => write!(f, "give the nodes in /dev/vfio to user {user}, group {group}"),
        }
    }
}

impl Condition {
    /// Compares with the host. The error says what is there instead, or what could not be read within `deadline`.
    pub fn check(&self, face: &dyn Face, device: &Place, deadline: Duration) -> Result<(), String> {
        let same = |actual: String, wanted: &str, what: &str| {
            if actual == wanted { Ok(()) } else { Err(format!("{what} of {device} is {actual}, not {wanted}")) }
        };
        match self {
            Self::Always | Self::Nodes => Ok(()),
            Self::Driver(wanted) => {
                let name = |driver: &Option<String>| driver.clone().unwrap_or_else(|| "none".into());
                same(name(&device.driver(face)), &name(wanted), "the driver")
            }
            Self::SomeDriver => match device.driver(face) {
                Some(_) => Ok(()),
                None => Err(format!("no driver was bound to {device}")),
            },
            Self::Override(wanted) => match device.as_device().driver_override_within(face, deadline) {
                Override::Unread(error) => Err(error.to_string()),
                found => {
                    let name = |value: Option<&str>| value.unwrap_or("empty").to_owned();
                    same(name(found.driver()), &name(wanted.as_deref()), "driver_override")
                }
            },
            // Reading `sriov_numvfs` takes the device's lock.
            Self::File(file, wanted) => match face.text_within(&device.file(file), deadline) {
                Ok(text) => same(text.trim().into(), wanted, file),
                Err(error) => Err(error.to_string()),
            },
            Self::DriverExists(bus, driver) => {
                if face.exists(&format!("/sys/bus/{bus}/drivers/{driver}")) {
                    Ok(())
                } else {
                    Err(format!("there is no driver {driver} on the bus {bus}"))
                }
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("nothing"),
            Self::Driver(Some(driver)) => write!(f, "driver is {driver}"),
            Self::Driver(None) => f.write_str("no driver"),
            Self::SomeDriver => f.write_str("a driver is bound"),
            Self::Override(Some(driver)) => write!(f, "driver_override is {driver}"),
            Self::Override(None) => f.write_str("driver_override is empty"),
            Self::File(file, value) => write!(f, "{file} is {value}"),
            Self::DriverExists(bus, driver) => write!(f, "driver {driver} on {bus}"),
            Self::Nodes => f.write_str("the numbers of the nodes in /dev/vfio are the kernel's"),
        }
    }
}
