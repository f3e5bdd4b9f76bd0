//! The events of a machine as the text that Linux's ftrace writes, so that a reader of real traces can judge a simulated run.
//!
//! Each device's events come from a task of its own, for the driver core's functions name no device. What has no counterpart
//! in Linux is left out. Memory that goes into quarantine is written as given back: the device's use of it has ended.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bindery::event::{Event, EventKind};

/// Page size of the IOMMU's ranges, in bytes.
const PAGE: u64 = 4096;

/// The head of a trace file.
pub const HEADER: &str = "# tracer: function\n#\n#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n";

/// A writer of ftrace text. It keeps what is live.
#[derive(Debug, Default)]
pub struct Ftrace {
    devices: BTreeMap<Arc<str>, Bound>,
    nodes: u64,
    tasks: u64,
}

#[derive(Debug, Default)]
struct Bound {
    task: u64,
    phase: Phase,
    /// Nodes of managed resources by entry of the ledger.
    nodes: BTreeMap<u64, Node>,
    /// The physical address of coherent memory by its device address.
    memory: BTreeMap<u64, u64>,
    group: Option<u32>,
}

#[derive(Debug)]
struct Node {
    id: u64,
    name: String,
    size: u64,
    /// The device address of memory.
    addr: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    #[default]
    Free,
    Probing,
    Bound,
    Leaving,
    /// Resources go back after a probe that failed, or in an unbind.
    CleaningUp,
}

impl Ftrace {
    /// The lines of `event`.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of event")]
    pub fn lines(&mut self, event: &Event) -> String {
        let mut out = String::new();
        let Some(name) = &event.device else { return out };
        let tasks = &mut self.tasks;
        let bound = self.devices.entry(name.clone()).or_insert_with(|| {
            *tasks += 1;
            Bound { task: 1000 + *tasks, ..Bound::default() }
        });
        let at = event.at.0;
        let task = bound.task;
        let mut line = |body: std::fmt::Arguments<'_>| {
            let (seconds, micros) = (at / 1_000_000_000, at / 1000 % 1_000_000);
            // Writing to a string does not fail.
            let _ = writeln!(out, "         bindery-{task:<5} [000] ..... {seconds:>5}.{micros:06}: {body}");
        };
        match &event.kind {
            EventKind::Acquired { entry, resource, .. } if managed(resource) => {
                bound.begin(&mut line);
                self.nodes += 1;
                let memory = is_memory(resource);
                let node = Node {
                    id: self.nodes,
                    name: if memory { "dmam_release".into() } else { format!("bindery_{resource}_release") },
                    size: if memory { 32 } else { 16 },
                    addr: bound.unclaimed(memory),
                };
                line(format_args!("devres_log: {name} ADD {}", node.text()));
                bound.nodes.insert(*entry, node);
            }
            EventKind::DmaMapped { kind, addr, phys, size, backend } => {
                let iommu = backend.starts_with("iommu");
                let (addr, phys) = (addr.0, phys.0);
                let coherent = is_memory(kind);
                if coherent {
                    bound.memory.insert(addr, phys);
                    let by = if iommu { "iommu_dma_alloc" } else { "dma_direct_alloc" };
                    line(format_args!("{by} <-dma_alloc_attrs"));
                }
                if iommu {
                    let (start, end) = range(addr, *size);
                    let pages = end - start;
                    let page = phys & !(PAGE - 1);
                    line(format_args!("map: IOMMU: iova={start:#018x} - {end:#018x} paddr={page:#018x} size={pages}"));
                }
                if coherent {
                    line(format_args!(
                        "dma_alloc: {name} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} virt_addr={phys:016x} flags=GFP_KERNEL attrs="
                    ));
                } else {
                    line(format_args!(
                        "dma_map_page: {name} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} phys_addr={phys:x} attrs="
                    ));
                }
            }
            EventKind::DmaUnmapped { kind, addr, size, backend } => {
                let iommu = backend.starts_with("iommu");
                let addr = addr.0;
                let (start, end) = range(addr, *size);
                let pages = end - start;
                let unmap =
                    format!("unmap: IOMMU: iova={start:#018x} - {end:#018x} size={pages} unmapped_size={pages}");
                if !is_memory(kind) {
                    if iommu {
                        line(format_args!("{unmap}"));
                    }
                    line(format_args!("dma_unmap_page: {name} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} attrs="));
                    return out;
                }
                // Linux logs the node before its memory is freed, the machine afterwards.
                bound.clean_up(&mut line);
                let entry = bound.nodes.iter().find(|(_, node)| node.addr == Some(addr)).map(|(entry, _)| *entry);
                if let Some(node) = entry.and_then(|entry| bound.nodes.remove(&entry)) {
                    let op = if bound.phase == Phase::CleaningUp { "REL" } else { "REM" };
                    line(format_args!("devres_log: {name} {op} {}", node.text()));
                }
                let virt = bound.memory.remove(&addr).unwrap_or(0);
                line(format_args!(
                    "dma_free: {name} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} virt_addr={virt:016x} attrs="
                ));
                let by = if iommu { "iommu_dma_free" } else { "dma_direct_free" };
                line(format_args!("{by} <-dma_free_attrs"));
                if iommu {
                    line(format_args!("{unmap}"));
                }
            }
            EventKind::Released { entry, .. } => {
                if let Some(node) = bound.nodes.remove(entry) {
                    bound.clean_up(&mut line);
                    let op = if bound.phase == Phase::CleaningUp { "REL" } else { "REM" };
                    line(format_args!("devres_log: {name} {op} {}", node.text()));
                }
            }
            EventKind::Bind { .. } => bound.begin(&mut line),
            EventKind::Bound { .. } => bound.phase = Phase::Bound,
            EventKind::NotBound { .. } | EventKind::BindRefused { .. } => bound.phase = Phase::Free,
            EventKind::Unbind { .. } => {
                bound.phase = Phase::Leaving;
                line(format_args!("device_release_driver_internal <-unbind_store"));
            }
            EventKind::Unbound { .. } => {
                bound.clean_up(&mut line);
                bound.phase = Phase::Free;
                line(format_args!("device_links_driver_cleanup <-device_release_driver_internal"));
            }
            EventKind::GroupJoined { group, .. } => {
                bound.group = Some(*group);
                line(format_args!("add_device_to_group: IOMMU: groupID={group} device={name}"));
            }
            EventKind::DeviceRemoved => {
                if let Some(group) = bound.group.take() {
                    line(format_args!("remove_device_from_group: IOMMU: groupID={group} device={name}"));
                }
            }
            EventKind::DomainAttached { .. } => line(format_args!("attach_device_to_domain: IOMMU: device={name}")),
            EventKind::IommuFault { iommu, addr, write, .. } => {
                let flags = u8::from(*write);
                line(format_args!("io_page_fault: IOMMU:{iommu} {name} iova={:#018x} flags={flags:#06x}", addr.0));
            }
            _ => {}
        }
        out
    }
}

impl Bound {
    fn begin(&mut self, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
        if self.phase == Phase::Free {
            self.phase = Phase::Probing;
            line(format_args!("really_probe <-__driver_probe_device"));
        }
    }

    /// The first resource that goes back in a probe or an unbind shows that the driver's own code is over.
    fn clean_up(&mut self, line: &mut impl FnMut(std::fmt::Arguments<'_>)) {
        let caller = match self.phase {
            Phase::Probing => "really_probe",
            Phase::Leaving => "device_release_driver_internal",
            Phase::Free | Phase::Bound | Phase::CleaningUp => return,
        };
        self.phase = Phase::CleaningUp;
        line(format_args!("device_unbind_cleanup <-{caller}"));
        line(format_args!("devres_release_all <-device_unbind_cleanup"));
    }

    /// The address of memory that was allocated and has no node yet.
    fn unclaimed(&self, memory: bool) -> Option<u64> {
        let claimed = |addr: &u64| self.nodes.values().any(|node| node.addr == Some(*addr));
        self.memory.keys().rev().copied().find(|addr| memory && !claimed(addr))
    }
}

impl Node {
    fn text(&self) -> String {
        format!("{:016x} {} ({} bytes)", 0xa1b2_0000 + self.id, self.name.replace(' ', "_"), self.size)
    }
}

/// Streaming mappings are no managed resources in Linux.
fn managed(resource: &str) -> bool {
    !resource.starts_with("dma ") || is_memory(resource)
}

fn is_memory(kind: &str) -> bool {
    kind.ends_with("coherent") || kind.ends_with("pool")
}

fn range(addr: u64, size: u64) -> (u64, u64) {
    let start = addr & !(PAGE - 1);
    (start, start.saturating_add((addr - start).saturating_add(size).div_ceil(PAGE) * PAGE))
}
