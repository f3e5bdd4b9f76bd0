//! `bindctl watch`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::Exit;
use super::args::Cli;
use super::output::SCHEMA;
use super::run::{self, Failure};
use crate::face::{Change, Face, FaceError, Uevent, Uevents};
use crate::inventory::{Device, Inventory};
use crate::path::{self, printable};
use crate::select::select;

/// Interval at which a reader that has left is looked for.
const TICK: Duration = Duration::from_secs(1);

/// Classes whose devices are worth a line: what a driver makes of a device, and what VFIO does.
const CLASSES: [&str; 7] = ["net", "block", "nvme", "vfio", "vfio-dev", "drm", "sound"];

pub(super) fn watch(cli: &Cli, words: &[String]) -> Result<Exit, Failure> {
    let face = run::face(cli)?;
    // Before the first look: a change in between is printed twice rather than not at all.
    let events = face.uevents().map_err(|error| match error.errno() {
        Some(Errno::PERM | Errno::ACCESS) => Failure::Denied(error),
        _ => Failure::Usage(error.to_string()),
    })?;
    let mut out = io::stdout();
    let mut watch = Watch::begin(face.as_ref(), words, cli.json)?;
    match watch.run(events, &mut out) {
        Ok(()) | Err(Ended::ReaderGone) => Ok(Exit::Done),
        Err(Ended::Output(error)) => Err(error.into()),
        Err(Ended::Source(error)) => Err(Failure::Kernel(error)),
    }
}

/// Reason why a watch ends.
enum Ended {
    ReaderGone,
    Output(io::Error),
    Source(FaceError),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::ReaderGone } else { Self::Output(error) }
    }
}

/// Fields of a device's line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    label: String,
    driver: Option<String>,
    group: Option<String>,
}

struct Watch<'a> {
    face: &'a dyn Face,
    json: bool,
    /// Only these paths; empty for all.
    only: Vec<String>,
    known: BTreeMap<String, State>,
    started: Instant,
}

/// A destination that knows when its reader has left.
trait Output: Write {
    fn is_left(&self) -> bool;
}

impl Output for io::Stdout {
    fn is_left(&self) -> bool {
        let mut out = [PollFd::new(self, PollFlags::empty())];
        poll(&mut out, Some(&Timespec::default())).is_ok() && out[0].revents().contains(PollFlags::ERR)
    }
}

impl<'a> Watch<'a> {
    fn begin(face: &'a dyn Face, words: &[String], json: bool) -> Result<Self, Failure> {
        let inventory = Inventory::scan(face);
        let only = words.iter().map(|word| select(face, &inventory, word).map(|device| device.path.clone()));
        let only = only.collect::<Result<Vec<_>, _>>()?;
        let mut watch = Self { face, json, only, known: BTreeMap::new(), started: Instant::now() };
        watch.known = watch.states(&inventory);
        Ok(watch)
    }

    fn states(&self, inventory: &Inventory) -> BTreeMap<String, State> {
        let wanted = inventory.devices.iter().filter(|device| self.wants(&device.path));
        wanted.map(|device| (device.path.clone(), state(device))).collect()
    }

    fn wants(&self, path: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == path)
    }

    fn run(&mut self, mut events: Box<dyn Uevents + '_>, out: &mut impl Output) -> Result<(), Ended> {
        let count = self.known.len();
        self.print_event(out, &format!("watching {count} devices"), json!({ "event": "watching", "devices": count }))?;
        loop {
            match events.next(TICK) {
                Ok(Some(Change::Device(event))) => self.changed(&event, out)?,
                Ok(Some(Change::Lost)) => {
                    self.print_event(
                        out,
                        "events were lost: all devices are looked at again",
                        json!({ "event": "lost" }),
                    )?;
                    self.rescan(out)?;
                }
                Ok(None) if out.is_left() => return Err(Ended::ReaderGone),
                Ok(None) => {}
                Err(error) => return Err(Ended::Source(error)),
            }
        }
    }

    /// Looks at the device that an event is about, or the one above it.
    fn changed(&mut self, event: &Uevent, out: &mut impl Output) -> Result<(), Ended> {
        let bus = self.face.link_name(&format!("{}/subsystem", event.path)).unwrap_or_else(|| event.subsystem.clone());
        let name = path::name(&event.path);
        // A device that has gone is not read any more; a new one may have this path by now, and is.
        let now = Device::on(self.face, &bus, name).filter(|device| device.path == event.path);
        match (self.known.get(&event.path).cloned(), now) {
            (_, Some(device)) if !self.wants(&device.path) => Ok(()),
            (before, Some(device)) => {
                let now = state(&device);
                self.known.insert(device.path, now.clone());
                self.compare(&event.action, event.sequence, before.as_ref(), Some(&now), out)
            }
            (Some(before), None) => {
                self.known.remove(&event.path);
                self.compare(&event.action, event.sequence, Some(&before), None, out)
            }
            (None, None) => self.below(event, out),
        }
    }

    /// A device that a driver made: it belongs to the nearest device above.
    fn below(&mut self, event: &Uevent, out: &mut impl Output) -> Result<(), Ended> {
        if !CLASSES.contains(&event.subsystem.as_str()) || !matches!(event.action.as_str(), "add" | "remove") {
            return Ok(());
        }
        let mut above = path::parent(&event.path);
        while !above.is_empty() && !self.known.contains_key(above) {
            above = path::parent(above);
        }
        let (class, name) = (&event.subsystem, path::name(&event.path));
        // The node of a VFIO group is below no device: it belongs to the group's members.
        let of_group = |state: &&State| class == "vfio" && state.group.as_deref() == Some(name);
        let grouped = self.known.values().find(of_group);
        let Some(device) = self.known.get(above).or(grouped).map(|state| state.label.clone()) else { return Ok(()) };
        let what = if event.action == "add" { "appears" } else { "is gone" };
        let value = json!({
            "event": "child", "device": device, "action": event.action, "class": class, "name": name,
            "sequence": event.sequence,
        });
        self.print_event(out, &format!("{device}  {class} {name} {what}"), value)
    }

    /// Tells what differs from what was known.
    fn rescan(&mut self, out: &mut impl Output) -> Result<(), Ended> {
        let now = self.states(&Inventory::scan(self.face));
        let before = std::mem::replace(&mut self.known, now.clone());
        for (path, state) in &before {
            if now.get(path) != Some(state) {
                self.compare("rescan", None, Some(state), now.get(path), out)?;
            }
        }
        for (_, state) in now.iter().filter(|(path, _)| !before.contains_key(*path)) {
            self.compare("rescan", None, None, Some(state), out)?;
        }
        Ok(())
    }

    fn compare(
        &self,
        action: &str,
        sequence: Option<u64>,
        before: Option<&State>,
        now: Option<&State>,
        out: &mut impl Output,
    ) -> Result<(), Ended> {
        let Some(state) = now.or(before) else { return Ok(()) };
        let driver = |state: &State| state.driver.clone().unwrap_or_else(|| "no driver".into());
        let text = match (before, now) {
            (Some(before), Some(now)) if before.driver != now.driver => {
                format!("{} -> {}", driver(before), driver(now))
            }
            (Some(before), Some(now)) if before.group != now.group => {
                format!("{}, group {}", driver(now), now.group.as_deref().unwrap_or("none"))
            }
            // A driver that came back at once, or news of something else.
            (Some(_), Some(now)) => driver(now),
            (None, Some(now)) => format!("new, {}", driver(now)),
            (_, None) => "removed".into(),
        };
        let value = json!({
            "event": "device", "device": state.label, "action": action, "present": now.is_some(),
            "driver": now.and_then(|s| s.driver.clone()), "was": before.and_then(|s| s.driver.clone()),
            "group": now.and_then(|s| s.group.clone()), "sequence": sequence,
        });
        self.print_event(out, &format!("{}  {text} ({action})", state.label), value)
    }

    /// Prints one line, at once.
    fn print_event(&self, out: &mut impl Output, text: &str, mut value: Value) -> Result<(), Ended> {
        let line = if self.json {
            value["schema"] = SCHEMA.into();
            value.to_string()
        } else {
            format!("{:>9.3}  {}", self.started.elapsed().as_secs_f64(), printable(text))
        };
        writeln!(out, "{line}")?;
        out.flush()?;
        Ok(())
    }
}

fn state(device: &Device) -> State {
    State { label: device.label(), driver: device.driver.clone(), group: device.group.clone() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::face::Directory;

    type Edit = fn(&Path);

    /// Changes that come after the host was changed in this way; then the source fails.
    struct Script<'a> {
        root: &'a Path,
        changes: Vec<(Edit, Change)>,
    }

    impl Uevents for Script<'_> {
        fn next(&mut self, _: Duration) -> crate::face::Result<Option<Change>> {
            if self.changes.is_empty() {
                return Err(FaceError::Unsupported { path: "test".into(), why: "over" });
            }
            let (edit, change) = self.changes.remove(0);
            edit(self.root);
            Ok(Some(change))
        }
    }

    /// Nothing happens.
    struct Quiet;

    impl Uevents for Quiet {
        fn next(&mut self, _: Duration) -> crate::face::Result<Option<Change>> {
            Ok(None)
        }
    }

    #[derive(Default)]
    struct Paper {
        text: Vec<u8>,
        /// Lines that are taken before the reader leaves.
        lines: Option<usize>,
        left: bool,
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.lines.is_some_and(|most| self.text.split(|b| *b == b'\n').count() > most) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.text.extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output for Paper {
        fn is_left(&self) -> bool {
            self.left
        }
    }

    const DISK: &str = "sys/devices/pci0000:00/0000:00:04.0";

    fn link(root: &Path, at: &str, text: &str) {
        let at = root.join(at);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&at);
        std::os::unix::fs::symlink(text, at).unwrap();
    }

    fn host() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join(DISK)).unwrap();
        fs::write(root.join(DISK).join("driver_override"), "\n").unwrap();
        link(root, "sys/bus/pci/devices/0000:00:04.0", "../../../devices/pci0000:00/0000:00:04.0");
        link(root, &format!("{DISK}/subsystem"), "../../../bus/pci");
        to(root, "nvme");
        let face = Directory::open(root).unwrap();
        (dir, face)
    }

    fn to(root: &Path, driver: &str) {
        link(root, &format!("{DISK}/driver"), &format!("../../../bus/pci/drivers/{driver}"));
    }

    fn event(action: &str, below: &str, subsystem: &str) -> Change {
        let path = format!("/{DISK}{below}");
        Change::Device(Uevent { action: action.into(), path, subsystem: subsystem.into(), sequence: Some(7) })
    }

    fn watched(json: bool, changes: Vec<(Edit, Change)>) -> Vec<String> {
        let (dir, face) = host();
        let mut watch = Watch::begin(&face, &[], json).unwrap();
        let mut paper = Paper::default();
        let ended = watch.run(Box::new(Script { root: dir.path(), changes }), &mut paper);
        assert!(matches!(ended, Err(Ended::Source(_))));
        String::from_utf8(paper.text).unwrap().lines().map(Into::into).collect()
    }

    #[test]
    fn a_hand_over_is_told_step_by_step() {
        let lines = watched(
            false,
            vec![
                (|_| (), event("remove", "/nvme/nvme0/nvme0n1", "block")),
                (|root| fs::remove_file(root.join(DISK).join("driver")).unwrap(), event("unbind", "", "pci")),
                (|root| to(root, "vfio-pci"), event("bind", "", "pci")),
                (|_| (), event("add", "/nvme/nvme0/hwmon/hwmon1", "hwmon")),
                (|root| fs::remove_dir_all(root.join(DISK)).unwrap(), event("remove", "", "pci")),
            ],
        );
        let lines: Vec<&str> = lines.iter().map(|line| &line[11..]).collect();
        assert_eq!(
            lines,
            [
                "watching 1 devices",
                "0000:00:04.0  block nvme0n1 is gone",
                "0000:00:04.0  nvme -> no driver (unbind)",
                "0000:00:04.0  no driver -> vfio-pci (bind)",
                "0000:00:04.0  removed (remove)",
            ]
        );
    }

    #[test]
    fn the_node_of_a_group_belongs_to_its_member() {
        let node = |name: &str| {
            let path = format!("/sys/devices/virtual/vfio/{name}");
            Change::Device(Uevent { action: "add".into(), path, subsystem: "vfio".into(), sequence: None })
        };
        let join: Edit = |root| link(root, &format!("{DISK}/iommu_group"), "../../../kernel/iommu_groups/7");
        let lines = watched(false, vec![(join, event("bind", "", "pci")), (|_| (), node("8")), (|_| (), node("7"))]);
        assert_eq!((lines.len(), &lines[2][11..]), (3, "0000:00:04.0  vfio 7 appears"));
    }

    #[test]
    fn lost_events_have_everything_looked_at_again() {
        let lines = watched(true, vec![(|root| to(root, "vfio-pci"), Change::Lost), (|_| (), Change::Lost)]);
        let values: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let events: Vec<&str> = values.iter().map(|v| v["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["watching", "lost", "device", "lost"], "each change is printed once");
        assert_eq!((&values[2]["was"], &values[2]["driver"]), (&json!("nvme"), &json!("vfio-pci")));
        assert!(values.iter().all(|value| value["schema"] == SCHEMA));
    }

    #[test]
    fn only_the_named_devices_are_told() {
        let (dir, face) = host();
        let mut watch = Watch::begin(&face, &["0000:00:04.0".into()], false).unwrap();
        watch.only = vec!["/sys/devices/other".into()];
        watch.known.clear();
        let mut paper = Paper::default();
        let changes: Vec<(Edit, Change)> = vec![(|_| (), event("bind", "", "pci"))];
        assert!(watch.run(Box::new(Script { root: dir.path(), changes }), &mut paper).is_err());
        assert_eq!(String::from_utf8(paper.text).unwrap().lines().count(), 1);
        assert!(Watch::begin(&face, &["0000:00:09.0".into()], false).is_err());
    }

    #[test]
    fn a_reader_that_has_left_ends_it() {
        let (dir, face) = host();
        let mut watch = Watch::begin(&face, &[], false).unwrap();
        let mut paper = Paper { lines: Some(1), ..Paper::default() };
        let changes: Vec<(Edit, Change)> = vec![(|root| to(root, "x"), event("bind", "", "pci"))];
        let ended = watch.run(Box::new(Script { root: dir.path(), changes }), &mut paper);
        assert!(matches!(ended, Err(Ended::ReaderGone)));
        // Also while nothing happens that could be written.
        let mut paper = Paper { left: true, ..Paper::default() };
        assert!(matches!(watch.run(Box::new(Quiet), &mut paper), Err(Ended::ReaderGone)));
    }
}
