//! Snapshots of a machine for people, tests and the control tree.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::refusals::Refusal;
use super::{LineInfo, Machine};
use crate::binding::Phase;
use crate::claim::ClaimInfo;
use crate::device::{Device, NodeId};
use crate::dma::QuarantineInfo;
use crate::iommu::{Group, IommuError};
use crate::link::LinkInfo;
use crate::power::{Line, PinnedSupply};
use crate::sync::atomic::Ordering;

/// Summary of a device.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Name on its bus.
    pub name: Arc<str>,
    /// Firmware label or path.
    pub node: String,
    /// Phase of its binding.
    pub phase: Phase,
    /// Name of the driver that holds it.
    pub driver: Option<&'static str>,
    /// Number of its IOMMU group.
    pub group: Option<u32>,
    /// Error of the last attempt to join its IOMMU, if that failed. The attempt is repeated when a driver binds the device,
    /// and the bind fails if this does. Until then the IOMMU treats the device as one that was never set up: blocked or
    /// passed through, depending on the hardware.
    pub not_joined: Option<IommuError>,
}

/// A device that has a driver and cannot be bound yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeferredDevice {
    /// Name on its bus.
    pub device: Arc<str>,
    /// Each missing supplier or condition with the reason, and the reason of a refused bind.
    pub on: Vec<String>,
}

/// A deferred device, what it waits for, and the reasons of refused binds.
pub(crate) struct Deferred {
    pub(crate) device: Arc<str>,
    pub(crate) on: Vec<MissingSupplier>,
    pub(crate) refused: Vec<Reason>,
}

/// A supplier or condition that a device waits for.
pub(crate) struct MissingSupplier {
    /// Label and path of its node.
    pub(crate) node: String,
    /// The device that has it and has not been bound.
    pub(crate) device: Option<Arc<str>>,
    pub(crate) reason: &'static str,
}

/// Reason of a refused bind.
pub(crate) struct Reason {
    /// The driver that was refused; `None` when firmware describes a need that cannot be met for any driver.
    pub(crate) driver: Option<&'static str>,
    pub(crate) reason: String,
}

/// Resources in use by a machine. Equal usage before and after a binding means that nothing was left (P4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResourceUsage {
    /// Page frames in use.
    pub frames: u64,
    /// Contiguous pages in use.
    pub contiguous: u64,
    /// Claims to registers, interrupt lines and other exclusive resources, without those of devices that the env drives.
    pub claims: usize,
    /// Interrupt lines held.
    pub irqs: usize,
    /// Services offered.
    pub services: usize,
    /// Clocks, power domains and reset lines switched on.
    pub supplies: usize,
    /// Those of them that are pinned: on only because their device was not shown to be quiesced.
    pub pinned_supplies: Vec<PinnedSupply>,
    /// DMA mappings of devices.
    pub mappings: usize,
    /// Bytes in bounce buffers.
    pub bounce: u64,
    /// Memory in quarantine.
    pub quarantine: String,
    /// Each group with its owner and domain.
    pub groups: Vec<String>,
    /// Each bound device with its driver and ledger.
    pub bindings: Vec<String>,
}

impl Machine {
    /// Every device, sorted by name.
    pub fn devices(&self) -> Vec<Arc<Device>> {
        let r = self.registry.lock();
        r.devices.values().filter_map(|n| r.device(*n).cloned()).collect()
    }

    /// The devices that `driver` holds, in the order in which its removal unbinds them: newest binding first.
    pub fn held_by(&self, driver: &str) -> Vec<Arc<Device>> {
        self.registry.lock().held_by(driver)
    }

    /// Summary of `device`.
    pub fn device_info(&self, device: &Device) -> DeviceInfo {
        DeviceInfo {
            name: Arc::clone(&device.desc().name),
            node: self.node_name(device.node()),
            phase: device.phase(),
            driver: device.driver(),
            group: self.iommus().membership(device).map(|m| m.group.id()),
            not_joined: *device.not_joined.lock(),
        }
    }

    /// Names of the drivers that may bind `device`, best first.
    pub fn candidates(&self, device: &Device) -> impl Iterator<Item = &'static str> + use<> {
        self.registry.lock().candidates(device, |d| d.name()).into_iter()
    }

    /// Devices that have a matching driver and are not bound: they miss a supplier or a condition, or the last bind was
    /// refused, which is retried once a resource that was short is returned.
    pub fn waiting(&self) -> Vec<DeferredDevice> {
        let info = |Deferred { device, on, refused }: Deferred| {
            let missing = on.into_iter().map(|m| alloc::format!("{}: {}", m.node, m.reason));
            let mut on: Vec<String> = missing.collect();
            on.extend(refused.into_iter().map(|r| match r.driver {
                Some(driver) => alloc::format!("{driver} was refused: {}", r.reason),
                None => r.reason,
            }));
            DeferredDevice { device, on }
        };
        self.deferred().into_iter().map(info).collect()
    }

    /// Contents of [`waiting`](Self::waiting) in parts: each device, the suppliers and conditions that it waits for, and the
    /// reasons of refused binds.
    pub(crate) fn deferred(&self) -> Vec<Deferred> {
        let r = self.registry.lock();
        let cycles = r.graph.cycles();
        let mut list = Vec::new();
        for device in r.devices.values().filter_map(|n| r.device(*n)) {
            if device.phase() != Phase::Unbound || !r.has_candidates(device) {
                continue;
            }
            let on: Vec<MissingSupplier> = r
                .graph
                .missing(device.node())
                .into_iter()
                .map(|s| {
                    let reason = match r.device(s) {
                        _ if cycles.iter().any(|c| c.contains(&s) && c.contains(&device.node())) => "in a cycle",
                        _ if r.is_condition(s) => "not fulfilled",
                        _ if r.nodes.info(s).is_some_and(|node| !node.enabled) => "disabled",
                        None => "no such device",
                        Some(d) if !r.has_candidates(d) => "no driver",
                        Some(_) => "not bound",
                    };
                    // A supplier below a device is named by its node: it may become a device of its own.
                    let named = |d: &&Arc<Device>| {
                        let by_subnode = device.desc().suppliers.iter().any(|link| link.is_subnode_of(s));
                        d.has_been_bound() || !by_subnode
                    };
                    let there = r.device(s).filter(named).map(|d| Arc::clone(&d.desc().name));
                    MissingSupplier { node: r.nodes.name(s), device: there, reason }
                })
                .collect();
            let applies = |refusal: &&Refusal| r.candidates(device, |d| d.name()).iter().any(|d| *d == refusal.driver);
            let refusal = r.refusals.get(&device.node()).filter(applies);
            let reasons: Vec<Reason> = match refusal {
                Some(refusal) => Vec::from([Reason { driver: Some(refusal.driver), reason: refusal.reason.clone() }]),
                None => {
                    self.unmet(device.desc()).map(|unmet| Reason { driver: None, reason: unmet.to_string() }).collect()
                }
            };
            if !on.is_empty() || !reasons.is_empty() {
                list.push(Deferred { device: Arc::clone(&device.desc().name), on, refused: reasons });
            }
        }
        list
    }

    /// Every cycle of devices that wait for each other, by node name.
    pub fn cycles(&self) -> Vec<Vec<String>> {
        let r = self.registry.lock();
        r.graph.cycles().into_iter().map(|c| c.into_iter().map(|n| r.nodes.name(n)).collect()).collect()
    }

    /// The supplier links of `device`.
    pub fn links(&self, device: &Device) -> Vec<LinkInfo> {
        let r = self.registry.lock();
        let supplier = |n| r.device(n).map_or_else(|| r.nodes.name(n), |d| d.name().to_string());
        r.graph
            .list(device.node())
            .map(|(s, property, state)| LinkInfo {
                supplier: supplier(s),
                consumer: device.name().to_string(),
                property: property.to_string(),
                state,
            })
            .collect()
    }

    /// The IOMMU groups, by number.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.iommus().groups()
    }

    /// Contents of the quarantine.
    pub fn quarantine(&self) -> Vec<QuarantineInfo> {
        self.quarantine_table().list()
    }

    /// Clocks, power domains and reset lines that stay on because their device was not shown to be quiesced.
    pub fn pinned_supplies(&self) -> Vec<PinnedSupply> {
        let kept = self.supplies().pinned();
        let r = self.registry.lock();
        let name = |n: NodeId| r.device(n).map_or_else(|| r.nodes.name(n), |d| d.name().to_string());
        let info = |(device, line): (NodeId, Line)| PinnedSupply {
            device: name(device),
            kind: line.resource_kind(),
            supplier: r.nodes.name(line.provider),
            args: line.args,
        };
        kept.into_iter().map(info).collect()
    }

    /// The ledger of a bound device, oldest entry first: number, kind, description, back-end.
    pub fn resources(&self, device: &Device) -> Vec<(u64, &'static str, String, String)> {
        device.binding().map(|b| b.bound().ledger.list()).unwrap_or_default()
    }

    /// All claims with their holders, registers first, by address.
    pub fn claims(&self) -> Vec<ClaimInfo> {
        self.claims.list()
    }

    /// Interrupt lines held by drivers, with the users that mask them.
    pub fn interrupt_lines(&self) -> Vec<LineInfo> {
        self.irqs().list()
    }

    /// Resources that the machine uses now.
    pub fn resource_usage(&self) -> ResourceUsage {
        let bindings = self
            .devices()
            .iter()
            .filter_map(|d| {
                let ledger: Vec<_> =
                    self.resources(d).into_iter().map(|(_, kind, what, by)| (kind, what, by)).collect();
                Some(alloc::format!("{}: {} {:?}", d.name(), d.driver()?, ledger))
            })
            .collect();
        ResourceUsage {
            frames: self.memory().frames().in_use(),
            contiguous: self.memory().cma().map_or(0, |c| c.in_use()),
            claims: self.claims.len() - self.claims_of_env(),
            irqs: self.irqs().len(),
            services: self.providers.len(),
            supplies: self.supplies().in_use(),
            pinned_supplies: self.pinned_supplies(),
            mappings: self.dma_state().mappings(),
            bounce: self.dma_state().bounce_bytes.load(Ordering::Relaxed),
            quarantine: self.quarantine_table().summary(),
            groups: self.groups().iter().map(|g| alloc::format!("{:?}", g.info())).collect(),
            bindings,
        }
    }
}
