//! A recording from its beginning to its end.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use super::Order;
use super::error::RecordError;
use super::instance::{self, Instance};
use super::listing::{is_there, listing};
use super::log::{KernelLog, Since};
use super::probes;
use super::run::{Signals, check, shown};
use super::save::Draft;
use super::tracefs::{Place, find};
use super::undo::{Journal, Undo};
use super::want::{Enabled, enable};

/// Directory of the buses' devices.
const SYS: &str = "/sys";

/// Records while the command runs, puts everything back, and returns the file.
///
/// # Errors
///
/// Error of a recording that was not made or not saved; everything has been put back then, too.
pub fn record(order: &Order<'_>) -> Result<PathBuf, RecordError> {
    let device = order.device;
    if device.is_empty() || device.starts_with('.') || device.contains('/') || device.contains(char::is_control) {
        return Err(RecordError::Name(device.to_owned()));
    }
    check(order.command)?;
    let place = find()?;
    let mut draft = Draft::create(order.output, device)?;
    if !is_there(Path::new(SYS), device) {
        say(&format!("no device {device} is on any bus yet; it is recorded once it is there"));
    }
    let signals = Signals::take();
    let mut journal = Journal::start(order.keeper)?;
    let tracefs = mount(place, &mut journal)?;
    for path in instance::left_behind(&tracefs) {
        match instance::remove(&path) {
            Ok(()) => say(&format!("removed {}, which a recorder that was killed left behind", path.display())),
            Err(error) => say(&format!("cannot remove {}: {error}", path.display())),
        }
    }
    for group in instance::groups_left_behind(&tracefs) {
        if let Err(error) = probes::remove(&tracefs, &group) {
            say(&format!("cannot remove the kprobe events of {group}: {error}"));
        }
    }
    let instance = create(&tracefs, &mut journal)?;
    let refused = |error| RecordError::Refused { path: instance.path.clone(), error };
    let enabled = enable(&tracefs, &instance, order.buffer).map_err(refused)?;
    if enabled.events.is_empty() && enabled.functions.is_empty() {
        return Err(RecordError::NoEvents);
    }
    announce(device, &enabled);
    let before = listing(Path::new(SYS), device);
    let mut log = KernelLog::open();
    instance.put("tracing_on", "1").map_err(refused)?;
    let status = signals.run(order.command, &instance.file("trace_marker"));
    let stopped = instance.put("tracing_on", "0");
    let status = status?;
    stopped.map_err(refused)?;
    say_status(order, status);

    let path = draft.path();
    let recording =
        Recording { order, tracefs: &tracefs, instance: &instance, enabled: &enabled, before: &before, status };
    let saved = recording.save(&mut draft, &mut log);
    // The trace is gone with the instance; a file that cannot be written keeps nothing of it.
    drop(instance);
    journal.undo();
    saved.and_then(|()| draft.finish()).map_err(|error| RecordError::Output { path, error })
}

fn mount(place: Place, journal: &mut Journal) -> Result<PathBuf, RecordError> {
    let at = match place {
        Place::Mounted(at) => at,
        Place::Free(at) => {
            journal.will(Undo::Unmount(at.clone()))?;
            let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
            rustix::mount::mount("tracefs", &at, "tracefs", flags, None)
                .map_err(|error| RecordError::Refused { path: at.clone(), error: error.into() })?;
            at
        }
    };
    // Permission is asked for where it is needed first.
    fs::read_dir(at.join("instances")).map_err(|error| RecordError::Refused { path: at.clone(), error })?;
    Ok(at)
}

fn create(tracefs: &Path, journal: &mut Journal) -> Result<Instance, RecordError> {
    let mut tries = 0;
    loop {
        let path = instance::free_path(tracefs);
        journal.will(Undo::Probes(tracefs.join(instance::group_of(&path))))?;
        journal.will(Undo::Instance(path.clone()))?;
        match Instance::create(&path) {
            Ok(instance) => return Ok(instance),
            Err(error) if tries >= 3 || error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(RecordError::Refused { path, error });
            }
            Err(_) => tries += 1,
        }
    }
}

/// Contents of a saved recording.
struct Recording<'a> {
    order: &'a Order<'a>,
    tracefs: &'a Path,
    instance: &'a Instance,
    enabled: &'a Enabled,
    /// Devices as they were listed before the command.
    before: &'a BTreeMap<String, String>,
    status: ExitStatus,
}

impl Recording<'_> {
    /// Writes the evidence, and then the trace.
    fn save(&self, draft: &mut Draft, log: &mut KernelLog) -> io::Result<()> {
        let system = rustix::system::uname();
        draft.comment("recorded by bindery-audit, version 1 of this file")?;
        draft.comment(&format!("device: {}", self.order.device))?;
        draft.comment(&format!("command: {} ({})", shown(self.order.command), self.status))?;
        let [name, release, machine] =
            [system.sysname(), system.release(), system.machine()].map(|text| text.to_string_lossy().into_owned());
        draft.comment(&format!("kernel: {name} {release} {machine}"))?;
        draft.comment(&format!("events: {}", self.enabled.events.join(" ")))?;
        draft.comment(&format!("functions: {}", self.enabled.functions.join(" ")))?;
        for absent in &self.enabled.absent {
            draft.comment(&format!("absent: {absent}"))?;
        }
        for line in self.before.values() {
            draft.comment(&format!("sysfs {line}"))?;
        }
        for (name, line) in listing(Path::new(SYS), self.order.device) {
            if self.before.get(&name) != Some(&line) {
                draft.comment(&format!("sysfs-after {line}"))?;
            }
        }
        draft.stats(self.instance)?;
        for (probe, missed) in probes::missed(self.tracefs) {
            draft.comment(&format!("missed: {missed} events of the kprobe {probe}"))?;
        }
        for record in std::mem::take(&mut log.policy) {
            draft.line(&record)?;
        }
        let closed = log.is_closed();
        let since = log.read();
        if closed || since.gap {
            draft.comment("kernel log: it could not be read, or not all of it")?;
        }
        let console = self.enabled.has("printk/console");
        if console {
            // The same messages are in the trace, on its clock; these are for people.
            for record in &since.records {
                draft.comment(&format!("kmsg {record}"))?;
            }
        }
        let any = draft.trace(self.instance)?;
        if !console {
            plain(draft, &since)?;
        }
        if !any {
            say("nothing was traced: the command did nothing that is recorded");
        }
        Ok(())
    }
}

fn plain(draft: &mut Draft, since: &Since) -> io::Result<()> {
    for record in &since.records {
        draft.line(record)?;
    }
    Ok(())
}

fn announce(device: &str, enabled: &Enabled) {
    let buffer = if enabled.kib == 0 { "the kernel's".to_owned() } else { format!("{} KiB", enabled.kib) };
    say(&format!(
        "recording {device}: {}; {} functions; a buffer of {buffer} for each CPU",
        enabled.events.join(", "),
        enabled.functions.len()
    ));
    for absent in &enabled.absent {
        say(&format!("not available here: {absent}"));
    }
}

fn say_status(order: &Order<'_>, status: ExitStatus) {
    if !status.success() {
        say(&format!("{} ended with {status}; what it did is audited", shown(order.command)));
    }
}

fn say(words: &str) {
    let words: String = words.chars().filter(|c| !c.is_control()).collect();
    // Who does not read is not told.
    let _ = writeln!(io::stderr(), "{words}");
}
