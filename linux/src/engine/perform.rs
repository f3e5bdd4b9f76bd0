//! Execution and verification of one step.

use std::fs::File;
use std::time::{Duration, Instant};

use super::is_busy;
use crate::face::{Face, FaceError, Kind, Node};
use crate::plan::{Action, Condition, Place};

/// Longest wait for an effect that follows a write: nodes are made by another process.
const SETTLE: Duration = Duration::from_secs(3);

/// Reason why a step failed.
pub(super) enum Failure {
    Failed(String),
    Late { why: String, helper: Option<u32> },
}

impl From<FaceError> for Failure {
    fn from(error: FaceError) -> Self {
        match error {
            FaceError::Late { helper, .. } => Self::Late { why: error.to_string(), helper },
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Does the step, and looks whether it worked.
pub(super) fn perform(
    face: &dyn Face,
    device: &Place,
    action: &Action,
    timeout: Duration,
    locks: &[File],
) -> Result<(), Failure> {
    match action {
        Action::LoadModule { module, .. } => face.load_module(module)?,
        Action::Bind { driver } => bind(face, device, driver, timeout, locks)?,
        Action::Own { user, group } => own(face, device, *user, *group)?,
        Action::VerifyDriver { .. } => {}
        Action::VerifyNodes => return settle(timeout, || nodes_agree(face, device)),
        Action::Unbind { .. } | Action::Functions { .. } | Action::Probe => {
            // These wait for the device's holder, or for a driver's probe.
            if let Some((path, value)) = action.write(device) {
                face.write_within(&path, value.as_bytes(), timeout, locks)?;
            }
        }
        Action::Override { .. } | Action::Autoprobe { .. } | Action::Power { .. } | Action::D3cold { .. } => {
            if let Some((path, value)) = action.write(device) {
                face.write(&path, value.as_bytes())?;
            }
        }
    }
    // The kernel answers success to writes that did nothing, as `drivers_probe` when no driver took the device.
    match action.after() {
        Condition::Always => Ok(()),
        condition => condition.check(face, device, timeout).map_err(|why| Failure::Failed(format!("{action}: {why}"))),
    }
}

/// Binds by the driver's own file, which gives a real error, then by `drivers_probe`.
fn bind(face: &dyn Face, device: &Place, driver: &str, timeout: Duration, locks: &[File]) -> Result<(), Failure> {
    let path = device.driver_file(driver, "bind");
    let started = Instant::now();
    // A device that has just left vfio-pci can be busy for about a second.
    let first = loop {
        match face.write_within(&path, device.name.as_bytes(), timeout, locks) {
            Err(error)
                if is_busy(&error) && device.driver(face).is_none() && started.elapsed() < SETTLE.min(timeout) =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => break other,
        }
    };
    let Err(first) = first else { return Ok(()) };
    if device.driver(face).as_deref() == Some(driver) || matches!(first, FaceError::Late { .. }) {
        return if matches!(first, FaceError::Late { .. }) { Err(first.into()) } else { Ok(()) };
    }
    let probe = format!("/sys/bus/{}/drivers_probe", device.bus);
    match face.write_within(&probe, device.name.as_bytes(), timeout, locks) {
        Err(late @ FaceError::Late { .. }) => Err(late.into()),
        // What `bind` answered says more: drivers_probe knows success and EINVAL only.
        _ if device.driver(face).as_deref() != Some(driver) => Err(first.into()),
        _ => Ok(()),
    }
}

fn settle(timeout: Duration, mut check: impl FnMut() -> Result<(), String>) -> Result<(), Failure> {
    let started = Instant::now();
    loop {
        match check() {
            Ok(()) => return Ok(()),
            Err(why) if started.elapsed() >= SETTLE.min(timeout) => return Err(Failure::Failed(why)),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The nodes that the kernel has for a device, with their numbers.
fn nodes(face: &dyn Face, device: &Place) -> Vec<(String, Node)> {
    let mut found = Vec::new();
    let mut add = |path: String, place: String| {
        let Some(text) = face.try_text(&format!("{place}/dev")) else { return };
        let Some((major, minor)) = text.trim().split_once(':') else { return };
        if let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) {
            found.push((path, Node { block: false, major, minor }));
        }
    };
    if let Some(group) = face.link_name(&device.file("iommu_group")) {
        for name in [group.clone(), format!("noiommu-{group}")] {
            let link = format!("/sys/class/vfio/{name}");
            let place = face.resolve(&link).ok().flatten().unwrap_or(link);
            add(format!("/dev/vfio/{name}"), place);
        }
    }
    for name in face.names(&device.file("vfio-dev")) {
        add(format!("/dev/vfio/devices/{name}"), device.file(&format!("vfio-dev/{name}")));
    }
    found
}

fn nodes_agree(face: &dyn Face, device: &Place) -> Result<(), String> {
    let nodes = nodes(face, device);
    if nodes.is_empty() {
        return Err(format!("the kernel has no node for {device}"));
    }
    for (path, node) in nodes {
        match face.kind(&path) {
            Ok(Kind::Node(actual)) if actual == node => {}
            Ok(Kind::Node(actual)) => return Err(format!("{path} is {actual}, the kernel says {node}")),
            Ok(_) => return Err(format!("{path} is not a device node")),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

fn own(face: &dyn Face, device: &Place, user: u32, group: u32) -> Result<(), Failure> {
    for (path, node) in nodes(face, device) {
        face.own(&path, node, user, group)?;
    }
    Ok(())
}
