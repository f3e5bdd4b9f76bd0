//! The tree as text.

use std::collections::HashMap;

use super::{DeviceRow, OtherRow, Report, State};
use crate::failure::Result;
use crate::page::{BAD, DIM, GOOD, HEAD, NAME, PLAIN, Page, WAIT, count};

/// Where the second column begins.
const SECOND: usize = 44;
/// How wide the column of property names is.
const PROPERTY: usize = 22;

/// Something with a place in the tree.
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

/// Draws `report`.
pub fn draw(report: &Report, page: &mut Page<'_>) -> Result<()> {
    let model = report.model.as_deref().unwrap_or("a board without a name");
    let title = page.paint(HEAD, model);
    page.line(format_args!("{title}  {}", page.paint(DIM, &report.origin)))?;

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

    // By hand instead of by recursion: how deep the tree is, the blob says.
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
            Item::Device(device) => draw_device(device, &branch, &format!("{below}{bar}"), page)?,
            Item::Other(other) => draw_other(other, &branch, page)?,
        }
        push(&mut pending, &children[i], &below);
    }
    draw_groups(report, page)?;
    draw_sums(report, page)
}

fn draw_device(device: &DeviceRow, branch: &str, below: &str, page: &mut Page<'_>) -> Result<()> {
    let width = SECOND.saturating_sub(branch.chars().count());
    let label = device.label.as_ref().map(|l| format!(" {l}")).unwrap_or_default();
    let name = format!(
        "{}{}",
        page.paint(NAME, &device.name),
        page.column(DIM, label, width.saturating_sub(device.name.chars().count()))
    );
    let state = match &device.state {
        State::Bound { driver } => page.paint(GOOD, format_args!("bound to {driver}")),
        State::Present => page.paint(GOOD, "present, driven by the board"),
        State::Waiting { .. } => page.paint(WAIT, format_args!("waits, for {}", device.candidates.join(", "))),
        State::Failed { error } => {
            page.paint(BAD, format_args!("not bound, for {}: {error}", device.candidates.join(", ")))
        }
        State::NoDriver => page.paint(DIM, "no driver"),
    };
    let what = device.compatible.first().map_or("", |c| &**c);
    page.line(format_args!("{branch}{name} {state}  {}", page.paint(DIM, what)))?;
    let width = SECOND.saturating_sub(below.chars().count());
    if let State::Waiting { on } = &device.state {
        for reason in on {
            let head = page.column(WAIT, "  waits for", width);
            page.line(format_args!("{below}{head} {reason}"))?;
        }
    }
    if let Some(why) = &device.not_joined {
        let head = page.column(BAD, "  iommu", width);
        page.line(format_args!("{below}{head} not joined: {why}"))?;
    }
    for s in &device.suppliers {
        let properties: Vec<&str> = s.properties.iter().map(|p| &**p).collect();
        let head = page.column(DIM, format_args!("  {}", properties.join(", ")), width.max(PROPERTY));
        let streams: Vec<String> =
            s.streams.iter().map(|args| args.iter().map(u32::to_string).collect::<Vec<_>>().join(".")).collect();
        let streams = if streams.is_empty() { String::new() } else { format!(", stream {}", streams.join(" ")) };
        let state = page.paint(DIM, format_args!("({})", s.state));
        page.line(format_args!("{below}{head} {}{streams} {state}", s.supplier))?;
    }
    Ok(())
}

fn draw_other(other: &OtherRow, branch: &str, page: &mut Page<'_>) -> Result<()> {
    let width = SECOND.saturating_sub(branch.chars().count());
    let name = other.node.rsplit('/').next().unwrap_or(&other.node);
    let name = page.column(PLAIN, name, width);
    let what = other.compatible.first().map_or("", |c| &**c);
    page.line(format_args!("{branch}{name} {}", page.paint(DIM, format_args!("not a platform device  {what}"))))
}

fn draw_groups(report: &Report, page: &mut Page<'_>) -> Result<()> {
    if !report.groups.is_empty() {
        page.line("")?;
    }
    for g in &report.groups {
        let domain = g.domain.as_deref().unwrap_or("blocked");
        let members: Vec<&str> = g.members.iter().map(|m| &**m).collect();
        let head = page.paint(HEAD, format_args!("IOMMU group {}", g.id));
        page.line(format_args!("{head}  {}, {domain}, owner {}: {}", g.iommu, g.owner, members.join(", ")))?;
    }
    Ok(())
}

fn draw_sums(report: &Report, page: &mut Page<'_>) -> Result<()> {
    let c = &report.counts;
    page.line("")?;
    for cycle in &report.cycles {
        let text = page.paint(WAIT, format_args!("cycle: {}", cycle.join(" -> ")));
        page.line(text)?;
    }
    for note in &report.notes {
        let text = page.paint(DIM, format_args!("note: {note}"));
        page.line(text)?;
    }
    if c.notes > report.notes.len() {
        page.line(format_args!("{} more", count(c.notes - report.notes.len(), "note")))?;
    }
    page.line(format_args!(
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
