//! Receivers of messages: `msi-parent`, `msi-map` and `msi-map-mask`.
//!
//! Facts are those of the kernel's bindings `interrupt-controller/msi.txt` and `pci/pci-msi.txt`, and of Linux's `of_map_id`: an entry
//! of the map has four cells, whatever the controller's `#msi-cells` says.

use alloc::sync::Arc;

use super::log::Log;
use super::note::NoteKind;
use super::tree::{Idx, Tree};
use super::{FdtError, id};
use crate::description::{MessageMap, MessageTarget, NodeId};

const MAP: &str = "msi-map";
const PARENT: &str = "msi-parent";
/// Requester IDs of a segment group.
const REQUESTERS: u32 = 1 << 16;

/// Receiver of the messages of the device itself.
pub(super) fn own(tree: &Tree<'_>, ids: &[NodeId], node: Idx) -> Option<MessageTarget> {
    let (words, _) = tree.prop(node, PARENT)?.as_chunks::<4>();
    let (phandle, rest) = words.split_first()?;
    let controller = controller(tree, u32::from_be_bytes(*phandle)).ok()?;
    let device = match tree.u32(controller, "#msi-cells") {
        None | Some(0) => 0,
        Some(_) => u32::from_be_bytes(*rest.first()?),
    };
    Some(MessageTarget { controller: id(ids, controller), device })
}

/// Receivers of the messages of devices behind a bridge. What is wrong with `msi-map` is noted, and ends it; `msi-parent` is a
/// dependency, whose defects are noted as those of the others.
pub(super) fn behind(
    tree: &Tree<'_>,
    log: &mut Log,
    ids: &[NodeId],
    node: Idx,
) -> Result<Option<MessageMap>, FdtError> {
    let Some(value) = tree.prop(node, MAP) else {
        let is_bridge = tree.strings(node, "device_type").any(|s| s == Ok("pci"));
        let Some(target) = own(tree, ids, node).filter(|_| is_bridge) else { return Ok(None) };
        let mut all = MessageMap::new(u32::MAX);
        all.push(0, REQUESTERS, MessageTarget { device: 0, ..target });
        return Ok(Some(all));
    };
    let mut map = MessageMap::new(tree.u32(node, "msi-map-mask").unwrap_or(u32::MAX));
    let (entries, rest) = value.as_chunks::<16>();
    log.spend(node, MAP, entries.len())?;
    for entry in entries {
        let word = |n: usize| u32::from_be_bytes([entry[n], entry[n + 1], entry[n + 2], entry[n + 3]]);
        match controller(tree, word(4)) {
            Ok(controller) => {
                let target = MessageTarget { controller: id(ids, controller), device: word(8) };
                map.push(word(0), word(12), target);
            }
            Err(Lost::Nobody(phandle)) => {
                log.note(node, MAP, NoteKind::Dangling(phandle));
                return Ok(Some(map));
            }
            Err(Lost::Disabled(controller)) => {
                let note = NoteKind::Disabled(Arc::clone(log.path(controller)));
                log.note(node, MAP, note);
            }
        }
    }
    if !rest.is_empty() {
        log.note(node, MAP, NoteKind::Truncated);
    }
    Ok(Some(map))
}

enum Lost {
    Nobody(u32),
    Disabled(Idx),
}

fn controller(tree: &Tree<'_>, phandle: u32) -> Result<Idx, Lost> {
    let found = tree.phandle(phandle).ok_or(Lost::Nobody(phandle))?;
    if tree.enabled(found) { Ok(found) } else { Err(Lost::Disabled(found)) }
}
