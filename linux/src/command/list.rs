//! `bindctl list`.

use serde_json::json;

use super::Exit;
use super::output::{SCHEMA, print, print_json, shorten, width};
use super::run::{Failure, Host};
use crate::check;
use crate::inventory::{Device, Names};
use crate::obstacle::{Class, Findings};
use crate::usage;

struct Row<'a> {
    device: &'a Device,
    findings: Findings,
}

pub(super) fn run(host: &Host, all: bool, json: bool) -> Result<Exit, Failure> {
    let scene = host.scene();
    let mut shown: Vec<&Device> = scene.inventory.devices.iter().filter(|d| all || is_endpoint(d)).collect();
    shown.sort_by_key(|d| (group_key(d), d.bus.clone(), d.name.clone()));
    let rows: Vec<Row<'_>> = shown.into_iter().map(|device| Row { device, findings: look(host, device) }).collect();
    if json {
        print_json(&as_json(host, &rows))?;
    } else {
        print(&as_text(host, &rows))?;
        for trouble in &scene.inventory.troubles {
            eprintln!("warning: {}", crate::path::printable(&trouble.to_string()));
        }
    }
    Ok(Exit::Done)
}

/// Devices that are handed over: endpoints on PCI, and whatever is behind an IOMMU on other buses.
fn is_endpoint(device: &Device) -> bool {
    if device.bus == "pci" { !device.is_bridge() } else { device.group.is_some() }
}

fn group_key(device: &Device) -> (u32, String) {
    let group = device.group.clone().unwrap_or_default();
    (group.parse().unwrap_or(u32::MAX), group)
}

/// Obstacles that are known without waking the device: its configuration space is not read.
fn look(host: &Host, device: &Device) -> Findings {
    let scene = host.scene();
    let mut findings = usage::find(scene, device);
    // They vanish with its driver, whoever has them.
    for function in scene.inventory.virtual_functions(device) {
        findings.add(usage::find(scene, function));
    }
    for sibling in check::group(scene.inventory, device, &[]) {
        findings.obstacle(crate::Obstacle::new(
            &device.label(),
            Class::NotViable,
            "sibling",
            format!("{} of its group is on {}", sibling.label(), sibling.driver.as_deref().unwrap_or_default()),
            if device.vanishes_with(sibling) { "bindctl show" } else { "--hold-siblings" },
        ));
    }
    if let Some(what) = check::without_group(scene, device) {
        findings.obstacle(crate::Obstacle::new(&device.label(), Class::NotViable, "no-iommu", what, "bindctl show"));
    }
    if device.is_bridge() {
        let what = "a bridge: VFIO takes only endpoints";
        findings.obstacle(crate::Obstacle::new(&device.label(), Class::NotViable, "bridge", what, "bindctl show"));
    }
    let regions = scene.inventory.group_of(device).map_or_else(Vec::new, |group| group.reserved(scene.face));
    for region in regions.iter().filter(|region| region.kind == "direct") {
        let what = format!("reserved region {region}");
        findings.obstacle(crate::Obstacle::new(
            &device.label(),
            Class::NotViable,
            "reserved-region",
            what,
            "bindctl show",
        ));
    }
    if check::vfio_driver(&device.bus).is_none() {
        let what = format!("no VFIO driver for the bus {}", device.bus);
        findings.obstacle(crate::Obstacle::new(&device.label(), Class::NotViable, "no-driver", what, "bindctl show"));
    }
    findings
}

fn names(host: &Host, rows: &[Row<'_>]) -> Names {
    let ids = rows.iter().filter_map(|row| Some((row.device.vendor?, row.device.product?)));
    Names::of(host.face(), ids)
}

fn name<'a>(names: &'a Names, device: &Device) -> Option<&'a str> {
    names.device(device.vendor?, device.product?)
}

fn as_json(host: &Host, rows: &[Row<'_>]) -> serde_json::Value {
    let names = names(host, rows);
    let devices = rows.iter().map(|row| {
        let device = row.device;
        json!({
            "device": device.label(),
            "bus": device.bus,
            "path": device.path,
            "ids": device.ids(),
            "class": device.class.map(|c| format!("{c:06x}")),
            "name": name(&names, device),
            "driver": device.driver,
            "group": device.group,
            "can_be_given": row.findings.obstacles.is_empty(),
            "on_vfio": device.is_on_vfio(),
            "obstacles": row.findings.obstacles,
            "warnings": row.findings.warnings,
        })
    });
    let troubles: Vec<String> = host.scene().inventory.troubles.iter().map(ToString::to_string).collect();
    json!({ "schema": SCHEMA, "devices": devices.collect::<Vec<_>>(), "troubles": troubles })
}

fn as_text(host: &Host, rows: &[Row<'_>]) -> Vec<String> {
    if rows.is_empty() {
        return vec!["no devices; `bindctl list --all` shows bridges and devices without a group, too".into()];
    }
    let names = names(host, rows);
    let widest = |texts: &mut dyn Iterator<Item = usize>, least: usize| texts.max().unwrap_or(0).max(least);
    let device_width = widest(&mut rows.iter().map(|r| r.device.label().chars().count()), 6);
    let driver = |device: &Device| device.driver.clone().unwrap_or_else(|| "-".into());
    let driver_width = widest(&mut rows.iter().map(|r| driver(r.device).chars().count()), 6);
    let mut lines = vec![format!("GROUP  {:device_width$}  {:driver_width$}  {:9}  GIVE", "DEVICE", "DRIVER", "ID")];
    let columns = width();
    for row in rows {
        let device = row.device;
        let group = device.group.as_deref().unwrap_or("-");
        let ids = device.ids().unwrap_or_default();
        let what = match row.findings.obstacles.first() {
            Some(first) if row.findings.obstacles.len() > 1 => {
                format!("no: {} (and {} more)", first.what, row.findings.obstacles.len() - 1)
            }
            Some(first) => format!("no: {}", first.what),
            None if device.is_on_vfio() => "given; no holder found".into(),
            None => match name(&names, device) {
                Some(name) => format!("yes, no holder found: {name}"),
                None => "yes, no holder found".into(),
            },
        };
        let line =
            format!("{group:>5}  {:device_width$}  {:driver_width$}  {ids:9}  {what}", device.label(), driver(device));
        lines.push(shorten(&line, columns));
    }
    lines
}
