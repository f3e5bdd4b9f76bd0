//! Effects of writes to the files.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::error::{Refusal, truncate};
use super::node::{Dir, File};
use super::path::path_of;
use super::{PAGE, uevent};
use crate::device::{BusKind, Device};
use crate::driver::Errno;
use crate::iommu::{DomainKind, Group, GroupError};
use crate::machine::{BindError, Machine, UnbindError};
use crate::sync::atomic::Ordering;

/// Performs the write of `value` to `file`, which the caller has found to be writable, and returns the number of bytes
/// that it took. An empty write does nothing; of a longer one at most a page counts (linux-6.12 `fs/kernfs/file.c`,
/// `kernfs_fop_write_iter`; `fs/sysfs/file.c`, `sysfs_kf_write`).
pub(super) fn write(machine: &Arc<Machine>, file: &File, value: &[u8]) -> Result<usize, Refusal> {
    let value = &value[..value.len().min(PAGE)];
    if value.is_empty() {
        return Ok(0);
    }
    // Attributes read text: it ends at a NUL.
    let text = value.split(|b| *b == 0).next().unwrap_or_default();
    let line = text.strip_suffix(b"\n").unwrap_or(text);
    match file {
        File::Bind(bus, driver) => bind(machine, driver, &name_on(machine, *bus, line)?)?,
        File::Unbind(bus, driver) => unbind(machine, driver, &name_on(machine, *bus, line)?)?,
        File::DriversProbe(bus) => drivers_probe(machine, &name_on(machine, *bus, line)?)?,
        File::DriversAutoprobe => machine.set_autoprobe(!value.starts_with(b"0")),
        File::DriverOverride(device) => driver_override(device, value)?,
        File::GroupType(group) => group_type(group, &String::from_utf8_lossy(line))?,
        File::PowerControl(device) => match line {
            // Relaxed: a flag beside which nothing is written.
            b"auto" => device.power_auto.store(true, Ordering::Relaxed),
            b"on" => device.power_auto.store(false, Ordering::Relaxed),
            _ => return Err(Refusal::new(Errno::EINVAL, "is neither auto nor on")),
        },
        File::PowerAsync(device) => match line {
            b"enabled" => device.power_async.store(true, Ordering::Relaxed),
            b"disabled" => device.power_async.store(false, Ordering::Relaxed),
            _ => return Err(Refusal::new(Errno::EINVAL, "is neither enabled nor disabled")),
        },
        File::AutosuspendDelay => return Err(Refusal::new(Errno::EIO, "the device does not use autosuspend")),
        File::DevicesDeferred => return Err(Refusal::new(Errno::EINVAL, "can only be read")),
        File::BusUevent(bus) => synthetic(machine, None, &Dir::Bus(*bus), value)?,
        File::DriverUevent(bus, driver) => synthetic(machine, None, &Dir::Driver(*bus, driver), value)?,
        File::DeviceUevent(device) => synthetic(machine, Some(device), &Dir::Device(Arc::clone(device)), value)?,
        File::LinkUevent(link) => synthetic(machine, None, &Dir::Devlink(link.clone()), value)?,
        _ => return Err(Refusal::new(Errno::EACCES, "can only be read")),
    }
    Ok(value.len())
}

/// The name of a device that is on `bus`; every name is UTF-8. A device on no bus can be named on `platform`.
fn name_on(machine: &Machine, bus: BusKind, line: &[u8]) -> Result<String, Refusal> {
    let name = String::from_utf8_lossy(line).into_owned();
    let device = if name.as_bytes() == line { machine.device(&name) } else { None };
    let elsewhere = match device.map(|device| device.desc().bus) {
        Some(own) if own == bus || (own, bus) == (BusKind::Early, BusKind::Platform) => return Ok(name),
        Some(BusKind::Early) => "; it is on no bus".into(),
        Some(own) => format!("; it is on the bus {}", own.name()),
        None => String::new(),
    };
    Err(Refusal::new(Errno::ENODEV, no_device(bus, &name) + &elsewhere))
}

fn synthetic(machine: &Machine, device: Option<&Arc<Device>>, object: &Dir, value: &[u8]) -> Result<(), Refusal> {
    let asked = uevent::parse(&String::from_utf8_lossy(value))?;
    uevent::send(machine, device, &path_of(machine, object), asked);
    Ok(())
}

fn bind(machine: &Arc<Machine>, driver: &str, device: &str) -> Result<(), Refusal> {
    machine.bind(device, driver).map_err(|error| Refusal::new(error.errno(), explain(machine, &error)))
}

fn unbind(machine: &Arc<Machine>, driver: &str, device: &str) -> Result<(), Refusal> {
    machine.unbind(device, driver).map_err(|error| {
        let why = match &error {
            UnbindError::NoDevice(name) => removed_meanwhile(name),
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
    // As on Linux, an error of the driver's own is reported by an event, not by the write.
    machine.probe_here(device, |_| Ok(false)).map(|_| ()).map_err(|error| {
        let errno = if matches!(error, BindError::NoDevice(_)) { Errno::ENODEV } else { Errno::EINVAL };
        Refusal::new(errno, explain(machine, &error))
    })
}

/// For a device that was there when its name was looked up.
fn removed_meanwhile(name: &str) -> String {
    format!("there is no device {:?} any more", truncate(name, 256))
}

fn no_device(bus: BusKind, name: &str) -> String {
    format!("there is no device {:?}; /sys/bus/{}/devices lists them", truncate(name, 256), bus.name())
}

/// Reason and remedy for a failed bind.
fn explain(machine: &Machine, error: &BindError) -> String {
    match error {
        BindError::NoDevice(name) => removed_meanwhile(name),
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

/// linux-6.12 `drivers/base/driver.c`, `driver_set_override`: the name ends at the first newline or NUL; an empty one
/// clears.
fn driver_override(device: &Device, value: &[u8]) -> Result<(), Refusal> {
    if value.len() >= PAGE - 1 {
        let why = format!("{} bytes are too long for a driver's name; the limit is {}", value.len(), PAGE - 2);
        return Err(Refusal::new(Errno::EINVAL, why));
    }
    let name = value.split(|b| matches!(b, b'\n' | 0)).next().filter(|name| !name.is_empty());
    device.set_override_bytes(name);
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
        | GroupError::Bus(_)
        | GroupError::NoGroup
        | GroupError::NotTranslated
        | GroupError::Incomplete { .. }
        | GroupError::Reserved { .. } => {
            Refusal::new(Errno::EINVAL, format!("{error}: {} does not support it", group.info().iommus.join(" + ")))
        }
    })
}
