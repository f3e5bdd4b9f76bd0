//! The tree as text.

use std::collections::HashMap;

use super::{DeviceRow, OtherRow, Report, State};
use crate::failure::Result;
use crate::output::{DIM, ERROR, GOOD, HEADING, NAME, Output, PLAIN, WARNING, count};

/// First column of the second part of a line.
const SECOND: usize = 44;
/// Width of the column of property names.
const PROPERTY: usize = 22;

/// An item of the tree.
#[derive(Clone, Copy)]
enum Item<'r> {
    Device(&'r DeviceRow),
    Other(&'r OtherRow),
}

impl Item<'_> {
    fn node(&self) -> &str {
        match self {
            Self::Device(d) => &d.node,
            Self::Other(o) => &o.node,
        }
    }

    fn parent(&self) -> Option<&str> {
        match self {
            Self::Device(d) => d.parent.as_deref(),
            Self::Other(o) => o.parent.as_deref(),
        }
    }
}

/// Draws `report`; with registers, interrupt lines and DMA properties when `long`.
pub fn draw(report: &Report, long: bool, output: &mut Output<'_>) -> Result<()> {
    let model = report.model.as_deref().unwrap_or("a board without a name");
    let title = output.paint(HEADING, model);
    output.line(format_args!("{title}  {}", output.paint(DIM, &report.origin)))?;

    let items = report.devices.iter().map(Item::Device).chain(report.others.iter().map(Item::Other));
    let items: Vec<Item<'_>> = items.collect();
    let known: HashMap<&str, usize> = items.iter().enumerate().map(|(i, item)| (item.node(), i)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    let mut top = Vec::new();
    for (i, item) in items.iter().enumerate() {
        match item.parent().and_then(|p| known.get(p)) {
            Some(parent) if *parent != i => children[*parent].push(i),
            _ => top.push(i),
        }
    }

    // A stack instead of recursion: the blob decides how deep the tree is.
    let mut pending: Vec<(usize, String, bool)> = Vec::new();
    let push = |pending: &mut Vec<_>, list: &[usize], prefix: &str| {
        for (at, i) in list.iter().enumerate().rev() {
            pending.push((*i, prefix.to_string(), at + 1 == list.len()));
        }
    };
    push(&mut pending, &top, "");
    while let Some((i, prefix, last)) = pending.pop() {
        let below = format!("{prefix}{}", if last { "   " } else { "│  " });
        let branch = format!("{prefix}{}", if last { "└─ " } else { "├─ " });
        let bar = if children[i].is_empty() { "   " } else { "│  " };
        match items[i] {
            Item::Device(device) => draw_device(device, long, &branch, &format!("{below}{bar}"), output)?,
            Item::Other(other) => draw_other(other, &branch, output)?,
        }
        push(&mut pending, &children[i], &below);
    }
    draw_groups(report, output)?;
    draw_sums(report, output)
}

/// Name and label of a device, filled up to `width` columns.
pub fn name(device: &DeviceRow, width: usize, output: &Output<'_>) -> String {
    let label = device.label.as_ref().map(|label| format!(" {label}")).unwrap_or_default();
    let rest = width.saturating_sub(device.name.chars().count());
    format!("{}{}", output.paint(NAME, &device.name), output.column(DIM, label, rest))
}

fn draw_device(device: &DeviceRow, long: bool, branch: &str, below: &str, output: &mut Output<'_>) -> Result<()> {
    let name = name(device, SECOND.saturating_sub(branch.chars().count()), output);
    let state = match &device.state {
        State::Bound { driver } => output.paint(GOOD, format_args!("bound to {driver}")),
        State::Present => output.paint(GOOD, "present, driven by the board"),
        State::Waiting { .. } => output.paint(WARNING, format_args!("deferred, for {}", device.candidates.join(", "))),
        State::Failed { error } => {
            output.paint(ERROR, format_args!("not bound, for {}: {error}", device.candidates.join(", ")))
        }
        State::NoDriver => output.paint(DIM, "no driver"),
    };
    let what = match &device.pci {
        Some(identity) => identity.to_string(),
        None => device.compatible.first().map_or_else(String::new, ToString::to_string),
    };
    let width = SECOND.saturating_sub(below.chars().count());
    let start = format!("{below}{:width$} ", "");
    let what = output.paint(DIM, what);
    output.below(&start, format_args!("{branch}{name} {state}  {what}"))?;
    let mut fact = |style, label: &str, text: &dyn std::fmt::Display| {
        let head = output.column(style, format_args!("  {label}"), width);
        output.below(&start, format_args!("{below}{head} {text}"))
    };
    if let State::Waiting { on } = &device.state {
        on.iter().try_for_each(|reason| fact(WARNING, "waits for", reason))?;
    }
    if let Some(why) = &device.iommu_error {
        fact(ERROR, "iommu", &format_args!("not attached: {why}"))?;
    }
    if long {
        device.registers.iter().try_for_each(|window| fact(DIM, "registers", window))?;
        device.interrupts.iter().try_for_each(|line| fact(DIM, "interrupt", line))?;
        device.dma.lines().iter().try_for_each(|line| fact(DIM, "dma", line))?;
    }
    for s in &device.suppliers {
        let properties: Vec<&str> = s.properties.iter().map(|p| &**p).collect();
        let head = output.column(DIM, format_args!("  {}", properties.join(", ")), width.max(PROPERTY));
        let streams: Vec<String> =
            s.streams.iter().map(|args| args.iter().map(u32::to_string).collect::<Vec<_>>().join(".")).collect();
        let streams = if streams.is_empty() { String::new() } else { format!(", stream {}", streams.join(" ")) };
        let state = output.paint(DIM, format_args!("({})", s.state));
        output.below(&start, format_args!("{below}{head} {}{streams} {state}", s.supplier))?;
    }
    Ok(())
}

fn draw_other(other: &OtherRow, branch: &str, output: &mut Output<'_>) -> Result<()> {
    let width = SECOND.saturating_sub(branch.chars().count());
    let name = other.node.rsplit('/').next().unwrap_or(&other.node);
    let name = output.column(PLAIN, name, width);
    let what = other.compatible.first().map_or("", |c| &**c);
    output.line(format_args!("{branch}{name} {}", output.paint(DIM, format_args!("not a platform device  {what}"))))
}

fn draw_groups(report: &Report, output: &mut Output<'_>) -> Result<()> {
    if !report.groups.is_empty() {
        output.line("")?;
    }
    for g in &report.groups {
        let domain = g.domain.as_deref().unwrap_or("blocked");
        let members: Vec<&str> = g.members.iter().map(|m| &**m).collect();
        let head = output.paint(HEADING, format_args!("IOMMU group {}", g.id));
        output.line(format_args!("{head}  {}, {domain}, owner {}: {}", g.iommu, g.owner, members.join(", ")))?;
    }
    Ok(())
}

fn draw_sums(report: &Report, output: &mut Output<'_>) -> Result<()> {
    let c = &report.counts;
    output.line("")?;
    for cycle in &report.cycles {
        let text = output.paint(WARNING, format_args!("cycle: {}", cycle.join(" -> ")));
        output.line(text)?;
    }
    for note in &report.notes {
        let text = output.paint(DIM, format_args!("note: {note}"));
        output.line(text)?;
    }
    if c.notes > report.notes.len() {
        output.line(format_args!("{} more", count(c.notes - report.notes.len(), "note")))?;
    }
    output.line(format_args!(
        "{}: {} bound, {} present, {} waiting, {} failed, {} without driver; {}; {}; {}; {}; {}",
        count(c.devices, "device"),
        c.bound,
        c.present,
        c.waiting,
        c.failed,
        c.no_driver,
        count(c.others, "other node"),
        count(c.drivers, "driver"),
        count(c.links, "supplier link"),
        count(c.groups, "IOMMU group"),
        count(c.notes, "note"),
    ))
}
