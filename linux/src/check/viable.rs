//! Checks whether a device and its group can be assigned.

use super::driver::{Target, did_you_mean, exists_or_loads, vfio_driver};
use super::{Precondition, interrupts};
use crate::inventory::{Config, Device, Inventory, Reset, rate_isolation};
use crate::obstacle::{Class, Findings, Obstacle};
use crate::path;
use crate::usage::Scene;

/// Devices that vfio-pci refuses by itself (`vfio_pci_dev_in_denylist`): Intel QuickAssist.
const DENIED: [(u16, u16); 6] =
    [(0x8086, 0x19e2), (0x8086, 0x19e3), (0x8086, 0x37c8), (0x8086, 0x37c9), (0x8086, 0x0435), (0x8086, 0x0443)];

/// Finds obstacles of moving `device` to `target`, its group's other members left out.
pub fn find(
    scene: Scene<'_>,
    device: &Device,
    target: &Target,
    noiommu: bool,
    findings: &mut Findings,
    preconditions: &mut Vec<Precondition>,
) {
    let label = device.label();
    let mut not_viable = |kind, what: String, remedy: &str| {
        findings.obstacle(Obstacle::new(&label, Class::NotViable, kind, what, remedy));
    };
    let config = Config::read(scene.face, device);
    if config.as_ref().is_some_and(Config::is_dead) {
        not_viable(
            "dead",
            format!(
                "{label} does not answer: its configuration space reads all ones (power state {})",
                scene.face.try_text(&device.attribute("power_state")).as_deref().unwrap_or("unknown").trim()
            ),
            "it may be powered off, in a failed link or gone: rescan the bus, or power-cycle the machine",
        );
    }
    if let Some(driver) = device.driver.as_deref()
        && !scene.face.exists(&format!("{}/unbind", device.driver_path(driver)))
        && scene.face.exists(&device.driver_path(driver))
    {
        not_viable(
            "suppressed",
            format!("the driver {driver} cannot be unbound: it has no unbind file (suppress_bind_attrs)"),
            "keep the driver from binding: blacklist its module, or boot with the override already set",
        );
    }
    match target {
        Target::Vfio => {
            if config.as_ref().map_or(device.class16() == Some(0x0604), Config::is_bridge) {
                not_viable(
                    "bridge",
                    format!("{label} is a bridge: VFIO takes only endpoints"),
                    "name the devices behind it instead",
                );
            }
            match (device.vendor, device.product) {
                (Some(vendor), Some(product)) if DENIED.contains(&(vendor, product)) && !denylist_off(scene) => {
                    not_viable(
                        "denylist",
                        format!("vfio-pci refuses {vendor:04x}:{product:04x} (its denylist)"),
                        "load vfio-pci with disable_denylist=1, if untrusted users cannot reach the device",
                    );
                }
                _ => {}
            }
            iommu(scene, device, noiommu, findings, preconditions);
            reset(scene, device, findings);
        }
        Target::Host | Target::Driver(_) | Target::Nothing => {}
    }
    target_driver(scene, device, target, findings);
}

fn denylist_off(scene: Scene<'_>) -> bool {
    let text = scene.face.try_text("/sys/module/vfio_pci/parameters/disable_denylist");
    text.is_some_and(|text| text.trim().starts_with(['Y', '1']))
}

fn target_driver(scene: Scene<'_>, device: &Device, target: &Target, findings: &mut Findings) {
    let label = device.label();
    let wanted = match target {
        Target::Vfio => {
            let Some(driver) = vfio_driver(&device.bus) else {
                let what = format!("there is no VFIO driver for the bus {}", device.bus);
                let remedy = "name a driver of this bus: bindctl plan DEV --to DRIVER";
                return findings.obstacle(Obstacle::new(&label, Class::NotViable, "no-driver", what, remedy));
            };
            driver.to_owned()
        }
        Target::Driver(name) => name.clone(),
        Target::Host | Target::Nothing => return,
    };
    if exists_or_loads(scene.face, device, &wanted) {
        return;
    }
    let remedy = match did_you_mean(scene.face, device, &wanted) {
        Some(near) if near != wanted => format!("did you mean {near}?"),
        _ => format!("install or build the module of {wanted} for this kernel"),
    };
    let what = format!("there is no driver {wanted} on the bus {}, and no module of that name", device.bus);
    findings.obstacle(Obstacle::new(&label, Class::NotViable, "no-driver", what, remedy));
}

fn iommu(
    scene: Scene<'_>,
    device: &Device,
    noiommu: bool,
    findings: &mut Findings,
    preconditions: &mut Vec<Precondition>,
) {
    let label = device.label();
    if noiommu {
        let path = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        let actual = scene.face.try_text(path).unwrap_or_default().trim().to_owned();
        preconditions.push(Precondition {
            what: "VFIO's mode without an IOMMU is enabled, which taints the kernel".into(),
            path: path.into(),
            wanted: "Y".into(),
            met: actual.starts_with(['Y', '1']),
            actual,
        });
        findings.warn(format!("{label} without an IOMMU can read and write all memory of this host"));
        return;
    }
    let mut not_viable = |kind, what: String, remedy: String| {
        findings.obstacle(Obstacle::new(&label, Class::NotViable, kind, what, remedy));
    };
    if let Some(group) = scene.inventory.group_of(device) {
        let reserved = group.reserved(scene.face);
        for region in reserved.iter().filter(|r| r.kind == "direct") {
            not_viable(
                "reserved-region",
                format!("the firmware owns a mapping of group {}: reserved region {region}", group.name),
                "the kernel will refuse the attach: look for a firmware option or update that drops the mapping".into(),
            );
        }
        if interrupts::not_remapped(scene.face) {
            not_viable(
                "interrupts",
                "interrupts are not remapped on this machine: VFIO will refuse the attach".into(),
                "enable interrupt remapping (firmware, intremap=on), or load vfio_iommu_type1 with \
                 allow_unsafe_interrupts=1 if the guest is trusted"
                    .into(),
            );
        }
        match group.strangers(scene.face) {
            Ok(members) => {
                for member in members {
                    if let Some(driver) = scene.face.link_name(&format!("{member}/driver")) {
                        not_viable(
                            "sibling",
                            format!(
                                "{} of the same group is on {driver}, and knows no driver_override",
                                path::name(&member)
                            ),
                            format!("unbind it: echo {} > {member}/driver/unbind", path::name(&member)),
                        );
                    }
                }
            }
            Err(error) => findings.warn(error.to_string()),
        }
        for region in reserved.iter().filter(|r| r.kind == "direct-relaxable") {
            let name = &group.name;
            findings.remark(format!("group {name} has a reserved region that the kernel releases: {region}"));
        }
        let isolation = rate_isolation(scene.face);
        if isolation.starts_with("asserted") {
            findings.warn(format!("the isolation of group {} is {isolation}", group.name));
        }
        return;
    }
    let device_tree = has_device_tree(scene, device);
    if scene.inventory.has_iommu() || device_tree && device.driver.is_none() {
        if device.driver.is_none() && device_tree {
            findings.warn(format!(
                "{label} has no IOMMU group yet: unknown until probed (with a device tree, groups come with the first probe)"
            ));
        } else {
            not_viable(
                "no-group",
                format!("{label} is not behind an IOMMU: it has no group"),
                "move it to a slot behind the IOMMU, or enable the IOMMU for it in the firmware".into(),
            );
        }
        return;
    }
    if scene.face.try_text("/sys/hypervisor/type").as_deref() == Some("xen") {
        return not_viable(
            "no-iommu",
            "there is no IOMMU for this system: it runs under Xen, which keeps the machine's for itself".into(),
            "hand the device to Xen, not to VFIO: xl pci-assignable-add; or start the machine without Xen".into(),
        );
    }
    not_viable(
        "no-iommu",
        "there is no IOMMU on this machine: no class/iommu entry, and no group".into(),
        "enable VT-d, AMD-Vi or the SMMU in the firmware and on the kernel command line (intel_iommu=on); in a virtual \
         machine, give it a virtual IOMMU; or accept no protection at all with --noiommu"
            .into(),
    );
}

fn has_device_tree(scene: Scene<'_>, device: &Device) -> bool {
    scene.face.exists("/sys/firmware/devicetree/base") || scene.face.exists(&device.attribute("of_node"))
}

/// Reason why a device without an IOMMU group cannot be given; `None` when it has one, or may get one with its first probe.
pub fn without_group(scene: Scene<'_>, device: &Device) -> Option<&'static str> {
    if device.group.is_some() || device.driver.is_none() && has_device_tree(scene, device) {
        return None;
    }
    Some(if scene.inventory.has_iommu() { "no IOMMU group" } else { "no IOMMU on this machine" })
}

fn reset(scene: Scene<'_>, device: &Device, findings: &mut Findings) {
    if device.bus != "pci" {
        return;
    }
    let label = device.label();
    match Reset::read(scene.face, scene.inventory, device) {
        Some(reset) if reset.methods.is_empty() => {
            findings.warn(format!("{label} cannot be reset: its state goes to the next user as it is"));
        }
        Some(reset) if reset.spreads_to.is_empty() => {
            findings.remark(format!("reset methods of {label}: {}", reset.methods.join(", ")));
        }
        Some(reset) => findings.warn(format!(
            "{} of {label} is \"{}\", which also resets {}",
            if reset.methods.len() == 1 { "the only reset method" } else { "the first reset method" },
            reset.methods[0],
            reset.spreads_to.join(", ")
        )),
        None => findings.remark(format!("the reset methods of {label} are not known")),
    }
}

/// The members of the device's group that keep it from being assigned: on a driver of the host's that uses DMA, and not
/// to be moved themselves.
pub fn group<'a>(inventory: &'a Inventory, device: &'a Device, moved: &[&str]) -> Vec<&'a Device> {
    inventory
        .siblings(device)
        .filter(|sibling| !sibling.leaves_dma_alone() && !moved.contains(&sibling.path.as_str()))
        .collect()
}
