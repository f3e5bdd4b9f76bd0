//! `bindctl report`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;

use super::Exit;
use super::args::Cli;
use super::output::{SCHEMA, print_text};
use super::run::{Failure, Host, store};
use super::{plan, show};
use crate::check::Target;
use crate::face::READ_DEADLINE;
use crate::inventory::Device;
use crate::path::{self, printable};
use crate::plan::{Memory, Request, build};
use crate::report::{Private, Redactor, about, known, line};
use crate::state::{Journal, Record, Store};
use crate::usage::Below;

/// Attributes of a device, and of its power management. Strings that are private are replaced like all others.
const ATTRIBUTES: [&str; 28] = [
    "uevent",
    "modalias",
    "class",
    "vendor",
    "device",
    "subsystem_vendor",
    "subsystem_device",
    "revision",
    "enable",
    "irq",
    "numa_node",
    "resource",
    "reset_method",
    "current_link_speed",
    "current_link_width",
    "max_link_speed",
    "max_link_width",
    "msi_bus",
    "broken_parity_status",
    "d3cold_allowed",
    "power_state",
    "power/control",
    "power/runtime_status",
    "sriov_numvfs",
    "sriov_totalvfs",
    "sriov_drivers_autoprobe",
    "driver_override",
    "state_synced",
];

/// Words of the kernel's command line that have to do with devices; all others stay at home.
const WORDS: [&str; 12] = [
    "iommu",
    "vfio",
    "pci",
    "module_blacklist",
    "modprobe",
    "rd.driver",
    "initcall_blacklist",
    "video=",
    "nvme",
    "hugepages",
    "isolcpus",
    "acpi",
];

/// Modules that have a part in a hand-over.
const MODULES: [&str; 7] =
    ["vfio", "vfio_pci", "vfio_pci_core", "vfio_iommu_type1", "vfio_virqfd", "vfio_platform", "iommufd"];

/// Most records of the kernel's log, counted from the newest.
const MAX_RECORDS: usize = 500;

/// Most lines of one journal.
const MAX_LINES: usize = 400;

/// Bytes of the configuration space that are printed: the header. What follows can hold serial numbers.
const HEADER: usize = 64;

/// A part of the report.
struct Section {
    title: &'static str,
    lines: Vec<String>,
}

pub(super) fn run(cli: &Cli, host: &Host, word: &str, output: Option<&Path>) -> Result<Exit, Failure> {
    let device = host.select(word)?;
    let scene = host.scene();
    let mut devices = vec![device];
    devices.extend(scene.inventory.siblings(device));
    devices.extend(scene.inventory.virtual_functions(device));
    devices.extend(device.physical_function.as_ref().and_then(|path| scene.inventory.at(path)));
    let mut sections = vec![
        Section { title: "host", lines: machine(host) },
        Section { title: "device", lines: show::lines(host, device) },
        Section { title: "attributes", lines: attributes(host, device) },
        Section { title: "group", lines: group(host, device) },
        Section { title: "plan", lines: hand_over(host, device) },
        Section { title: "journal", lines: journal(cli, host, device) },
        Section { title: "processes", lines: waiting(host) },
        Section { title: "kernel log", lines: kernel_log(host, &devices) },
    ];
    let mut private = known(scene, &devices);
    private.extend(remembered(&store(cli)));
    let mut redactor = Redactor::new(private);
    for section in &mut sections {
        section.lines = section.lines.iter().map(|text| printable(&redactor.line(text))).collect();
    }
    let label = redactor.line(&device.label());
    let text = if cli.json {
        let sections = sections.iter().map(|s| json!({ "title": s.title, "lines": s.lines })).collect::<Vec<_>>();
        let value = json!({ "schema": SCHEMA, "device": label, "sections": sections, "replaced": redactor.counts() });
        format!("{value:#}\n")
    } else {
        as_text(&label, &sections, &redactor)
    };
    match output {
        None => print_text(&text)?,
        Some(path) => write(path, &text)?,
    }
    Ok(Exit::Done)
}

fn as_text(label: &str, sections: &[Section], redactor: &Redactor) -> String {
    let counts: Vec<String> = redactor.counts().iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let counts = if counts.is_empty() { "none".into() } else { counts.join(", ") };
    let mut lines = vec![
        format!("bindctl report of {label}"),
        "Read this before you send it: programs' names are left in.".into(),
        format!("replaced, number of values: {counts}"),
    ];
    for section in sections {
        lines.extend([String::new(), format!("== {}", section.title)]);
        lines.extend(section.lines.iter().cloned());
    }
    lines.join("\n") + "\n"
}

/// A new file that others cannot read. One that is there stays as it is.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let fail = |error| Failure::Usage(format!("cannot write {}: {error}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)
}

fn machine(host: &Host) -> Vec<String> {
    let face = host.face();
    let mut lines = vec![format!("bindctl {} for {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)];
    let release = face.try_text("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    lines.push(format!("kernel {release}"));
    let distribution = face.try_text("/etc/os-release").unwrap_or_default();
    let name = distribution.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    lines.push(format!("distribution {}", name.unwrap_or("unknown").trim_matches('"')));
    let line = face.try_text("/proc/cmdline").unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().filter(|w| WORDS.iter().any(|known| w.contains(known))).collect();
    lines.push(format!("of the kernel's command line: {}", words.join(" ")));
    lines.push(format!("IOMMUs: {}", host.scene().inventory.iommus.join(" ")));
    for module in MODULES {
        let path = format!("/sys/module/{module}");
        if !face.exists(&path) {
            continue;
        }
        let users = face.try_text(&format!("{path}/refcnt")).map_or("built in".into(), |n| format!("{n} users"));
        let mut words = vec![format!("module {module}: {users}")];
        for parameter in face.names(&format!("{path}/parameters")) {
            let value = face.try_text(&format!("{path}/parameters/{parameter}"));
            words.push(format!("{parameter}={}", value.as_deref().unwrap_or("?")));
        }
        lines.push(words.join(" "));
    }
    lines.extend(host.scene().inventory.troubles.iter().map(|trouble| format!("not read: {trouble}")));
    lines
}

fn attributes(host: &Host, device: &Device) -> Vec<String> {
    let face = host.face();
    let mut lines = Vec::new();
    for name in ATTRIBUTES {
        // Some of these wait for the device's lock; which ones depends on the kernel.
        if !face.exists(&device.attribute(name)) {
            continue;
        }
        match face.read_within(&device.attribute(name), READ_DEADLINE) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let mut values = text.trim_end_matches(['\n', '\0']).split('\n');
                lines.push(format!("{name}: {}", values.next().unwrap_or_default()));
                lines.extend(values.map(|value| format!("    {value}")));
            }
            Err(error) => lines.push(format!("{name}: not read: {error}")),
        }
    }
    if face.exists(&device.attribute("config")) {
        match face.read_within(&device.attribute("config"), READ_DEADLINE) {
            Ok(bytes) => {
                for (row, bytes) in bytes[..bytes.len().min(HEADER)].chunks(16).enumerate() {
                    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    lines.push(format!("config {:02x}: {}", row * 16, bytes.join(" ")));
                }
            }
            Err(error) => lines.push(format!("config: not read: {error}")),
        }
    }
    lines
}

fn group(host: &Host, device: &Device) -> Vec<String> {
    let inventory = host.scene().inventory;
    let Some(group) = inventory.group_of(device) else { return vec!["none".into()] };
    let mut lines =
        vec![format!("{}, type {}", group.name, group.domain_type(host.face()).as_deref().unwrap_or("unknown"))];
    lines.extend(group.reserved(host.face()).iter().map(|region| format!("reserved {region}")));
    for device in group.members.iter().filter_map(|member| inventory.at(member)) {
        lines.push(format!(
            "{}  {}  class {}  driver {}",
            device.label(),
            device.ids().unwrap_or_default(),
            device.class.map_or("-".into(), |class| format!("{class:06x}")),
            device.driver.as_deref().unwrap_or("none")
        ));
    }
    match group.strangers(host.face()) {
        Ok(strangers) => lines.extend(strangers.iter().map(|member| format!("{member}  without driver_override"))),
        Err(error) => lines.push(error.to_string()),
    }
    lines
}

fn hand_over(host: &Host, device: &Device) -> Vec<String> {
    let to = if device.is_on_vfio() { Target::Host } else { Target::Vfio };
    let request = Request { devices: vec![device], to, ..Request::default() };
    plan::as_text(&build(host.scene(), &request))
}

/// Journals and records that name the device.
fn journal(cli: &Cli, host: &Host, device: &Device) -> Vec<String> {
    let store = store(cli);
    let label = device.label();
    let mut lines = Vec::new();
    let unfinished = store.unfinished().unwrap_or_else(|error| {
        lines.push(error.to_string());
        Vec::new()
    });
    for path in unfinished {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match Journal::read(&path) {
            Err(error) => lines.push(format!("{name}: {error}")),
            Ok(resumed) if resumed.header.steps.iter().any(|step| step.device.to_string() == label) => {
                lines.push(format!("{name}: {} of {}", resumed.header.purpose, resumed.header.devices.join(", ")));
                if resumed.cut {
                    lines.push("the last line was cut".into());
                }
                let steps = resumed.header.steps.iter().enumerate();
                lines.extend(steps.map(|(n, step)| format!("  step {n}  {}  {}", step.device, step.action)));
                let records = resumed.records.iter().take(MAX_LINES);
                lines.extend(records.map(|record| format!("  {}", serde_json::to_string(record).unwrap_or_default())));
                for record in &resumed.records {
                    if let Record::Hung { helper: Some(pid), .. } = record {
                        lines.extend(stack(host, *pid));
                    }
                }
            }
            Ok(_) => {}
        }
    }
    match store.given() {
        Err(error) => lines.push(error.to_string()),
        Ok(given) => {
            for given in given.iter().filter(|g| g.steps.iter().any(|step| step.device.to_string() == label)) {
                lines.push(format!("given by plan {}: {}", given.id, given.devices.join(", ")));
                lines.extend(given.steps.iter().map(|step| format!("  {}  {}", step.device, step.action)));
                for memory in &given.remembered {
                    lines.push(format!("  {}", serde_json::to_string(memory).unwrap_or_default()));
                }
            }
        }
    }
    if lines.is_empty() {
        lines.push("neither a journal nor a record names it".into());
    }
    lines
}

/// Names and numbers in journals and records of devices whose drivers are gone.
fn remembered(store: &Store) -> Vec<(String, Private)> {
    let journals = store.unfinished().unwrap_or_default().into_iter();
    let begun = journals.filter_map(|path| Some(Journal::read(&path).ok()?.header.remembered));
    let given = store.given().unwrap_or_default().into_iter().map(|given| given.remembered);
    begun.chain(given).flatten().flat_map(|memory| about_device(&memory)).collect()
}

fn about_device(memory: &Memory) -> Vec<(String, Private)> {
    let serials = memory.serials.iter().map(|value| (value.clone(), Private::Serial));
    let macs = memory.macs.iter().map(|value| (value.clone(), Private::Mac));
    serials.chain(macs).collect()
}

/// Kernel stack of a process.
fn stack(host: &Host, pid: u32) -> Vec<String> {
    let face = host.face();
    if !face.exists(&format!("/proc/{pid}")) {
        return vec![format!("  process {pid} has ended")];
    }
    let mut lines = vec![format!("  process {pid} still waits in the kernel")];
    let stack = face.try_text(&format!("/proc/{pid}/stack")).unwrap_or_else(|| "stack: not readable".into());
    lines.extend(stack.lines().map(|line| format!("    {line}")));
    lines
}

/// All processes that wait in the kernel: one of them may be the reason why the device does not answer.
fn waiting(host: &Host) -> Vec<String> {
    let system = host.scene().system;
    let mut lines = Vec::new();
    for process in system.processes.iter().filter(|process| process.state == 'D') {
        lines.push(format!("{} waits in the kernel", system.who(process.pid)));
        lines.extend(stack(host, process.pid).into_iter().skip(1));
    }
    if lines.is_empty() {
        lines.push("none waits in the kernel (state D)".into());
    }
    lines
}

fn kernel_log(host: &Host, devices: &[&Device]) -> Vec<String> {
    let records = match host.face().kernel_log() {
        Ok(records) => records,
        Err(error) => return vec![format!("not read: {error}; only root can read it on many hosts")],
    };
    let mut names = Vec::new();
    for device in devices {
        names.push(device.name.clone());
        // Some messages leave the domain out.
        names.extend(device.name.split_once(':').filter(|_| device.bus == "pci").map(|(_, short)| short.to_owned()));
        names.extend(Below::of(host.face(), device).names);
        names.push(path::name(&device.path).into());
    }
    let chosen: Vec<String> = records.iter().filter(|record| about(record, &names)).map(|r| line(r)).collect();
    let skipped = chosen.len().saturating_sub(MAX_RECORDS);
    let mut lines = vec![format!("{} of {} records are about it", chosen.len(), records.len())];
    if skipped > 0 {
        lines.push(format!("the first {skipped} of them are left out"));
    }
    lines.extend(chosen.into_iter().skip(skipped));
    lines
}
