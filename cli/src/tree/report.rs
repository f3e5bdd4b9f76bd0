//! The facts that the tree is drawn from, and its JSON.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use bindery::binding::Phase;
use bindery::device::{Device, NodeId, NodeInfo, PciIdentity};
use serde::Serialize;

use super::hardware::{DmaRow, InterruptRow, RegisterRow, resources};
use crate::session::Session;

/// Overview of a machine.
#[derive(Serialize, Debug)]
pub struct Report {
    /// Origin of the device tree: a file, or the board's name.
    pub origin: String,
    /// The board's name, when the tree gives one.
    pub model: Option<Arc<str>>,
    /// The board's `compatible`, most specific first.
    pub compatible: Vec<Arc<str>>,
    /// Devices: those that firmware describes, then those that drivers have found; parents before children.
    pub devices: Vec<DeviceRow>,
    /// Other enabled nodes with a `compatible`, parents before children.
    pub others: Vec<OtherRow>,
    /// IOMMU groups, by number.
    pub groups: Vec<GroupRow>,
    /// Devices that wait for each other in a circle.
    pub cycles: Vec<Vec<String>>,
    /// Oddities of the tree.
    pub notes: Vec<String>,
    /// Sums.
    pub counts: Counts,
}

/// A device.
#[derive(Serialize, Debug)]
pub struct DeviceRow {
    /// Name on its bus.
    pub name: Arc<str>,
    /// Its bus, as `/sys/bus` names it.
    pub bus: &'static str,
    /// Identity of a PCI function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pci: Option<PciRow>,
    /// Path of its node; `/devices/NAME` for one that firmware has no node for.
    pub node: Arc<str>,
    /// Label of its node, when the blob kept it.
    pub label: Option<Arc<str>>,
    /// Path of the node of the device above it.
    pub parent: Option<Arc<str>>,
    /// Its `compatible`, most specific first.
    pub compatible: Vec<Arc<str>>,
    /// Drivers that match it, best first.
    pub candidates: Vec<&'static str>,
    /// Its state.
    #[serde(flatten)]
    pub state: State,
    /// Its registers, in firmware order.
    pub registers: Vec<RegisterRow>,
    /// Its interrupt lines, in firmware order.
    pub interrupts: Vec<InterruptRow>,
    /// Its DMA properties.
    pub dma: DmaRow,
    /// Its suppliers.
    pub suppliers: Vec<SupplierRow>,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// The reason why it is in no group of its IOMMU, if it is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iommu_error: Option<String>,
}

/// Identity of a PCI function.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct PciRow {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class code: base class, subclass, programming interface.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
}

impl PciRow {
    fn of(identity: &PciIdentity) -> Self {
        let PciIdentity { vendor, device, class, revision, .. } = *identity;
        Self { vendor, device, class, revision }
    }
}

impl fmt::Display for PciRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}, class {:06x}, revision {:02x}", self.vendor, self.device, self.class, self.revision)
    }
}

/// State of a device.
#[derive(Serialize, Debug, PartialEq, Eq)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// A driver holds it.
    Bound {
        /// The driver.
        driver: &'static str,
    },
    /// The board itself drives it: it is present without a driver.
    Present,
    /// It has a driver, and suppliers are missing.
    Waiting {
        /// Each, with why it is not there.
        on: Vec<String>,
    },
    /// It has a driver, whose probe failed.
    Failed {
        /// The reason.
        error: String,
    },
    /// No driver matches it.
    NoDriver,
}

/// A supplier of a device.
#[derive(Serialize, Debug)]
pub struct SupplierRow {
    /// The supplying device, or its node when there is no such device.
    pub supplier: String,
    /// The properties that name it.
    pub properties: Vec<Arc<str>>,
    /// For an IOMMU: the streams that the device uses, as the firmware numbers them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<Vec<u32>>,
    /// State of the link, as Linux names it.
    pub state: String,
}

/// A node that is not a platform device.
#[derive(Serialize, Debug)]
pub struct OtherRow {
    /// Its path.
    pub node: Arc<str>,
    /// Path of the nearest node above it that is listed.
    pub parent: Option<Arc<str>>,
    /// Its `compatible`, most specific first.
    pub compatible: Vec<Arc<str>>,
}

/// An IOMMU group.
#[derive(Serialize, Debug)]
pub struct GroupRow {
    /// Number.
    pub id: u32,
    /// The instance that translates for it.
    pub iommu: String,
    /// Its devices.
    pub members: Vec<Arc<str>>,
    /// Its owner.
    pub owner: String,
    /// The domain in use.
    pub domain: Option<String>,
}

/// Sums of a report.
#[derive(Serialize, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Devices.
    pub devices: usize,
    /// Of these, held by a driver.
    pub bound: usize,
    /// Driven by the board itself.
    pub present: usize,
    /// With a driver, waiting for suppliers.
    pub waiting: usize,
    /// With a driver whose probe failed.
    pub failed: usize,
    /// Without a driver.
    pub no_driver: usize,
    /// Other enabled nodes with a `compatible`.
    pub others: usize,
    /// Registered drivers.
    pub drivers: usize,
    /// Supplier links.
    pub links: usize,
    /// IOMMU groups.
    pub groups: usize,
    /// Oddities in the tree, those left out included.
    pub notes: usize,
}

impl Report {
    /// Report of the host of `session`.
    pub fn of(session: &Session) -> Self {
        let look = Lookup::new(session);
        let described = &session.description;
        let of_firmware: BTreeSet<&str> = described.devices.iter().map(|desc| &*desc.name).collect();
        let first = described.devices.iter().filter_map(|desc| session.host.device(&desc.name));
        let found = session.host.devices().into_iter().filter(|device| !of_firmware.contains(device.name()));
        let devices: Vec<_> = first.chain(found).map(|device| look.device(&device)).collect();
        let others: Vec<_> = described
            .others
            .iter()
            .map(|o| OtherRow {
                node: look.path(o.node),
                parent: o.parent.map(|p| look.path(p)),
                compatible: o.compatible.clone(),
            })
            .collect();
        let groups: Vec<_> = session.host.groups().iter().map(|g| group(&g.info())).collect();
        let in_state = |wanted: fn(&State) -> bool| devices.iter().filter(|d| wanted(&d.state)).count();
        let counts = Counts {
            devices: devices.len(),
            bound: in_state(|s| matches!(s, State::Bound { .. })),
            present: in_state(|s| matches!(s, State::Present)),
            waiting: in_state(|s| matches!(s, State::Waiting { .. })),
            failed: in_state(|s| matches!(s, State::Failed { .. })),
            no_driver: in_state(|s| matches!(s, State::NoDriver)),
            others: others.len(),
            drivers: session.host.drivers().len(),
            links: devices.iter().map(|d| d.suppliers.len()).sum(),
            groups: groups.len(),
            notes: described.notes.len() + described.notes_left_out,
        };
        Self {
            origin: session.blob.origin.clone(),
            model: described.model.clone(),
            compatible: described.compatible.clone(),
            devices,
            others,
            groups,
            cycles: session.host.cycles(),
            notes: described.notes.iter().map(ToString::to_string).collect(),
            counts,
        }
    }
}

fn group(info: &bindery::iommu::GroupInfo) -> GroupRow {
    GroupRow {
        id: info.id,
        iommu: info.iommus.join(" + "),
        members: info.members.clone(),
        owner: info.owner.to_string(),
        domain: info.domain.as_ref().map(|(label, kind, _)| format!("{label} ({kind})")),
    }
}

/// Tables for looking up facts of devices.
struct Lookup<'a> {
    session: &'a Session,
    nodes: BTreeMap<NodeId, NodeInfo>,
    by_node: HashMap<NodeId, Arc<str>>,
    waiting: BTreeMap<Arc<str>, Vec<String>>,
}

impl<'a> Lookup<'a> {
    fn new(session: &'a Session) -> Self {
        Self {
            session,
            nodes: session.host.with_nodes(|nodes| nodes.iter().map(|(id, node)| (id, node.clone())).collect()),
            by_node: session.host.devices().iter().map(|d| (d.node(), Arc::clone(&d.desc().name))).collect(),
            waiting: session.host.waiting().into_iter().map(|w| (w.device, w.on)).collect(),
        }
    }

    fn path(&self, node: NodeId) -> Arc<str> {
        self.nodes.get(&node).map_or_else(|| "?".into(), |n| Arc::clone(&n.path))
    }

    fn device(&self, device: &Device) -> DeviceRow {
        let desc = device.desc();
        let info = self.session.host.device_info(device);
        let (registers, interrupts) = resources(desc, |node| self.path(node));
        DeviceRow {
            name: Arc::clone(&desc.name),
            bus: desc.bus.name(),
            pci: desc.pci.as_ref().map(PciRow::of),
            node: self.path(device.node()),
            label: self.nodes.get(&device.node()).and_then(|n| n.label.clone()),
            parent: desc.parent.map(|p| self.path(p)),
            compatible: desc.compatible.clone(),
            candidates: self.session.host.candidates(device).collect(),
            state: self.state(device),
            registers,
            interrupts,
            dma: DmaRow::of(&desc.dma),
            suppliers: self.suppliers(device),
            group: info.group,
            iommu_error: info.not_joined.map(|e| e.to_string()),
        }
    }

    fn state(&self, device: &Device) -> State {
        if let (Phase::Bound, Some(driver)) = (device.phase(), device.driver()) {
            return State::Bound { driver };
        }
        if self.session.host.env().env_owned(&device.desc().compatible) {
            return State::Present;
        }
        if self.session.host.candidates(device).next().is_none() {
            return State::NoDriver;
        }
        match self.waiting.get(device.name()) {
            Some(on) => State::Waiting { on: on.clone() },
            None => State::Failed {
                error: self.session.log.bind_error(device.name()).unwrap_or_else(|| "no probe was tried".into()),
            },
        }
    }

    /// The links of a device, each with all properties that ask for it.
    fn suppliers(&self, device: &Device) -> Vec<SupplierRow> {
        let needs = &device.desc().suppliers;
        let named: Vec<_> = needs
            .iter()
            .map(|s| self.by_node.get(&s.node).map_or_else(|| self.name(s.node), ToString::to_string))
            .collect();
        let links = self.session.host.links(device);
        links
            .into_iter()
            .map(|link| {
                let asked = || needs.iter().zip(&named).filter(|(_, name)| **name == link.supplier).map(|(s, _)| s);
                let mut properties: Vec<Arc<str>> = Vec::new();
                for s in asked() {
                    if !properties.contains(&s.property) {
                        properties.push(Arc::clone(&s.property));
                    }
                }
                if properties.is_empty() {
                    properties.push(link.property.into());
                }
                let streams = asked().filter(|s| s.translates()).map(|s| s.args.clone()).collect();
                SupplierRow { supplier: link.supplier, properties, streams, state: link.state.to_string() }
            })
            .collect()
    }

    fn name(&self, node: NodeId) -> String {
        self.nodes.get(&node).map_or_else(String::new, |n| match &n.label {
            Some(label) => format!("{label} ({})", n.path),
            None => n.path.to_string(),
        })
    }
}
