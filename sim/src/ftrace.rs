//! Conversion of a machine's events to the text format of Linux's ftrace, so that tools for real traces can check simulated
//! runs.
//!
//! Each device's events come from a task of its own, since traced functions of the driver core name no device. Events without
//! a counterpart in Linux are omitted, as are children and driver data, which Linux drivers release by themselves. Memory
//! that is quarantined is written as freed: the device's use of it has ended.
//!
//! A resource that is released during a probe is either released by the driver or the first step of unwinding a failed probe.
//! Only later events tell, so the device's lines are buffered until then.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bindery::binding::ResourceKind;
use bindery::event::{Event, EventKind};

/// Page size of the IOMMU's ranges, in bytes.
const PAGE: u64 = 4096;

/// Header of a trace file.
pub const HEADER: &str = "# tracer: function\n#\n#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION\n";

/// Writer of ftrace text. It tracks live resources.
#[derive(Debug, Default)]
pub struct Ftrace {
    devices: BTreeMap<Arc<str>, Bound>,
    nodes: u64,
    tasks: u64,
    /// True once the kernel log's line about the policy has been written.
    policy: bool,
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
    /// Lines since a resource was released in a probe that has not ended.
    buffered: Vec<Line>,
}

/// A line of the trace.
#[derive(Debug)]
struct Line {
    text: String,
    /// True for the release of a managed resource.
    releases: bool,
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
    Unbound,
    Probing,
    Bound,
    Unbinding,
    /// Resources are released after a failed probe or in an unbind.
    CleaningUp,
}

impl Ftrace {
    /// The lines of `event`, after those that were buffered until it.
    pub fn lines(&mut self, event: &Event) -> String {
        let Some(name) = &event.device else { return String::new() };
        let tasks = &mut self.tasks;
        let bound = self.devices.entry(name.clone()).or_insert_with(|| {
            *tasks += 1;
            Bound { task: 1000 + *tasks, ..Bound::default() }
        });
        let mut out = Out { at: event.at.0, task: bound.task, lines: Vec::new() };
        let continues = matches!(
            event.kind,
            EventKind::Acquired { .. }
                | EventKind::DmaMapped { .. }
                | EventKind::Bound { .. }
                | EventKind::Unbind { .. }
        );
        let failed = matches!(event.kind, EventKind::NotBound { .. } | EventKind::BindRefused { .. });
        let mut text = String::new();
        if bound.phase == Phase::Probing && (continues || failed) {
            let buffered = std::mem::take(&mut bound.buffered);
            if failed && let Some(first) = buffered.first() {
                // Unwinding begins with the first released resource.
                let head = first.text.split_once(": ").map_or("", |(head, _)| head);
                for step in ["device_unbind_cleanup <-really_probe", "devres_release_all <-device_unbind_cleanup"] {
                    let _ = writeln!(text, "{head}: {step}");
                }
                bound.phase = Phase::CleaningUp;
            }
            for line in buffered {
                push(&mut text, &line, failed);
            }
        }
        // Groups are joined only where DMA is translated by default. The kernel says so while it boots.
        let grouped = matches!(event.kind, EventKind::GroupJoined { .. } | EventKind::GroupOwner { .. });
        if grouped && !std::mem::replace(&mut self.policy, true) {
            out.console(format_args!("iommu: Default domain type: Translated"));
        }
        bound.event(name, &event.kind, &mut self.nodes, &mut out);
        let buffers =
            bound.phase == Phase::Probing && (!bound.buffered.is_empty() || out.lines.iter().any(|l| l.releases));
        if buffers {
            bound.buffered.append(&mut out.lines);
        } else {
            let released = bound.phase == Phase::CleaningUp;
            out.lines.iter().for_each(|line| push(&mut text, line, released));
        }
        text
    }

    /// The lines that are still buffered, because the machine stopped in the middle of a probe.
    pub fn finish(&mut self) -> String {
        let mut text = String::new();
        for bound in self.devices.values_mut() {
            bound.buffered.drain(..).for_each(|line| push(&mut text, &line, false));
        }
        text
    }
}

/// Appends `line`. A resource is either released by the core (REL) or removed by the driver (REM).
fn push(text: &mut String, line: &Line, released: bool) {
    if line.releases && !released {
        text.push_str(&line.text.replacen(" REL ", " REM ", 1));
    } else {
        text.push_str(&line.text);
    }
    text.push('\n');
}

/// Lines of one event.
struct Out {
    at: u64,
    task: u64,
    lines: Vec<Line>,
}

impl Out {
    fn line(&mut self, body: std::fmt::Arguments<'_>) {
        let (seconds, micros) = (self.at / 1_000_000_000, self.at / 1000 % 1_000_000);
        let text = format!("         bindery-{:<5} [000] ..... {seconds:>5}.{micros:06}: {body}", self.task);
        self.lines.push(Line { text, releases: false });
    }

    /// A line of the kernel log, which was printed before the trace began.
    fn console(&mut self, text: std::fmt::Arguments<'_>) {
        self.line(format_args!("console: {text}"));
    }

    /// The type of a device's group, as a recorder lists it: Linux has no event that tells it.
    fn listed(&mut self, device: &str, group: u32) {
        self.lines.push(Line { text: format!("# sysfs {device} group={group} domain=DMA"), releases: false });
    }

    fn releases(&mut self, device: &str, node: &Node) {
        self.line(format_args!("devres_log: {device} REL {}", node.text()));
        if let Some(line) = self.lines.last_mut() {
            line.releases = true;
        }
    }
}

impl Bound {
    fn event(&mut self, name: &str, kind: &EventKind, nodes: &mut u64, out: &mut Out) {
        match kind {
            EventKind::Acquired { entry, resource, .. } if managed(resource) => {
                self.begin(out);
                *nodes += 1;
                let memory = is_memory(resource);
                let node = Node {
                    id: *nodes,
                    name: if memory { "dmam_release".into() } else { format!("bindery_{resource}_release") },
                    size: if memory { 32 } else { 16 },
                    addr: self.unclaimed(memory),
                };
                out.line(format_args!("devres_log: {name} ADD {}", node.text()));
                self.nodes.insert(*entry, node);
            }
            EventKind::DmaMapped { kind, addr, phys, size, backend } => {
                self.maps(name, is_memory(kind), (addr.0, phys.0, *size), backend, out);
            }
            EventKind::DmaUnmapped { kind, addr, size, backend } => {
                self.unmaps(name, is_memory(kind), (addr.0, *size), backend, out);
            }
            // The driver's own code has ended when its data is dropped.
            EventKind::Released { resource, .. } if *resource == ResourceKind::Data.name() => self.clean_up(out),
            EventKind::Released { entry, .. } => {
                if let Some(node) = self.nodes.remove(entry) {
                    out.releases(name, &node);
                }
            }
            EventKind::Bind { .. } => self.begin(out),
            EventKind::Bound { .. } => {
                self.phase = Phase::Bound;
                out.line(format_args!("device_links_driver_bound <-driver_bound"));
            }
            EventKind::NotBound { .. } | EventKind::BindRefused { .. } => self.phase = Phase::Unbound,
            EventKind::Unbind { .. } => {
                self.phase = Phase::Unbinding;
                out.line(format_args!("device_release_driver_internal <-unbind_store"));
            }
            EventKind::Unbound { .. } => {
                self.clean_up(out);
                self.phase = Phase::Unbound;
                out.line(format_args!("device_links_driver_cleanup <-device_release_driver_internal"));
            }
            EventKind::GroupJoined { group, .. } => {
                self.group = Some(*group);
                out.listed(name, *group);
                out.line(format_args!("add_device_to_group: IOMMU: groupID={group} device={name}"));
            }
            // It had joined before the trace began.
            EventKind::GroupOwner { group, .. } if self.group.is_none() => {
                self.group = Some(*group);
                out.listed(name, *group);
                out.console(format_args!("{name}: Adding to iommu group {group}"));
            }
            EventKind::DeviceRemoved => {
                if let Some(group) = self.group.take() {
                    out.line(format_args!("remove_device_from_group: IOMMU: groupID={group} device={name}"));
                }
            }
            EventKind::DomainAttached { .. } => {
                out.line(format_args!("attach_device_to_domain: IOMMU: device={name}"));
            }
            EventKind::IommuFault { iommu, addr, write, .. } => {
                let flags = u8::from(*write);
                out.line(format_args!("io_page_fault: IOMMU:{iommu} {name} iova={:#018x} flags={flags:#06x}", addr.0));
            }
            _ => {}
        }
    }

    fn maps(&mut self, name: &str, coherent: bool, (addr, phys, size): (u64, u64, u64), backend: &str, out: &mut Out) {
        let iommu = backend.starts_with("iommu");
        if coherent {
            self.memory.insert(addr, phys);
            let by = if iommu { "iommu_dma_alloc" } else { "dma_direct_alloc" };
            out.line(format_args!("{by} <-dma_alloc_attrs"));
        }
        if iommu {
            let (start, end) = range(addr, size);
            let pages = end - start;
            let page = phys & !(PAGE - 1);
            out.line(format_args!("map: IOMMU: iova={start:#018x} - {end:#018x} paddr={page:#018x} size={pages}"));
        }
        if coherent {
            out.line(format_args!(
                "dma_alloc: {name} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} virt_addr={phys:016x} flags=GFP_KERNEL attrs="
            ));
        } else {
            if !iommu && phys != addr {
                out.line(format_args!(
                    "swiotlb_bounced: dev_name: {name} dma_mask=ffffffff dev_addr={phys:x} size={size} NORMAL"
                ));
            }
            out.line(format_args!(
                "dma_map_page: {name} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} phys_addr={phys:x} attrs="
            ));
        }
    }

    fn unmaps(&mut self, name: &str, coherent: bool, (addr, size): (u64, u64), backend: &str, out: &mut Out) {
        let iommu = backend.starts_with("iommu");
        let (start, end) = range(addr, size);
        let pages = end - start;
        let unmap = format!("unmap: IOMMU: iova={start:#018x} - {end:#018x} size={pages} unmapped_size={pages}");
        if !coherent {
            if iommu {
                out.line(format_args!("{unmap}"));
            }
            out.line(format_args!("dma_unmap_page: {name} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} attrs="));
            return;
        }
        // Linux logs the node before its memory is freed, the core afterwards.
        let entry = self.nodes.iter().find(|(_, node)| node.addr == Some(addr)).map(|(entry, _)| *entry);
        if let Some(node) = entry.and_then(|entry| self.nodes.remove(&entry)) {
            out.releases(name, &node);
        }
        let virt = self.memory.remove(&addr).unwrap_or(0);
        out.line(format_args!(
            "dma_free: {name} dir=BIDIRECTIONAL dma_addr={addr:x} size={size} virt_addr={virt:016x} attrs="
        ));
        let by = if iommu { "iommu_dma_free" } else { "dma_direct_free" };
        out.line(format_args!("{by} <-dma_free_attrs"));
        if iommu {
            out.line(format_args!("{unmap}"));
        }
    }

    fn begin(&mut self, out: &mut Out) {
        if self.phase == Phase::Unbound {
            self.phase = Phase::Probing;
            out.line(format_args!("really_probe <-__driver_probe_device"));
        }
    }

    /// Begins the release of managed resources by the core.
    fn clean_up(&mut self, out: &mut Out) {
        if self.phase == Phase::Unbinding {
            self.phase = Phase::CleaningUp;
            out.line(format_args!("device_unbind_cleanup <-device_release_driver_internal"));
            out.line(format_args!("devres_release_all <-device_unbind_cleanup"));
        }
    }

    /// Address of allocated memory that has no node yet.
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

/// Returns true for managed resources of Linux: all but streaming mappings, children and driver data.
fn managed(resource: &str) -> bool {
    let own = resource == ResourceKind::Data.name() || resource == ResourceKind::Child.name();
    !own && (!resource.starts_with("dma ") || is_memory(resource))
}

fn is_memory(kind: &str) -> bool {
    kind.ends_with("coherent") || kind.ends_with("pool")
}

fn range(addr: u64, size: u64) -> (u64, u64) {
    let start = addr & !(PAGE - 1);
    (start, start.saturating_add((addr - start).saturating_add(size).div_ceil(PAGE) * PAGE))
}
