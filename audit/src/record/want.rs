//! Set-up of the instance: events, functions, options, the buffer.

use std::fs;
use std::io;
use std::path::Path;

use super::instance::Instance;
use super::probes;
use super::tracefs::append;

/// Events that are enabled, with what cannot be told without them. Without a reason they are not missed.
const EVENTS: [(&str, Option<&str>); 6] = [
    ("dma", Some("dma:* (Linux 6.12 and later): what was allocated and mapped, and whether it was given back")),
    ("iommu", Some("iommu:*: what the IOMMU mapped, faults, and groups")),
    ("dev/devres_log", Some("dev:devres_log: managed resources, and the order of their release")),
    ("printk/console", Some("printk:console: the kernel log on the trace's clock; it is saved with its own")),
    ("swiotlb", None),
    // What grows with each sleep of the device (R7).
    ("power/device_pm_callback_start", None),
];

/// Functions that bound a device's life: the driver core's, the bus's, the group's.
const LIFE: [&str; 12] = [
    "really_probe",
    "device_links_driver_bound",
    "device_release_driver_internal",
    "__device_release_driver",
    "device_unbind_cleanup",
    "devres_release_all",
    "device_links_driver_cleanup",
    "arch_teardown_dma_ops",
    "iommu_device_use_default_domain",
    "iommu_device_unuse_default_domain",
    "__release_region",
    "release_resource",
];

/// Functions of the back-ends: which one allocates, and which one frees.
const BACKENDS: [&str; 6] = [
    "iommu_dma_alloc",
    "iommu_dma_free",
    "iommu_dma_map_page",
    "iommu_dma_unmap_page",
    "dma_direct_alloc",
    "dma_direct_free",
];

/// Options of the instance. It inherits the user's, under some of which the text could not be read.
const OPTIONS: [(&str, &str); 10] = [
    // Without hashing, 6.1 writes no devres_log lines.
    ("hash-ptr", "1"),
    // The newest events are kept: with the oldest, the header would hide the loss.
    ("overwrite", "1"),
    ("context-info", "1"),
    ("irq-info", "1"),
    ("record-cmd", "1"),
    ("print-parent", "1"),
    ("raw", "0"),
    ("hex", "0"),
    ("bin", "0"),
    ("fields", "0"),
];

/// Set-up that the kernel accepted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Enabled {
    /// Events and systems of events.
    pub(super) events: Vec<&'static str>,
    /// Functions of the function tracer.
    pub(super) functions: Vec<&'static str>,
    /// Events and functions that this kernel does not have, with what cannot be told without them.
    pub(super) absent: Vec<String>,
    /// Kprobe events in the place of `dma:*`.
    pub(super) probes: usize,
    /// Buffer of each CPU, in KiB; 0 when the kernel's own size had to stay.
    pub(super) kib: u64,
}

impl Enabled {
    pub(super) fn has(&self, event: &str) -> bool {
        self.events.contains(&event)
    }
}

/// Enables everything that the kernel has, with tracing off.
pub(super) fn enable(tracefs: &Path, instance: &Instance, buffer: Option<u32>) -> io::Result<Enabled> {
    instance.put("tracing_on", "0")?;
    let mut enabled = Enabled::default();
    for (option, value) in OPTIONS {
        // An option that a kernel does not have cannot be set wrongly.
        let _ = instance.put(&format!("options/{option}"), value);
    }
    // One clock for all CPUs: lines of two of them are put in order by it.
    let _ = instance.put("trace_clock", "mono").or_else(|_| instance.put("trace_clock", "global"));
    enabled.kib = resize(instance, buffer);
    for (event, missed) in EVENTS {
        if instance.put(&format!("events/{event}/enable"), "1").is_ok() {
            enabled.events.push(event);
        } else if let Some(missed) = missed {
            if event == "dma" {
                enabled.probes = probes(tracefs, instance);
            }
            let instead = if event == "dma" && enabled.probes > 0 { "; kprobe events take their place" } else { "" };
            enabled.absent.push(format!("{missed}{instead}"));
        }
    }
    functions(instance, &mut enabled);
    Ok(enabled)
}

/// Makes kprobe events in the place of `dma:*`, and says how many.
fn probes(tracefs: &Path, instance: &Instance) -> usize {
    let group = instance.group();
    let made = probes::make(tracefs, &group);
    if made > 0 && instance.put(&format!("events/{group}/enable"), "1").is_err() {
        return 0;
    }
    made
}

fn functions(instance: &Instance, enabled: &mut Enabled) {
    let filter = instance.file("set_ftrace_filter");
    let traced = |name: &&&str| append(&filter, &format!("{name}\n")).is_ok();
    enabled.functions = LIFE.iter().chain(&BACKENDS).filter(traced).copied().collect();
    // With an empty filter the tracer would record every function of the kernel.
    let on = !enabled.functions.is_empty() && instance.put("current_tracer", "function").is_ok();
    if !on {
        enabled.functions.clear();
    }
    let without = |names: &[&str]| !names.iter().any(|name| enabled.functions.contains(name));
    if without(&LIFE) {
        enabled.absent.push("the function tracer: where a probe and an unbind begin and end".to_owned());
    }
    if without(&BACKENDS) {
        enabled.absent.push("functions of the back-ends: which one allocated, and which one freed (R5)".to_owned());
    }
    if fs::read_to_string("/proc/sys/kernel/ftrace_enabled").is_ok_and(|text| text.trim() == "0") {
        enabled.absent.push("the function tracer: `sysctl kernel.ftrace_enabled=1` switches it on".to_owned());
    }
}

/// Sets the size of the buffer, of half of it when memory is short, and so on. In KiB for each CPU.
fn resize(instance: &Instance, buffer: Option<u32>) -> u64 {
    let mut kib = buffer.map_or_else(|| sensible(&meminfo(), cpus(&instance.path)), |mib| u64::from(mib) << 10);
    while kib >= 256 {
        if instance.put("buffer_size_kb", &kib.to_string()).is_ok() {
            return kib;
        }
        kib /= 2;
    }
    0
}

/// A sixteenth of the memory that is free, over all CPUs, between 1 and 32 MiB for each.
fn sensible(meminfo: &str, cpus: u64) -> u64 {
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    (kib / 16 / cpus.max(1)).clamp(1 << 10, 32 << 10)
}

fn meminfo() -> String {
    fs::read_to_string("/proc/meminfo").unwrap_or_default()
}

fn cpus(instance: &Path) -> u64 {
    fs::read_dir(instance.join("per_cpu")).map_or(1, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_follows_the_memory_that_is_free() {
        assert_eq!(sensible("MemTotal: 9 kB\nMemAvailable:  16777216 kB\n", 2), 32 << 10);
        assert_eq!(sensible("MemAvailable: 524288 kB", 4), 8 << 10);
        assert_eq!(sensible("MemAvailable: 65536 kB", 128), 1 << 10);
        assert_eq!(sensible("", 0), 1 << 10);
    }
}
