//! Suppliers of a device.
//!
//! The properties are those from which Linux's `fw_devlink` makes links (`drivers/of/property.c`), and those that it
//! leaves out unless told to be strict: `iommus`, `iommu-map`, `dmas`.

use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::endpoint::Endpoints;
use super::interrupt::{self, Interrupt};
use super::log::Log;
use super::note::NoteKind;
use super::tree::{Idx, Tree};
use super::{FdtError, id, iommu_map, nexus};
use crate::description::{NodeId, Supplier, SupplierKind, Unmet};

/// Limit of specifier cells after a reference (Linux: `MAX_PHANDLE_ARGS`).
pub(super) const MAX_ARGS: u32 = 16;

/// Number of specifier cells after a reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cells {
    /// None.
    None,
    /// The value of this property of the target; none without it.
    NamedOrNone(&'static str),
    /// The value of this property of the target.
    Named(&'static str),
    /// The rest of the value.
    Rest,
}

/// Properties that name suppliers, with the number of cells after each reference. The last three are patterns; see
/// [`rule`].
const PROPERTIES: [(&str, Cells, SupplierKind); 28] = {
    use Cells::{NamedOrNone, None, Rest};
    use SupplierKind::{Clock, Iommu, Other, Power, Regulator, Reset};
    [
        ("access-controllers", NamedOrNone("#access-controller-cells"), Other),
        ("backlight", None, Other),
        ("clocks", NamedOrNone("#clock-cells"), Clock),
        ("dmas", NamedOrNone("#dma-cells"), Other),
        ("extcon", None, Other),
        ("gpio", Cells::Named("#gpio-cells"), Other),
        ("gpios", Cells::Named("#gpio-cells"), Other),
        ("hwlocks", NamedOrNone("#hwlock-cells"), Other),
        ("interconnects", NamedOrNone("#interconnect-cells"), Other),
        ("io-backends", NamedOrNone("#io-backend-cells"), Other),
        ("io-channels", NamedOrNone("#io-channel-cells"), Other),
        ("iommus", Cells::Named("#iommu-cells"), Iommu),
        ("leds", None, Other),
        ("mboxes", NamedOrNone("#mbox-cells"), Other),
        ("msi-parent", NamedOrNone("#msi-cells"), Other),
        ("nvmem-cells", NamedOrNone("#nvmem-cell-cells"), Other),
        ("panel", None, Other),
        ("phys", NamedOrNone("#phy-cells"), Other),
        ("power-domains", NamedOrNone("#power-domain-cells"), Power),
        ("power-supplies", None, Other),
        ("pses", NamedOrNone("#pse-cells"), Other),
        ("pwms", NamedOrNone("#pwm-cells"), Other),
        // The leaf's bit number at the main IPMMU follows the reference, without a cell count.
        ("renesas,ipmmu-main", Rest, Other),
        ("resets", NamedOrNone("#reset-cells"), Reset),
        ("wakeup-parent", None, Other),
        ("pinctrl-", None, Other),
        ("-supply", None, Regulator),
        ("-gpios", Cells::Named("#gpio-cells"), Other),
    ]
};

/// Format and kind of the suppliers in `property`, if it names any.
fn rule(property: &str) -> Option<(Cells, SupplierKind)> {
    let ends = |suffix: &str| property.len() > suffix.len() && property.ends_with(suffix);
    let wanted = match property {
        p if p.strip_prefix("pinctrl-").is_some_and(|n| matches!(n.as_bytes(), [b'0'..=b'8'])) => "pinctrl-",
        _ if ends("-supply") => "-supply",
        _ if ends(",nr-gpios") => return None,
        _ if ends("-gpio") || ends("-gpios") => "-gpios",
        p if p.starts_with('-') || p.ends_with('-') => return None,
        p => p,
    };
    PROPERTIES.iter().find(|(name, ..)| *name == wanted).map(|(_, cells, kind)| (*cells, *kind))
}

/// Defect of a reference.
pub(super) enum Broken {
    Dangling(u32),
    NoCells(Idx, &'static str),
    BadCellCount(u32),
    Truncated,
}

impl Broken {
    /// Converts it to a note.
    pub(super) fn note(self, log: &Log) -> NoteKind {
        match self {
            Self::Dangling(phandle) => NoteKind::Dangling(phandle),
            Self::NoCells(node, name) => NoteKind::NoCells(Arc::clone(log.path(node)), name),
            Self::BadCellCount(cells) => NoteKind::BadCellCount(cells),
            Self::Truncated => NoteKind::Truncated,
        }
    }
}

/// Iterator over the references in a value, each with its specifier, up to the first that cannot be parsed. Zeros,
/// which mean "none", are skipped.
pub(super) struct References<'t, 'a> {
    tree: &'t Tree<'a>,
    rest: &'a [u8],
    cells: Cells,
}

impl<'t, 'a> References<'t, 'a> {
    pub(super) const fn new(tree: &'t Tree<'a>, value: &'a [u8], cells: Cells) -> Self {
        Self { tree, rest: value, cells }
    }

    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.rest.split_first_chunk::<4>()?;
        self.rest = rest;
        Some(u32::from_be_bytes(*word))
    }

    fn args(&mut self, phandle: u32) -> Result<(Idx, Vec<u32>), Broken> {
        let target = self.tree.phandle(phandle).ok_or(Broken::Dangling(phandle))?;
        let count = match self.cells {
            Cells::None => 0,
            Cells::NamedOrNone(name) => self.tree.u32(target, name).unwrap_or(0),
            Cells::Named(name) => self.tree.u32(target, name).ok_or(Broken::NoCells(target, name))?,
            Cells::Rest => (self.rest.len() / 4) as u32,
        };
        if count > MAX_ARGS {
            return Err(Broken::BadCellCount(count));
        }
        let args = (0..count).map(|_| self.word().ok_or(Broken::Truncated)).collect::<Result<_, _>>()?;
        Ok((target, args))
    }
}

impl Iterator for References<'_, '_> {
    type Item = Result<(Idx, Vec<u32>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let found = match self.word() {
                Some(0) => continue,
                Some(phandle) => self.args(phandle),
                None => Err(Broken::Truncated),
            };
            // The length of a broken reference is unknown, unless references have no specifiers.
            if found.is_err() && !(self.cells == Cells::None && self.rest.len() >= 4) {
                self.rest = &[];
            }
            return Some(found);
        }
        None
    }
}

/// The target of one of the references in a property, counted from 0.
pub(super) fn nth_reference(
    tree: &Tree<'_>,
    node: Idx,
    property: &str,
    cells: &'static str,
    nth: usize,
) -> Option<Idx> {
    let value = tree.prop(node, property)?;
    References::new(tree, value, Cells::NamedOrNone(cells)).nth(nth)?.ok().map(|(target, _)| target)
}

/// Collects the suppliers of one device.
pub(super) struct Collector<'c, 'a> {
    pub(super) tree: &'c Tree<'a>,
    pub(super) log: &'c mut Log,
    /// The nearest device at or above each node.
    pub(super) owners: &'c [Option<Idx>],
    pub(super) ids: &'c [NodeId],
    pub(super) endpoints: &'c Endpoints,
    /// The references so far: equal ones are one.
    seen: BTreeSet<(Arc<str>, Idx, Vec<u32>)>,
    unmet: Vec<Unmet>,
    unmet_behind: Vec<Unmet>,
}

/// What a device needs.
pub(super) struct Needs {
    pub(super) suppliers: Vec<Supplier>,
    pub(super) unmet: Vec<Unmet>,
    pub(super) unmet_behind: Vec<Unmet>,
}

impl<'c, 'a> Collector<'c, 'a> {
    pub(super) const fn new(
        tree: &'c Tree<'a>,
        log: &'c mut Log,
        owners: &'c [Option<Idx>],
        ids: &'c [NodeId],
        endpoints: &'c Endpoints,
    ) -> Self {
        Self { tree, log, owners, ids, endpoints, seen: BTreeSet::new(), unmet: Vec::new(), unmet_behind: Vec::new() }
    }

    /// The suppliers of `device` in firmware order, and the dependencies that cannot be met; `interrupts` are the
    /// device's, resolved to their controllers.
    pub(super) fn suppliers(mut self, device: Idx, interrupts: &[Interrupt]) -> Result<Needs, FdtError> {
        let mut links = Vec::new();
        for (property, value) in self.tree.props(device) {
            self.log.spend(device, property, value.len() / 4)?;
            match property {
                "interrupts" | "interrupts-extended" => {
                    for i in interrupts.iter().filter(|i| i.property == property) {
                        let kind = SupplierKind::Interrupt;
                        self.link(&mut links, (device, property), i.controller, kind, i.args.clone())?;
                    }
                }
                "interrupt-map" => {
                    for target in interrupt::map_targets(self.tree, self.log, device)? {
                        self.link(&mut links, (device, property), target, SupplierKind::Interrupt, Vec::new())?;
                    }
                }
                "iommu-map" => self.iommu_map(&mut links, device, value)?,
                // A GPIO hog refers to its own controller.
                "gpio" | "gpios" if self.tree.has(device, "gpio-hog") => {}
                _ => {
                    let Some((cells, kind)) = rule(property) else { continue };
                    for reference in References::new(self.tree, value, cells) {
                        let read = match reference {
                            Ok((target, args)) => {
                                self.note_missing_cells((device, property), target, cells);
                                nexus::follow(self.tree, self.log, (device, property), cells, target, args)?
                            }
                            Err(e) => Err(e.note(self.log)),
                        };
                        match read {
                            Ok((target, args)) => self.link(&mut links, (device, property), target, kind, args)?,
                            Err(note) => self.unmet((device, property), kind, note)?,
                        }
                    }
                }
            }
        }
        self.remote_endpoints(&mut links, device)?;
        self.drop_post_init(&mut links, device);
        Ok(Needs { suppliers: links, unmet: self.unmet, unmet_behind: self.unmet_behind })
    }

    /// Records a dependency of `device` that cannot be met.
    fn unmet(&mut self, (device, property): (Idx, &str), kind: SupplierKind, note: NoteKind) -> Result<(), FdtError> {
        self.log.add_reference(device, property)?;
        let reason = note.to_string().into();
        let property = self.log.word(property);
        self.log.note(device, &property, note);
        self.unmet.push(Unmet { property, kind, reason });
        Ok(())
    }

    /// Notes a supplier that does not say how many cells a reference to it has. For an MSI controller that means none.
    fn note_missing_cells(&mut self, (device, property): (Idx, &str), target: Idx, cells: Cells) {
        if let Cells::NamedOrNone(name) = cells
            && name != "#msi-cells"
            && !self.tree.has(target, name)
        {
            let note = NoteKind::CellsAbsent(Arc::clone(self.log.path(target)), name);
            self.log.note_once(device, property, note);
        }
    }

    /// `iommu-map`: devices behind the bridge need these IOMMUs. The arguments are first requester ID, specifier, and
    /// number of IDs.
    fn iommu_map(&mut self, links: &mut Vec<Supplier>, device: Idx, value: &[u8]) -> Result<(), FdtError> {
        for entry in iommu_map::entries(self.tree, value) {
            match entry {
                Ok(entry) => {
                    if let Some(note) = entry.odd {
                        self.log.note(device, "iommu-map", note);
                    }
                    self.link(links, (device, "iommu-map"), entry.iommu, SupplierKind::Iommu, entry.args)?;
                }
                Err(e) => {
                    let note = e.note(self.log);
                    self.lost_behind(device, note)?;
                }
            }
        }
        Ok(())
    }

    /// Notes an entry of `iommu-map` that cannot be used. It concerns devices behind the bridge, not the bridge itself.
    fn lost_behind(&mut self, device: Idx, note: NoteKind) -> Result<(), FdtError> {
        let here = self.unmet.len();
        self.unmet((device, "iommu-map"), SupplierKind::Iommu, note)?;
        self.unmet_behind.extend(self.unmet.drain(here..));
        Ok(())
    }

    /// The devices at the remote endpoints of `device`'s ports.
    fn remote_endpoints(&mut self, links: &mut Vec<Supplier>, device: Idx) -> Result<(), FdtError> {
        for (endpoint, phandle) in self.endpoints.of_device(device) {
            self.log.spend(device, "remote-endpoint", 1)?;
            let Some(remote) = self.tree.phandle(*phandle) else {
                self.log.note(*endpoint, "remote-endpoint", NoteKind::Dangling(*phandle));
                continue;
            };
            if let Some(target) = self.endpoints.owner(remote) {
                self.link(links, (device, "remote-endpoint"), target, SupplierKind::Other, Vec::new())?;
            }
        }
        Ok(())
    }

    /// Removes suppliers that the device needs only after its initialisation (`post-init-providers`).
    fn drop_post_init(&self, links: &mut Vec<Supplier>, device: Idx) {
        let Some(value) = self.tree.prop(device, "post-init-providers") else { return };
        let later: BTreeSet<NodeId> =
            References::new(self.tree, value, Cells::None).flatten().map(|(target, _)| id(self.ids, target)).collect();
        // What translates the devices behind a bridge does so whenever it is there.
        links.retain(|s| &*s.property == "iommu-map" || !later.contains(&s.target));
    }

    /// Adds a link, unless there is an equal one, or the supplier is disabled, or is the device itself, a descendant or an
    /// ancestor of it. A disabled power domain or reset line makes the device unusable; with a disabled IOMMU some of its streams would
    /// run untranslated (P10). Disabled clocks are skipped as on Linux (`-ENOENT`): clock controllers list every PHY
    /// that could feed them, also those that a board disables.
    fn link(
        &mut self,
        links: &mut Vec<Supplier>,
        (device, property): (Idx, &str),
        target: Idx,
        kind: SupplierKind,
        args: Vec<u32>,
    ) -> Result<(), FdtError> {
        if !self.tree.enabled(target) {
            let note = NoteKind::Disabled(Arc::clone(self.log.path(target)));
            match kind {
                SupplierKind::Iommu if property == "iommu-map" => self.lost_behind(device, note)?,
                SupplierKind::Power | SupplierKind::Reset | SupplierKind::Iommu => {
                    self.unmet((device, property), kind, note)?;
                }
                _ => self.log.note(device, property, note),
            }
            return Ok(());
        }
        let owner = self.owners[target.0 as usize].unwrap_or(target);
        if self.tree.contains(device, owner) || self.tree.contains(owner, device) {
            if owner != target && owner != device && self.tree.contains(owner, device) {
                let path = |node| Arc::clone(self.log.path(node));
                self.log.note_once(device, property, NoteKind::SupplierAbove(path(target), path(owner)));
            }
            return Ok(());
        }
        let property = self.log.word(property);
        if self.seen.insert((Arc::clone(&property), target, args.clone())) {
            self.log.add_reference(device, &property)?;
            links.push(Supplier { node: id(self.ids, owner), target: id(self.ids, target), kind, property, args });
        }
        Ok(())
    }
}
