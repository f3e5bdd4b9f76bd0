//! `bindctl apply --early` and `bindctl initramfs`.

use std::path::PathBuf;

use super::Exit;
use super::apply::{Part, file, part, read, show};
use super::args::{ApplyArgs, Cli, InitramfsPart};
use super::journalled::{self, Ready};
use super::output::{print, print_text};
use super::run::{Failure, Host};
use crate::desired::{DesiredDevice, Source};
use crate::early;
use crate::face::Face;
use crate::inventory::Inventory;
use crate::path::{is_name, printable};

/// Needs no host: an image is often made in a folder where neither sysfs nor procfs is mounted.
pub(super) fn initramfs(
    cli: &Cli,
    face: &dyn Face,
    what: InitramfsPart,
    named: Option<&PathBuf>,
    kernel: Option<&str>,
) -> Result<Exit, Failure> {
    let path = file(cli, named);
    let text = read(&path)?;
    let name = path.display().to_string();
    let source = Source { file: &name, text: &text };
    let desired = source.parse()?;
    match what {
        InitramfsPart::State => print_text(&early::state(&source, &desired))?,
        InitramfsPart::Modules => {
            let running = face.try_text("/proc/sys/kernel/osrelease").unwrap_or_default();
            let release = kernel.unwrap_or(running.trim());
            if !is_name(release) {
                return Err(Failure::Usage(format!("--kernel {}: not the release of a kernel", printable(release))));
            }
            print(&early::modules(face, &Inventory::scan(face), &desired, release))?;
        }
    }
    Ok(Exit::Done)
}

/// Applies each entry by itself. The boot must go on unattended: an entry that cannot be applied is reported and skipped.
pub(super) fn apply(cli: &Cli, mut host: Host, args: &ApplyArgs) -> Result<Exit, Failure> {
    let path = file(cli, args.file.as_ref());
    let text = read(&path)?;
    let name = path.display().to_string();
    let source = Source { file: &name, text: &text };
    let desired = source.parse()?;
    let mut worst = Exit::Done;
    let mut shown = Vec::new();
    for entry in &desired.devices {
        let part = match wanted(&host, &source, entry) {
            Ok(part) => part,
            Err(why) => {
                eprintln!("bindctl: left for later: {}", printable(&why));
                continue;
            }
        };
        if args.run.dry_run || !host.face().has_kernel() || part.plan.is_refused() || part.plan.steps.is_empty() {
            if part.plan.is_refused() {
                worst = Exit::of(&part.plan.findings.obstacles);
            }
            shown.push(part);
            continue;
        }
        let exit = run(cli, &host, &source, entry, &part, args.run.timeout);
        worst = match exit {
            Ok(Exit::Done) => worst,
            Ok(exit) => exit,
            Err(failure) => {
                eprintln!("bindctl: {}", printable(&failure.to_string()));
                failure.exit()
            }
        };
        // What was moved is not what was read any more.
        host = Host::open(cli)?;
    }
    // With nothing to show, there is nothing that was not said already.
    if cli.json || !shown.is_empty() {
        show(cli, &shown)?;
    }
    Ok(worst)
}

/// The plan for an entry; the error says why it must wait.
fn wanted(host: &Host, source: &Source<'_>, entry: &DesiredDevice) -> Result<Part, String> {
    // Accounts are not known yet; the running system gives the nodes to their owner.
    let entry = DesiredDevice { owner: None, ..entry.clone() };
    let resolved =
        source.resolve_one(host.face(), host.scene().inventory, &entry).map_err(|error| error.to_string())?;
    // A twin could have moved to the address: only what proves to be the device is moved.
    if let Some(warning) = resolved.warnings.first() {
        return Err(format!("{}:{}: {warning}", source.file, source.line(&entry.select.span())));
    }
    part(host, &[&resolved], &[]).map_err(|error| error.to_string())
}

fn run(
    cli: &Cli,
    host: &Host,
    source: &Source<'_>,
    entry: &DesiredDevice,
    part: &Part,
    timeout: u64,
) -> Result<Exit, Failure> {
    let ready = Ready {
        purpose: part.purpose.into(),
        devices: part.plan.subjects.iter().map(|subject| subject.device.clone()).collect(),
        steps: part.plan.steps.clone(),
        remembered: part.plan.remembered.clone(),
        takes: part.takes.clone(),
    };
    let again = |host: &Host| Ok(wanted(host, source, entry).map_err(Failure::Policy)?.plan.steps);
    journalled::run(cli, host, &ready, timeout, again)
}
