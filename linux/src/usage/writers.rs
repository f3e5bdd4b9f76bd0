//! Writes that are under way: another process binds, unbinds or removes the device.

use super::Scene;
use crate::inventory::Device;
use crate::obstacle::{Class, Findings, Obstacle};
use crate::path;

pub(super) fn find(scene: Scene<'_>, device: &Device, findings: &mut Findings) {
    let own_files = format!("{}/", device.path);
    let driver_files = device.driver.as_ref().map(|driver| format!("{}/", device.driver_path(driver)));
    // The kernel takes the link to the driver away before it calls the driver, whose holder it then waits for.
    let bus_files = device.driver.is_none().then(|| format!("/sys/bus/{}/drivers/", device.bus));
    for open in scene.system.open.iter().filter(|open| open.text.starts_with("/sys/")) {
        let whose = if open.text.starts_with(&own_files) {
            "this device"
        } else if driver_files.as_ref().is_some_and(|files| open.text.starts_with(files)) {
            "a device of this driver"
        } else if bus_files.as_ref().is_some_and(|files| open.text.starts_with(files) && open.text.ends_with("/unbind"))
        {
            "a device of this bus, which may be this one,"
        } else {
            continue;
        };
        let process = scene.system.processes.iter().find(|p| p.pid == open.pid);
        let stuck = process.is_some_and(|p| p.state == 'D');
        let who = scene.system.who(open.pid);
        let state = if stuck { " and waits in the kernel (state D)" } else { "" };
        findings.obstacle(Obstacle::new(
            &device.label(),
            Class::CannotTell,
            "under-way",
            format!("{} of {whose} is under way: {who} has {} open{state}", path::name(&open.text), open.text),
            if stuck {
                format!("find and end who holds the device; {who} cannot be killed while it waits")
            } else {
                format!("wait until {who} is done")
            },
        ));
    }
}
