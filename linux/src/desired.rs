//! The desired state of a host: a TOML file that says which device is to be where.
//!
//! ```toml
//! version = 1
//!
//! [[device]]
//! select = "0000:02:00.0"   # any way to name a device
//! expect = "8086:0a54"      # vendor:device; an address that has moved is noticed, not obeyed
//! serial = "PHLN9000A1"     # compared once it can be read
//! driver = "vfio"           # vfio, host, none, or a driver's name
//! owner = "qemu"            # of the nodes in /dev/vfio
//! hold-siblings = true
//! ```

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::check::Target;
use crate::face::Face;
use crate::inventory::{Device, Inventory};
use crate::path;
use crate::select::{select, serials};

/// Largest file that is read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// A desired-state file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Version of the schema.
    pub version: Spanned<u32>,
    /// The devices.
    #[serde(default, rename = "device")]
    pub devices: Vec<DesiredDevice>,
}

/// Desired state of one device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DesiredDevice {
    /// The device, named in any way.
    pub select: Spanned<String>,
    /// Vendor and device id that it must have; for a device that is not on PCI, nothing.
    pub expect: Option<Spanned<String>>,
    /// The serial number that it must have.
    pub serial: Option<Spanned<String>>,
    /// `vfio`, `host`, `none`, or a driver's name.
    pub driver: Spanned<String>,
    /// The user that gets the nodes in `/dev/vfio`.
    pub owner: Option<Spanned<String>>,
    /// Siblings on a driver of the host's are unbound for as long.
    #[serde(default)]
    pub hold_siblings: bool,
}

/// A desired-state file makes no sense, with the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct DesiredError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The mistake and its remedy.
    pub what: String,
    /// True when the file is right but the host is another one: the device has moved or was exchanged.
    pub identity: bool,
}

/// An entry and its device.
#[derive(Debug, Clone)]
pub struct Resolved<'a> {
    /// The device.
    pub device: &'a Device,
    /// Its target.
    pub to: Target,
    /// The entry.
    pub entry: DesiredDevice,
    /// Identities that could not be compared.
    pub warnings: Vec<String>,
}

/// The text of a desired-state file, for messages with lines.
pub struct Source<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
}

impl Source<'_> {
    /// The line that a place in the file is in, from 1.
    pub fn line(&self, span: &Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1
    }

    /// An error about a place in the file.
    pub fn error(&self, span: &Range<usize>, what: impl Into<String>) -> DesiredError {
        DesiredError { file: self.file.into(), line: self.line(span), what: what.into(), identity: false }
    }

    /// Reads the file's text.
    pub fn parse(&self) -> Result<Desired, DesiredError> {
        if self.text.len() > MAX_FILE {
            return Err(self.error(&(0..0), format!("more than {} KiB", MAX_FILE >> 10)));
        }
        let desired: Desired = toml::from_str(self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            self.error(&span, error.message().trim())
        })?;
        if *desired.version.get_ref() != 1 {
            let what = format!("version {} is not known; this program reads version 1", desired.version.get_ref());
            return Err(self.error(&desired.version.span(), what));
        }
        for entry in &desired.devices {
            if !path::is_name(entry.driver.get_ref()) {
                return Err(self.error(&entry.driver.span(), "driver must be vfio, host, none or a driver's name"));
            }
        }
        Ok(desired)
    }

    /// Finds the devices of all entries, and compares their identities. No device may be listed twice, or together with one
    /// that vanishes with it.
    pub fn resolve<'a>(
        &self,
        face: &dyn Face,
        inventory: &'a Inventory,
        desired: &Desired,
    ) -> Result<Vec<Resolved<'a>>, DesiredError> {
        let mut resolved: Vec<Resolved<'a>> = Vec::new();
        for entry in &desired.devices {
            let next = self.resolve_one(face, inventory, entry)?;
            if let Some(other) = resolved.iter().find(|r| r.device.path == next.device.path) {
                let line = self.line(&other.entry.select.span());
                let what = format!("{} is listed twice; the first time in line {line}", next.device.label());
                return Err(self.error(&entry.select.span(), what));
            }
            resolved.push(next);
        }
        for function in &resolved {
            // One of several that stays says nothing of the others.
            let takes_it =
                |other: &&Resolved<'_>| other.to != Target::Host && function.device.vanishes_with(other.device);
            if let Some(parent) = resolved.iter().find(takes_it) {
                let what = format!(
                    "{} vanishes when {} leaves its driver: list only one of them",
                    function.device.label(),
                    parent.device.label()
                );
                return Err(self.error(&function.entry.select.span(), what));
            }
        }
        Ok(resolved)
    }

    /// The entries that are applied by one plan each, by their numbers: devices of one IOMMU group can only go to VFIO together.
    pub fn plans(&self, resolved: &[Resolved<'_>]) -> Result<Vec<Vec<usize>>, DesiredError> {
        self.no_group_is_split(resolved)?;
        let mut plans: Vec<Vec<usize>> = Vec::new();
        for (index, next) in resolved.iter().enumerate() {
            let joins = |other: &Resolved<'_>| {
                let group = other.device.group.as_ref().filter(|_| other.to == Target::Vfio && next.to == Target::Vfio);
                group.is_some() && group == next.device.group.as_ref()
            };
            let Some(plan) = plans.iter_mut().find(|plan| joins(&resolved[plan[0]])) else {
                plans.push(vec![index]);
                continue;
            };
            let first = &resolved[plan[0]];
            let owner = |entry: &DesiredDevice| entry.owner.as_ref().map(|owner| owner.get_ref().clone());
            if owner(&first.entry) != owner(&next.entry) {
                let line = self.line(&first.entry.select.span());
                let what = format!(
                    "{} shares its IOMMU group, and so its node, with {} in line {line}: give both the same owner",
                    next.device.label(),
                    first.device.label()
                );
                return Err(self.error(&next.entry.select.span(), what));
            }
            plan.push(index);
        }
        Ok(plans)
    }

    /// Fails when one member of a group is to go to VFIO, and another one to a driver of the host's that uses DMA.
    fn no_group_is_split(&self, resolved: &[Resolved<'_>]) -> Result<(), DesiredError> {
        let stays = |entry: &Resolved<'_>| match &entry.to {
            Target::Host => true,
            Target::Driver(name) => !Device::driver_leaves_dma_alone(name),
            Target::Vfio | Target::Nothing => false,
        };
        for given in resolved.iter().filter(|entry| entry.to == Target::Vfio && entry.device.group.is_some()) {
            let Some(other) = resolved.iter().find(|other| other.device.group == given.device.group && stays(other))
            else {
                continue;
            };
            let what = format!(
                "{} is to go to {}, and {} of the same IOMMU group to VFIO (line {}): give both to VFIO or none, or list only the \
                 second one, with hold-siblings",
                other.device.label(),
                other.to,
                given.device.label(),
                self.line(&given.entry.select.span())
            );
            return Err(self.error(&other.entry.driver.span(), what));
        }
        Ok(())
    }

    /// Finds the device of one entry, and compares its identity.
    pub fn resolve_one<'a>(
        &self,
        face: &dyn Face,
        inventory: &'a Inventory,
        entry: &DesiredDevice,
    ) -> Result<Resolved<'a>, DesiredError> {
        let device = select(face, inventory, entry.select.get_ref())
            .map_err(|error| self.error(&entry.select.span(), error.to_string()))?;
        let warnings = self.identify(face, device, entry)?;
        let to = match entry.driver.get_ref().as_str() {
            "vfio" => Target::Vfio,
            "host" => Target::Host,
            "none" => Target::Nothing,
            name => Target::Driver(name.into()),
        };
        Ok(Resolved { device, to, entry: entry.clone(), warnings })
    }

    fn identify(&self, face: &dyn Face, device: &Device, entry: &DesiredDevice) -> Result<Vec<String>, DesiredError> {
        let mut warnings = Vec::new();
        let moved = |span: Range<usize>, what: String| DesiredError { identity: true, ..self.error(&span, what) };
        if let Some(expect) = &entry.expect {
            let ids = device.ids().unwrap_or_default();
            if !ids.eq_ignore_ascii_case(expect.get_ref()) {
                let what = format!(
                    "{} is {}, not {}: the device has moved or was exchanged; nothing was changed",
                    device.label(),
                    if ids.is_empty() { "not on PCI" } else { &ids },
                    expect.get_ref()
                );
                return Err(moved(expect.span(), what));
            }
        } else if device.bus == "pci" {
            let ids = device.ids().unwrap_or_default();
            return Err(self.error(&entry.select.span(), format!("{} needs expect = \"{ids}\"", device.label())));
        }
        if let Some(serial) = &entry.serial {
            let known = serials(face, device);
            if known.is_empty() {
                warnings.push(format!(
                    "the serial number of {} cannot be read while no driver of the host's is bound",
                    device.label()
                ));
            } else if !known.iter().any(|s| s.eq_ignore_ascii_case(serial.get_ref())) {
                let what = format!(
                    "{} has the serial number {}, not {}: the device has moved or was exchanged; nothing was changed",
                    device.label(),
                    known.join(", "),
                    serial.get_ref()
                );
                return Err(moved(serial.span(), what));
            }
        }
        Ok(warnings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Source { file: "bindctl.toml", text }.parse().unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        assert!(wrong("version = 1\ncolour = 3\n").starts_with("bindctl.toml:2: unknown field `colour`"));
        let key = wrong("version = 1\n\n[[device]]\nselect = \"a\"\ndriver = \"vfio\"\nonwer = \"me\"\n");
        assert!(key.starts_with("bindctl.toml:6: unknown field `onwer`"), "{key}");
        assert!(wrong("version = 2\n").starts_with("bindctl.toml:1: version 2"));
        assert!(
            wrong("version = 1\n[[device]]\nselect = \"a\"\ndriver = \"a/b\"\n").starts_with("bindctl.toml:4: driver")
        );
        assert!(wrong("version = \n").starts_with("bindctl.toml:1: "));
        assert!(wrong("").contains("version"));
    }
}
