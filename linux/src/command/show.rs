//! `bindctl show`.

use serde_json::json;

use super::Exit;
use super::output::{SCHEMA, print, print_json};
use super::plan;
use super::run::{Failure, Host};
use crate::check::managers;
use crate::inventory::{Device, Names, Override, Reset, Vpd, acs_on_the_way, rate_isolation};
use crate::plan::{Memory, Plan, Request, build, remember};
use crate::usage;

pub(super) fn run(host: &Host, word: &str, guest: Option<u64>, json: bool) -> Result<Exit, Failure> {
    let device = host.select(word)?;
    let (mut plan, memory) = look(host, device);
    plan::compare_memory(host, guest, None, &mut plan);
    if json {
        print_json(&as_json(host, device, &plan, &memory))?;
    } else {
        print(&as_text(host, device, &plan, &memory))?;
    }
    Ok(Exit::Done)
}

/// Everything that matters, in lines.
pub(super) fn lines(host: &Host, device: &Device) -> Vec<String> {
    let (plan, memory) = look(host, device);
    as_text(host, device, &plan, &memory)
}

/// The plan that would give the device, and what would have to be remembered.
fn look(host: &Host, device: &Device) -> (Plan, Memory) {
    let request = Request { devices: vec![device], ..Request::default() };
    let mut plan = build(host.scene(), &request);
    // A device that is given already still has users that matter.
    plan.findings.add(usage::find(host.scene(), device));
    (plan, remember(host.face(), device))
}

fn members(host: &Host, device: &Device) -> Vec<(String, String)> {
    let members = host.scene().inventory.siblings(device);
    members
        .map(|sibling| {
            let role = match sibling.driver.as_deref() {
                None => "no driver: does not block".into(),
                Some(driver) if sibling.leaves_dma_alone() => format!("{driver}: does not block"),
                Some(driver) => format!("{driver}: blocks"),
            };
            (sibling.label(), role)
        })
        .collect()
}

fn as_json(host: &Host, device: &Device, plan: &Plan, memory: &Memory) -> serde_json::Value {
    let scene = host.scene();
    let reset = Reset::read(scene.face, scene.inventory, device);
    let acs = acs_on_the_way(scene.face, scene.inventory, device);
    let vpd = Vpd::read(scene.face, device);
    let group = scene.inventory.group_of(device).map(|group| {
        json!({
            "name": group.name,
            "type": group.domain_type(scene.face),
            "others": members(host, device).iter().map(|(d, role)| json!({"device": d, "role": role})).collect::<Vec<_>>(),
            "reserved": group.reserved(scene.face).iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    json!({
        "schema": SCHEMA,
        "device": device.label(),
        "path": device.path,
        "route": device.route(),
        "vpd": vpd.as_ref().map(|vpd| json!({ "name": vpd.name, "part": vpd.part, "serial": vpd.serial })),
        "ids": device.ids(),
        "driver": device.driver,
        "driver_override": memory.driver_override,
        "group": group,
        "isolation": rate_isolation(scene.face),
        "acs": acs.iter().map(|(bridge, acs)| json!({"bridge": bridge, "acs": acs.to_string()})).collect::<Vec<_>>(),
        "reset": reset.map(|r| json!({"methods": r.methods, "also_resets": r.spreads_to})),
        "managers": managers(scene.face, device),
        "names": memory,
        "can_be_given": !plan.is_refused(),
        "obstacles": plan.findings.obstacles,
        "warnings": plan.findings.warnings,
        "remarks": plan.findings.remarks,
    })
}

fn as_text(host: &Host, device: &Device, plan: &Plan, memory: &Memory) -> Vec<String> {
    let scene = host.scene();
    let mut lines = Vec::new();
    let names = Names::of(scene.face, device.vendor.zip(device.product));
    let name = device.vendor.zip(device.product).and_then(|(v, d)| names.device(v, d));
    let ids = device.ids().map_or(String::new(), |ids| format!("  {ids}"));
    lines.push(format!("{}{ids}  {}", device.label(), name.unwrap_or_default()).trim_end().into());
    let mut field = |key: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("  {key:11} {value}"));
        }
    };
    field("path", device.path.clone());
    field("route", device.route().map(|route| format!("path={route}")).unwrap_or_default());
    field("driver", device.driver.clone().unwrap_or_else(|| "none".into()));
    field(
        "override",
        match device.driver_override(scene.face) {
            Override::Driver(driver) => driver,
            Override::None => "empty".into(),
            Override::Unread(error) => format!("not read: {error}"),
        },
    );
    field("names", memory.names.join(", "));
    field("serial", memory.serials.join(", "));
    field(
        "product",
        match Vpd::read(scene.face, device) {
            Some(vpd) => [vpd.name, vpd.part].into_iter().flatten().collect::<Vec<_>>().join(", part "),
            None if scene.face.exists(&device.attribute("vpd")) => "not read: no answer, or only for root".into(),
            None => String::new(),
        },
    );
    field("mac", memory.macs.join(", "));
    match scene.inventory.group_of(device) {
        Some(group) => {
            let count = group.size(scene.face);
            let devices = if count == 1 { "one device".into() } else { format!("{count} devices") };
            let kind = group.domain_type(scene.face).unwrap_or_default();
            field("group", format!("{} ({kind}), {devices}", group.name));
            for (sibling, role) in members(host, device) {
                field("", format!("{sibling}  {role}"));
            }
        }
        None if scene.inventory.has_iommu() => field("group", "none".into()),
        None => field("group", "none: there is no IOMMU".into()),
    }
    field("isolation", rate_isolation(scene.face).into());
    let acs = acs_on_the_way(scene.face, scene.inventory, device);
    let acs: Vec<String> = acs.iter().map(|(bridge, acs)| format!("{acs} at {bridge}")).collect();
    field("ACS", acs.join(", "));
    if let Some(reset) = Reset::read(scene.face, scene.inventory, device) {
        let spreads = match reset.spreads_to.as_slice() {
            [] => String::new(),
            also => format!(", which also resets {}", also.join(", ")),
        };
        field(
            "reset",
            format!("{}{spreads}", if reset.methods.is_empty() { "none".into() } else { reset.methods.join(" ") }),
        );
    }
    for manager in managers(scene.face, device) {
        field("managed by", manager);
    }
    lines.push(String::new());
    lines.extend(plan::findings(&plan.findings));
    if plan.findings.obstacles.is_empty() {
        lines.push(if device.is_on_vfio() {
            "given; no holder found".into()
        } else {
            "can be given; no holder found".into()
        });
    }
    lines
}
