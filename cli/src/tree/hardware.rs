//! Registers, interrupt lines and DMA properties of a device, as its firmware describes them.

use std::fmt;
use std::sync::Arc;

use bindery::device::{DeviceDesc, DmaDesc, NodeId, Resource};
use bindery::env::Trigger;
use serde::Serialize;

/// A window of registers.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct RegisterRow {
    /// First byte, as a CPU address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

/// An interrupt line.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct InterruptRow {
    /// Line at the machine's interrupt controller; none behind another one.
    pub line: Option<u32>,
    /// Trigger type at the machine's interrupt controller: `level-high` or `edge-rising`.
    pub trigger: Option<&'static str>,
    /// Path of the other controller's node.
    pub controller: Option<Arc<str>>,
    /// Specifier cells for that controller.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub specifier: Vec<u32>,
}

/// DMA properties.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct DmaRow {
    /// Accesses of the device snoop CPU caches.
    pub coherent: bool,
    /// Windows onto memory; none: bus and physical addresses are the same.
    pub windows: Vec<WindowRow>,
    /// The reason why the device can do no DMA, if its windows cannot be used.
    pub unreadable: Option<Arc<str>>,
    /// Reserved regions of its IOVA space.
    pub reserved: Vec<ReservedRow>,
}

/// A DMA window.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct WindowRow {
    /// First byte, as the device's bus addresses it.
    pub bus: u64,
    /// First byte, as a physical address.
    pub phys: u64,
    /// Bytes.
    pub len: u64,
}

/// A reserved region.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct ReservedRow {
    /// First device address.
    pub first: u64,
    /// Last device address.
    pub last: u64,
    /// Type of the region, as Linux names it.
    pub kind: &'static str,
}

/// Registers and interrupts of a device, each in firmware order; `path` names a node.
pub(super) fn resources(desc: &DeviceDesc, path: impl Fn(NodeId) -> Arc<str>) -> (Vec<RegisterRow>, Vec<InterruptRow>) {
    let (mut registers, mut interrupts) = (Vec::new(), Vec::new());
    for resource in &desc.resources {
        match resource {
            Resource::Mem { base, len } => registers.push(RegisterRow { base: base.0, len: *len }),
            Resource::Irq { line, trigger } => {
                let trigger = match trigger {
                    Trigger::LevelHigh => "level-high",
                    Trigger::EdgeRising => "edge-rising",
                };
                interrupts.push(InterruptRow {
                    line: Some(line.0),
                    trigger: Some(trigger),
                    controller: None,
                    specifier: Vec::new(),
                });
            }
            Resource::IrqBehind { controller, specifier } => interrupts.push(InterruptRow {
                line: None,
                trigger: None,
                controller: Some(path(*controller)),
                specifier: specifier.clone(),
            }),
        }
    }
    (registers, interrupts)
}

impl DmaRow {
    /// The DMA properties of `dma`.
    pub(super) fn of(dma: &DmaDesc) -> Self {
        let windows = dma.ranges.iter().map(|r| WindowRow { bus: r.bus, phys: r.phys.0, len: r.len });
        let reserved =
            dma.reserved.iter().map(|r| ReservedRow { first: r.first.0, last: r.last.0, kind: r.kind.name() });
        Self {
            coherent: dma.coherent,
            windows: windows.collect(),
            unreadable: dma.unreadable.clone(),
            reserved: reserved.collect(),
        }
    }

    /// Each property as a line of text.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![if self.coherent { "coherent" } else { "not coherent" }.to_owned()];
        lines.extend(self.windows.iter().map(ToString::to_string));
        lines.extend(self.unreadable.iter().map(|why| format!("none: {why}")));
        lines.extend(self.reserved.iter().map(ToString::to_string));
        lines
    }
}

impl fmt::Display for RegisterRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} + {:#x}", self.base, self.len)
    }
}

impl fmt::Display for InterruptRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, &self.controller) {
            (Some(line), _) => write!(f, "line {line}, {}", self.trigger.unwrap_or("level-high")),
            (None, controller) => {
                let cells: Vec<String> = self.specifier.iter().map(u32::to_string).collect();
                write!(f, "{} of {}", cells.join(" "), controller.as_deref().unwrap_or("?"))
            }
        }
    }
}

impl fmt::Display for WindowRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "window {:#x} + {:#x} onto {:#x}", self.bus, self.len, self.phys)
    }
}

impl fmt::Display for ReservedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reserved {:#x} to {:#x} ({})", self.first, self.last, self.kind)
    }
}

#[cfg(test)]
mod tests {
    use bindery::addr::{DeviceAddr, PhysAddr};
    use bindery::device::{DmaRange, RegionKind, ReservedRegion};
    use bindery::env::IrqLine;

    use super::*;

    #[test]
    fn each_resource_and_each_dma_property_is_listed() {
        let mut desc = DeviceDesc::new("a");
        desc.resources = vec![
            Resource::Irq { line: IrqLine(137), trigger: Trigger::EdgeRising },
            Resource::Mem { base: PhysAddr(0xee30_0000), len: 0x20_0000 },
            Resource::IrqBehind { controller: NodeId(7), specifier: vec![5, 4] },
            Resource::Mem { base: PhysAddr(0x1000), len: 4 },
        ];
        let (registers, interrupts) = resources(&desc, |node| format!("/{}", node.0).into());
        let text = |rows: &[&dyn fmt::Display]| rows.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&[&registers[0], &registers[1]]), ["0xee300000 + 0x200000", "0x1000 + 0x4"]);
        assert_eq!(text(&[&interrupts[0], &interrupts[1]]), ["line 137, edge-rising", "5 4 of /7"]);
        let range = DmaRange { bus: 0, phys: PhysAddr(0x4000_0000), len: 0x1_0000_0000 };
        let direct = ReservedRegion { first: DeviceAddr(0x9000), last: DeviceAddr(0x9fff), kind: RegionKind::Direct };
        let dma = DmaDesc { coherent: true, ranges: vec![range], unreadable: None, reserved: vec![direct] };
        let lines = ["coherent", "window 0x0 + 0x100000000 onto 0x40000000", "reserved 0x9000 to 0x9fff (direct)"];
        assert_eq!(DmaRow::of(&dma).lines(), lines);
        let none = DmaDesc { unreadable: Some("odd".into()), ..DmaDesc::default() };
        assert_eq!(DmaRow::of(&none).lines(), ["not coherent", "none: odd"]);
    }
}
