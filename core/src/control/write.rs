//! Effects of writes to the files.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::error::{Refusal, truncate};
use super::node::{Dir, File};
use super::path::path_of;
use super::{PAGE, uevent};
use crate::device::Device;
use crate::driver::Errno;
use crate::iommu::{DomainKind, Group, GroupError};
use crate::machine::{BindError, Machine, UnbindError};

/// Performs the write of `value` to `file`. The caller has checked that it is writable.
pub(super) fn write(machine: &Arc<Machine>, file: &File, value: &str) -> Result<(), Refusal> {
    let line = value.strip_suffix('\n').unwrap_or(value);
    match file {
        File::Bind(driver) => bind(machine, driver, line),
        File::Unbind(driver) => unbind(machine, driver, line),
        File::DriversProbe => drivers_probe(machine, line),
        File::DriversAutoprobe => {
            machine.set_autoprobe(!value.starts_with('0'));
            Ok(())
        }
        File::DriverOverride(device) => driver_override(device, value),
        File::GroupType(group) => group_type(group, line),
        File::BusUevent => synthetic(machine, None, &Dir::Bus, value),
        File::DriverUevent(driver) => synthetic(machine, None, &Dir::Driver(driver), value),
        File::DeviceUevent(device) => synthetic(machine, Some(device), &Dir::Device(Arc::clone(device)), value),
        _ => Err(Refusal::new(Errno::EACCES, "can only be read")),
    }
}

fn synthetic(machine: &Machine, device: Option<&Arc<Device>>, object: &Dir, value: &str) -> Result<(), Refusal> {
    let asked = uevent::parse(value)?;
    uevent::send(machine, device, &path_of(machine, object), asked);
    Ok(())
}

fn bind(machine: &Arc<Machine>, driver: &str, device: &str) -> Result<(), Refusal> {
    machine.bind(device, driver).map_err(|error| Refusal::new(error.errno(), explain(machine, &error)))
}

fn unbind(machine: &Arc<Machine>, driver: &str, device: &str) -> Result<(), Refusal> {
    machine.unbind(device, driver).map_err(|error| {
        let why = match &error {
            UnbindError::NoDevice(name) => no_device(name),
            UnbindError::NotHeld { device, .. } => {
                let holder = machine.device(device).and_then(|d| d.driver());
                match holder {
                    Some(holder) if machine.binds_by_hand(holder) => {
                        format!("{error}, but by {holder}: write it to drivers/{holder}/unbind")
                    }
                    Some(holder) => {
                        format!("{error}, but by {holder}, which users may not unbind (suppress_bind_attrs)")
                    }
                    None => format!("{error}; it is not bound"),
                }
            }
        };
        Refusal::new(Errno::ENODEV, why)
    })
}

fn drivers_probe(machine: &Arc<Machine>, device: &str) -> Result<(), Refusal> {
    machine.probe(device).map(|_| ()).map_err(|error| {
        let errno = if matches!(error, BindError::NoDevice(_)) { Errno::ENODEV } else { Errno::EINVAL };
        Refusal::new(errno, explain(machine, &error))
    })
}

fn no_device(name: &str) -> String {
    format!("there is no device {:?}; /sys/bus/platform/devices lists them", truncate(name, 256))
}

/// Reason and remedy for a failed bind.
fn explain(machine: &Machine, error: &BindError) -> String {
    match error {
        BindError::NoDevice(name) => no_device(name),
        BindError::NoDriver(name) => format!("there is no driver {name} any more"),
        BindError::NoMatch { device, driver } => {
            let only = machine.device(device).and_then(|d| d.driver_override());
            let only = only.map_or_else(String::new, |o| format!(" (its driver_override allows only {o})"));
            format!("{error}{only}; write {driver} to the device's driver_override first")
        }
        BindError::Busy { device, driver } if machine.binds_by_hand(driver) => {
            format!("{error}; write {device} to drivers/{driver}/unbind first")
        }
        BindError::Busy { .. } => format!("{error}, which users may not unbind (suppress_bind_attrs)"),
        BindError::Deferred { .. } => format!("{error}; see /sys/kernel/debug/devices_deferred for the reasons"),
        BindError::Probe { .. } | BindError::Underway { .. } => error.to_string(),
    }
}

/// linux-6.12 `drivers/base/driver.c`, `driver_set_override`: the name ends at the first newline; an empty one clears.
fn driver_override(device: &Device, value: &str) -> Result<(), Refusal> {
    if value.len() >= PAGE - 1 {
        let why = format!("{} bytes are too long for a driver's name; the limit is {}", value.len(), PAGE - 2);
        return Err(Refusal::new(Errno::EINVAL, why));
    }
    let name = value.split('\n').next().filter(|name| !name.is_empty());
    device.set_driver_override(name);
    Ok(())
}

/// linux-6.12 `drivers/iommu/iommu.c`, `iommu_group_store_type`; stricter while the group is owned (P7).
fn group_type(group: &Group, word: &str) -> Result<(), Refusal> {
    let kind = match word {
        "identity" => DomainKind::Identity,
        "DMA" | "auto" => DomainKind::Strict,
        "DMA-FQ" => DomainKind::Lazy,
        _ => {
            let why = format!("{:?} is not a domain type; use identity, DMA, DMA-FQ or auto", truncate(word, 64));
            return Err(Refusal::new(Errno::EINVAL, why));
        }
    };
    group.set_kind(kind).map_err(|error| match error {
        GroupError::Owned { .. } => {
            let members: Vec<_> = group.info().members.iter().map(ToString::to_string).collect();
            let why = format!(
                "{error}; unbind its members first ({}): the type of a group in use is never changed, not even to DMA-FQ",
                members.join(", ")
            );
            Refusal::new(Errno::EPERM, why)
        }
        GroupError::Empty { .. } => Refusal::new(Errno::EPERM, error.to_string()),
        GroupError::BadKind(_)
        | GroupError::NoGroup
        | GroupError::NotTranslated
        | GroupError::Incomplete { .. }
        | GroupError::Reserved { .. } => {
            Refusal::new(Errno::EINVAL, format!("{error}: {} does not support it", group.info().iommus.join(" + ")))
        }
    })
}
