//! The kernel's own consoles: framebuffers and serial ports.

use super::{Below, Scene};
use crate::face::{Face, Node};
use crate::inventory::Device;
use crate::obstacle::{Class, Findings, Obstacle};
use crate::path;

/// Reports consoles on the device. Returns the nodes that it has named.
pub(super) fn find(scene: Scene<'_>, device: &Device, below: &Below, findings: &mut Findings) -> Vec<Node> {
    let label = device.label();
    let vtcon = if below.framebuffers.is_empty() { None } else { framebuffer_console(scene) };
    for framebuffer in &below.framebuffers {
        let name = path::name(framebuffer);
        match &vtcon {
            Some(vtcon) => findings.obstacle(Obstacle::new(
                &label,
                Class::InUse,
                "console",
                format!("{name} is the console's framebuffer ({vtcon} is bound)"),
                format!("echo 0 > /sys/class/vtconsole/{vtcon}/bind, which leaves the host without a screen"),
            )),
            None => findings.remark(format!("the framebuffer {name} vanishes with the driver")),
        }
    }
    firmware_framebuffer(scene, device, findings);
    let mut named = Vec::new();
    for (path, node) in &below.characters {
        for (console, _) in scene.system.consoles.iter().filter(|(_, n)| n == node) {
            named.push(*node);
            findings.obstacle(Obstacle::new(
                &label,
                Class::InUse,
                "console",
                format!("{} is the kernel's console {console}", path::name(path)),
                format!("boot without console={console}"),
            ));
        }
    }
    named
}

/// The console that draws on a framebuffer, if it is bound.
fn framebuffer_console(scene: Scene<'_>) -> Option<String> {
    const CLASS: &str = "/sys/class/vtconsole";
    scene.face.names(CLASS).into_iter().find(|name| {
        let text = |file: &str| scene.face.try_text(&format!("{CLASS}/{name}/{file}")).unwrap_or_default();
        text("name").contains("frame buffer") && text("bind").trim() == "1"
    })
}

/// A framebuffer that the firmware left in the device's memory: its own device stands on the platform bus.
fn firmware_framebuffer(scene: Scene<'_>, device: &Device, findings: &mut Findings) {
    let framebuffers = scene.system.framebuffers(scene.face, framebuffer_devices);
    if framebuffers.is_empty() {
        return;
    }
    let windows = windows(&scene.face.try_text(&device.attribute("resource")).unwrap_or_default());
    let boot_display = scene.face.try_text(&device.attribute("boot_vga")).is_some_and(|text| text.trim() == "1");
    if windows.is_empty() && !boot_display {
        return;
    }
    let claims = claims(&scene.face.try_text("/proc/iomem").unwrap_or_default());
    let claims: Vec<_> = claims.iter().filter(|(start, end, _)| *end > *start).collect();
    for (name, driver) in framebuffers {
        let inside = claims.iter().any(|(start, end, _)| windows.iter().any(|(a, b)| a <= start && end <= b));
        // Readers without rights see every address as 0: the display that the firmware used is the best guess then.
        if !(inside || claims.is_empty() && boot_display) {
            continue;
        }
        findings.obstacle(Obstacle::new(
            &device.label(),
            Class::InUse,
            "console",
            format!("the firmware's framebuffer ({name}, driver {driver}) is in this device's memory"),
            format!("echo {name} > /sys/bus/platform/drivers/{driver}/unbind, after the console has left it"),
        ));
    }
}

/// Platform devices for framebuffers of the firmware that have a driver, with it.
fn framebuffer_devices(face: &dyn Face) -> Vec<(String, String)> {
    const DRIVERS: &str = "/sys/bus/platform/drivers";
    let drivers = face.names(DRIVERS).into_iter();
    let bound = drivers.filter(|d| d.contains("framebuffer")).flat_map(|driver| {
        let entries = face.list(&format!("{DRIVERS}/{driver}")).unwrap_or_default();
        let devices = entries.into_iter().filter(|e| e.link && e.name != "module");
        devices.map(move |e| (e.name, driver.clone())).collect::<Vec<_>>()
    });
    bound.collect()
}

/// Memory windows of `resource`: start, end and flags a line.
fn windows(text: &str) -> Vec<(u64, u64)> {
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let window = |line: &str| {
        let mut words = line.split_whitespace();
        let (start, end) = (hex(words.next()?)?, hex(words.next()?)?);
        (end > start).then_some((start, end))
    };
    text.lines().filter_map(window).collect()
}

/// Lines of `/proc/iomem` that a firmware framebuffer's driver has claimed.
fn claims(text: &str) -> Vec<(u64, u64, String)> {
    let claim = |line: &str| {
        let (range, name) = line.split_once(" : ")?;
        let (start, end) = range.trim().split_once('-')?;
        let known = ["efifb", "simplefb", "simpledrm", "simple-framebuffer", "vesafb", "BOOTFB"];
        known.contains(&name).then_some(())?;
        Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?, name.into()))
    };
    text.lines().filter_map(claim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_firmware_framebuffer_is_found_in_iomem() {
        let text = "c0000000-cfffffff : 0000:01:00.0\n  c0000000-c07fffff : BOOTFB\n  d0000000-d0000fff : nvme\n";
        assert_eq!(claims(text), [(0xc000_0000, 0xc07f_ffff, "BOOTFB".into())]);
        assert_eq!(windows("0xc0000000 0xcfffffff 0x14220c\n0x0 0x0 0x0\n"), [(0xc000_0000, 0xcfff_ffff)]);
    }
}
