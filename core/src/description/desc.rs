//! Description of a device, independent of the firmware interface that it comes from.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::{InterruptMap, IrqLine, MessageMap, MessageTarget, NodeId, Trigger};
use crate::addr::{DeviceAddr, PhysAddr};

/// Type of the bus that a device is on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BusKind {
    /// Memory-mapped devices that firmware describes.
    Platform,
    /// Peripherals of Arm's kind (`arm,primecell`), which have registers with their identity.
    Amba,
    /// PCI and PCI Express: functions behind a host bridge.
    Pci,
    /// No bus: Linux serves the node before it makes devices (`IRQCHIP_DECLARE`, `CLK_OF_DECLARE`), so that `/sys` has no
    /// device for it. The control tree lists it in `/sys/kernel/bindery/early` alone.
    Early,
}

impl BusKind {
    /// The bus's directory name under `/sys/bus`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Amba => "amba",
            Self::Pci => "pci",
            Self::Early => "early",
        }
    }
}

/// Identity of a PCI function, from its configuration space.
///
/// As `compatible` values it has names of the *PCI Bus Binding to IEEE 1275* 2.1 (2.5), and one for its base class: by them drivers
/// match. The name of the subsystem alone, which that list has too, is left out: it may be another device's.
///
/// ```
/// use bindery::device::PciIdentity;
///
/// let nvme = PciIdentity { vendor: 0x144d, device: 0xa808, subsystem: None, class: 0x01_0802, revision: 0, bars: vec![0],
///     bridges: vec![] };
/// let names: Vec<_> = nvme.compatible().collect();
/// assert_eq!(names, ["pci144d,a808.0", "pci144d,a808", "pciclass,010802", "pciclass,0108", "pciclass,01"]);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PciIdentity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Vendor and device ID of the subsystem.
    pub subsystem: Option<(u16, u16)>,
    /// Class code in 24 bits: base class, subclass, programming interface.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// BAR index of each of the description's registers, in their order.
    pub bars: Vec<u8>,
    /// Names of the bridges between it and its host bridge, the nearest one first.
    pub bridges: Vec<Arc<str>>,
}

impl PciIdentity {
    /// The names by which drivers match, most specific first.
    pub fn compatible(&self) -> impl Iterator<Item = String> {
        let Self { vendor, device, subsystem, class, revision, .. } = *self;
        let with_subsystem = subsystem.map(|(v, d)| {
            let both = pci_subsystem_name((vendor, device), (v, d));
            [format!("{both}.{revision:x}"), both]
        });
        let plain = [
            format!("pci{vendor:x},{device:x}.{revision:x}"),
            pci_name(vendor, device),
            pci_class_name(class, 24),
            pci_class_name(class, 16),
            pci_class_name(class, 8),
        ];
        with_subsystem.into_iter().flatten().chain(plain)
    }
}

/// Name of a device ID, without leading zeros.
pub(crate) fn pci_name(vendor: u16, device: u16) -> String {
    format!("pci{vendor:x},{device:x}")
}

/// Name of a device ID with that of its subsystem.
pub(crate) fn pci_subsystem_name((vendor, device): (u16, u16), subsystem: (u16, u16)) -> String {
    format!("pci{vendor:x},{device:x}.{:x}.{:x}", subsystem.0, subsystem.1)
}

/// Name of the highest `bits` (8, 16 or 24) of a class code.
pub(crate) fn pci_class_name(class: u32, bits: usize) -> String {
    let digits = bits / 4;
    format!("pciclass,{:0digits$x}", (class & 0xff_ffff) >> (24 - bits))
}

/// Registers or an interrupt of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Registers, in CPU addresses.
    Mem {
        /// First byte.
        base: PhysAddr,
        /// Bytes.
        len: u64,
    },
    /// An interrupt line.
    Irq {
        /// The line at the machine's interrupt controller.
        line: IrqLine,
        /// Its trigger type.
        trigger: Trigger,
    },
    /// An interrupt line of another controller, which is a device itself.
    IrqBehind {
        /// The controller's node.
        controller: NodeId,
        /// The specifier cells, for the controller's driver to read.
        specifier: Vec<u32>,
    },
}

/// Kind of service that a supplier provides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SupplierKind {
    /// A clock (`clocks`).
    Clock,
    /// A power domain (`power-domains`).
    Power,
    /// A reset line (`resets`).
    Reset,
    /// Address translation (`iommus`, `iommu-map`).
    Iommu,
    /// An interrupt (`interrupts`, `interrupts-extended`, `interrupt-map`).
    Interrupt,
    /// A supply voltage (`*-supply`).
    Regulator,
    /// Anything else that must be there first (`phys`, `dmas`, `*-gpios`, a main instance, ...).
    Other,
}

/// Reference from a device to one of its suppliers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Supplier {
    /// The supplying device; the referenced node itself when it belongs to no device.
    pub node: NodeId,
    /// The node that the property references: `node`, or one below it that is not a device of its own (a pin group, a
    /// regulator of a PMIC).
    pub target: NodeId,
    /// Kind of service that it provides.
    pub kind: SupplierKind,
    /// Property that holds the reference, for reports: `iommus`.
    pub property: Arc<str>,
    /// The specifier cells after the reference.
    pub args: Vec<u32>,
}

impl Supplier {
    /// True for an IOMMU that translates the device's own accesses (`iommus`). An `iommu-map` is about the devices
    /// behind a bridge; the bridge itself is only probed after that IOMMU.
    pub fn translates(&self) -> bool {
        self.kind == SupplierKind::Iommu && &*self.property != IOMMU_MAP
    }

    /// True when firmware names a node below that of the device `supplier`, which may become a device of its own.
    pub(crate) fn is_subnode_of(&self, supplier: NodeId) -> bool {
        self.node == supplier && self.target != supplier && self.imposes_order()
    }

    /// True when the supplier must be bound first. False for a link between ports (`remote-endpoint`): both of its ends
    /// name each other, so it gives no order.
    pub fn imposes_order(&self) -> bool {
        &*self.property != REMOTE_ENDPOINT
    }
}

/// Property that gives the devices behind a bridge their IOMMU.
const IOMMU_MAP: &str = "iommu-map";

/// Property that joins two ports of a graph.
const REMOTE_ENDPOINT: &str = "remote-endpoint";

/// Dependency that cannot be met: its reference cannot be parsed, or leads to a disabled node that provides more than a
/// clock. The device is not probed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmet {
    /// The property: `clocks`.
    pub property: Arc<str>,
    /// Kind of service that is needed.
    pub kind: SupplierKind,
    /// Reason, as in the text of the [note](crate::firmware::fdt::Note).
    pub reason: Arc<str>,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.reason)
    }
}

/// Window through which a device's bus reaches memory (`dma-ranges`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DmaRange {
    /// Bus address of the window's first byte.
    pub bus: u64,
    /// Physical address of the window's first byte.
    pub phys: PhysAddr,
    /// Bytes.
    pub len: u64,
}

/// Type of a reserved region (Linux: `enum iommu_resv_type`); the names are those in
/// `/sys/kernel/iommu_groups/N/reserved_regions`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RegionKind {
    /// Identity-mapped in every domain, from the moment that the IOMMU is bound: firmware, or the device by itself,
    /// uses it at any time. The device is not given to pass-through owners.
    Direct,
    /// As [`Direct`](Self::Direct), but needed only until a driver or owner takes over the device: a pass-through owner
    /// may have it, without the mapping. Device trees cannot express this; other descriptions can.
    DirectRelaxable,
    /// Never used as a device address, and nothing is mapped there.
    Reserved,
    /// Not used as a device address: writes there are interrupts.
    Msi,
    /// Where the core maps the doorbells of messages in a pass-through owner's domain, whose owner chooses all other addresses
    /// (Linux: `IOMMU_RESV_SW_MSI`, which has the same name as [`Msi`](Self::Msi)). Other domains use it as any other range.
    SoftwareMsi,
}

impl RegionKind {
    /// Name in `reserved_regions`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::DirectRelaxable => "direct-relaxable",
            Self::Reserved => "reserved",
            Self::Msi | Self::SoftwareMsi => "msi",
        }
    }

    /// True when the region is identity-mapped.
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::DirectRelaxable)
    }
}

/// Reserved range of a device's IOVA space (`memory-region` of the device with `iommu-addresses` of the region).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ReservedRegion {
    /// First device address; for a direct region also the physical address.
    pub first: DeviceAddr,
    /// Last device address (inclusive), not below the first.
    pub last: DeviceAddr,
    /// Type of the region.
    pub kind: RegionKind,
}

impl ReservedRegion {
    /// That for the doorbells of a device that sends messages, at the addresses of Linux's drivers for Arm's SMMUs
    /// (`MSI_IOVA_BASE`, `MSI_IOVA_LENGTH`).
    pub(crate) const DOORBELLS: Self =
        Self { first: DeviceAddr(0x800_0000), last: DeviceAddr(0x80f_ffff), kind: RegionKind::SoftwareMsi };
}

/// DMA properties of a device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DmaDesc {
    /// Its accesses snoop CPU caches (`dma-coherent`).
    pub coherent: bool,
    /// Windows onto memory; empty means that bus and physical addresses are the same, unless `unreadable` is set.
    /// Behind an IOMMU they are the device addresses that the bus carries to it.
    pub ranges: Vec<DmaRange>,
    /// Reason why the nearest `dma-ranges` cannot be used. The device can do no DMA.
    pub unreadable: Option<Arc<str>>,
    /// Reserved regions of its IOVA space.
    pub reserved: Vec<ReservedRegion>,
}

/// Firmware's description of a device.
///
/// ```
/// use bindery::addr::PhysAddr;
/// use bindery::device::{DeviceDesc, Resource};
///
/// let mut uart = DeviceDesc::new("1000.serial");
/// uart.compatible.push("acme,uart".into());
/// uart.resources.push(Resource::Mem { base: PhysAddr(0x1000), len: 0x100 });
/// uart.properties.push(("current-speed".into(), 115_200_u32.to_be_bytes().to_vec()));
/// assert_eq!(uart.property("current-speed"), Some(&[0, 1, 0xc2, 0][..]));
/// assert_eq!(uart.property("clock-frequency"), None);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceDesc {
    /// Name on its bus: `ee300000.sata`.
    pub name: Arc<str>,
    /// Its firmware node.
    pub node: Option<NodeId>,
    /// Node of the nearest ancestor that is a device.
    pub parent: Option<NodeId>,
    /// Its bus.
    pub bus: BusKind,
    /// Values of `compatible`, most specific first.
    pub compatible: Vec<Arc<str>>,
    /// Identity on the bus `pci`.
    pub pci: Option<PciIdentity>,
    /// Registers and interrupts, each of the two in firmware order.
    pub resources: Vec<Resource>,
    /// Interrupts of the devices behind it, when it is a bridge whose firmware says them.
    pub interrupt_map: Option<InterruptMap>,
    /// Receiver of its messages (MSI), where firmware says it; the target knows which addresses that has
    /// ([`Env::alloc_vectors`](crate::env::Env::alloc_vectors)).
    pub messages: Option<MessageTarget>,
    /// Receivers of the messages of the devices behind it, when it is a bridge.
    pub message_map: Option<MessageMap>,
    /// Suppliers, in firmware order.
    pub suppliers: Vec<Supplier>,
    /// Dependencies that cannot be met, in firmware order.
    pub unmet: Vec<Unmet>,
    /// Dependencies that cannot be met of some device behind this bridge; nobody knows of which one.
    pub unmet_behind: Vec<Unmet>,
    /// DMA properties.
    pub dma: DmaDesc,
    /// Further properties of at most 256 bytes (`renesas,ipmmu-main`): name and raw value.
    pub properties: Vec<(Arc<str>, Vec<u8>)>,
}

impl DeviceDesc {
    /// A platform device called `name`, without resources and suppliers.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            node: None,
            parent: None,
            bus: BusKind::Platform,
            compatible: Vec::new(),
            pci: None,
            resources: Vec::new(),
            interrupt_map: None,
            messages: None,
            message_map: None,
            suppliers: Vec::new(),
            unmet: Vec::new(),
            unmet_behind: Vec::new(),
            dma: DmaDesc::default(),
            properties: Vec::new(),
        }
    }

    /// Raw value of a property, if it is present.
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        self.properties.iter().find(|(n, _)| &**n == name).map(|(_, v)| v.as_slice())
    }

    /// True when an entry of `iommu-map` covers the function with requester ID `rid`.
    pub(crate) fn maps_requester(&self, rid: u32) -> bool {
        let mask = self.property("iommu-map-mask").and_then(<[u8]>::first_chunk::<4>);
        let rid = rid & mask.map_or(u32::MAX, |b| u32::from_be_bytes(*b));
        self.suppliers.iter().filter(|s| s.kind == SupplierKind::Iommu && !s.translates()).any(|s| {
            let (Some(first), Some(len)) = (s.args.first(), s.args.last()) else { return false };
            rid.checked_sub(*first).is_some_and(|offset| offset < *len)
        })
    }

    /// IOMMU and specifier for the function with requester ID `rid` behind this bridge, by `iommu-map` and
    /// `iommu-map-mask` (Linux: `of_map_id`). `None` when no entry covers it, so that it is not translated, or when the one that does
    /// gives no specifier.
    ///
    /// In an entry of several IDs the specifier's only cell counts up with them. For an IOMMU with several cells the
    /// binding does not say which one does, so only the entry's first ID has a specifier.
    pub fn requester_stream(&self, rid: u32) -> Option<(NodeId, Vec<u32>)> {
        let mask = self.property("iommu-map-mask").and_then(<[u8]>::first_chunk::<4>);
        let rid = rid & mask.map_or(u32::MAX, |b| u32::from_be_bytes(*b));
        self.suppliers.iter().filter(|s| s.kind == SupplierKind::Iommu && !s.translates()).find_map(|s| {
            let [first, cells @ .., len] = &*s.args else { return None };
            let offset = rid.checked_sub(*first).filter(|offset| offset < len)?;
            let mut cells = Vec::from(cells);
            match &mut *cells {
                [only] => *only = only.checked_add(offset)?,
                _ if offset != 0 => return None,
                _ => {}
            }
            Some((s.node, cells))
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::device::Nodes;

    /// A bridge with this mask, and entries: first requester ID, specifier, number of IDs.
    fn bridge(mask: Option<&[u8]>, entries: &[&[u32]]) -> (DeviceDesc, NodeId) {
        let iommu = Nodes::new().find_or_add("/iommu");
        let mut bridge = DeviceDesc::new("bridge");
        bridge.properties.extend(mask.map(|mask| ("iommu-map-mask".into(), mask.to_vec())));
        for args in entries {
            let (kind, property) = (SupplierKind::Iommu, "iommu-map".into());
            bridge.suppliers.push(Supplier { node: iommu, target: iommu, kind, property, args: args.to_vec() });
        }
        (bridge, iommu)
    }

    #[test]
    fn iommu_map_mask_is_applied_before_entries_are_matched() {
        let (map, all): (&[&[u32]], _) = (&[&[0, 0x40, 8], &[0x100, 0x80, 0x100]], u32::MAX.to_be_bytes());
        let streams = |mask: Option<&[u8]>, rid| {
            let (bridge, iommu) = bridge(mask, map);
            let found = bridge.requester_stream(rid);
            assert!(found.iter().all(|(node, _)| *node == iommu));
            found.map(|(_, specifier)| specifier)
        };
        // None, one of all bits, and one that is cut off: every bit counts.
        for mask in [None, Some(&all[..]), Some(&[0, 0, 7][..])] {
            assert_eq!(streams(mask, 7), Some(vec![0x47]));
            assert_eq!(streams(mask, 8), None);
            assert_eq!(streams(mask, 0x123), Some(vec![0xa3]));
            assert_eq!(streams(mask, 0x1_0000), None);
        }
        // Functions of one device are one: the lowest three bits do not count.
        let device = 0xfff8_u32.to_be_bytes();
        assert_eq!(streams(Some(&device), 7), Some(vec![0x40]));
        assert_eq!(streams(Some(&device), 0x12f), Some(vec![0xa8]));
        assert_eq!(streams(Some(&device), 0x7_0100), Some(vec![0x80]), "above the mask");
        // All behind the bridge are one.
        for rid in [0, 8, 0x123, 0xffff] {
            assert_eq!(streams(Some(&[0; 4]), rid), Some(vec![0x40]));
        }
    }

    /// An entry covers the IDs that it gives a specifier, and with several cells others as well.
    #[test]
    fn an_entry_and_its_specifier_are_found_under_the_same_mask() {
        let maps: [&[&[u32]]; 4] = [
            &[],
            &[&[0, 0x40, 8], &[0x100, 0x80, 0x100]],
            &[&[0, 1, 2, 0x10]],
            &[&[8, 5, 6, 7, 4], &[0x10, 0x20, 1], &[0x208, 1, 2, 0x20]],
        ];
        for map in maps {
            for mask in [u32::MAX, 0, 7, 0xff, 0xff00, 0xfff8] {
                let (bridge, _) = bridge(Some(&mask.to_be_bytes()), map);
                for rid in (0..0x400).step_by(if cfg!(miri) { 37 } else { 1 }) {
                    let offset = |entry: &[u32]| (0..entry[entry.len() - 1]).find(|n| entry[0] + n == rid & mask);
                    let entry = map.iter().find_map(|entry| Some((*entry, offset(entry)?)));
                    assert_eq!(bridge.maps_requester(rid), entry.is_some(), "{map:x?}, {mask:#x}, {rid:#x}");
                    let specifier = entry.and_then(|(entry, offset)| match *entry {
                        [_, only, _] => Some(vec![only + offset]),
                        [_, ref cells @ .., _] if offset == 0 => Some(cells.to_vec()),
                        _ => None,
                    });
                    let found = bridge.requester_stream(rid).map(|(_, specifier)| specifier);
                    assert_eq!(found, specifier, "{map:x?}, {mask:#x}, {rid:#x}");
                }
            }
        }
    }

    #[test]
    fn with_two_iommu_cells_only_the_first_id_of_an_entry_has_a_specifier() {
        let (two, _) = bridge(Some(&0xff00_u32.to_be_bytes()), &[&[0x100, 1, 2, 4]]);
        assert_eq!(two.requester_stream(0x1ff).map(|(_, specifier)| specifier), Some(vec![1, 2]));
        assert_eq!(two.requester_stream(0x200), None);
        let (two, _) = bridge(None, &[&[0x100, 1, 2, 4]]);
        assert_eq!(two.requester_stream(0x101), None, "which cell counts is not said");
    }
}
