//! Where the messages of devices (MSI) go, as firmware says it.

use alloc::vec::Vec;

use super::NodeId;

/// Receiver of a device's messages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MessageTarget {
    /// The controller: an ITS, a frame of a GIC.
    pub controller: NodeId,
    /// Number by which the controller knows the device (Arm's ITS: `DeviceID`); 0 for one that does not distinguish devices.
    pub device: u32,
}

/// Receivers of the messages of the devices behind a bridge, by requester ID (`msi-map`, or `msi-parent` of the bridge).
///
/// ```
/// use bindery::device::{MessageMap, MessageTarget, Nodes};
///
/// let its = Nodes::new().find_or_add("/its");
/// // Functions of one device are one (`msi-map-mask`); bus 0 is 0x8000 and up.
/// let mut map = MessageMap::new(0xfff8);
/// map.push(0, 0x100, MessageTarget { controller: its, device: 0x8000 });
/// assert_eq!(map.find(0x0b).map(|target| target.device), Some(0x8008));
/// assert_eq!(map.find(0x100), None);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageMap {
    mask: u32,
    /// First requester ID, their number, and the receiver of the first one's messages; its device number counts up.
    entries: Vec<(u32, u32, MessageTarget)>,
}

impl MessageMap {
    /// A map without entries, in which the bits of `mask` of a requester ID count.
    pub const fn new(mask: u32) -> Self {
        Self { mask, entries: Vec::new() }
    }

    /// Adds an entry for `count` requester IDs from `first` on.
    pub fn push(&mut self, first: u32, count: u32, target: MessageTarget) {
        self.entries.push((first, count, target));
    }

    /// Receiver of the messages of `requester`, by the first entry that has it. `None` when there is none, or its number would not fit.
    pub fn find(&self, requester: u32) -> Option<MessageTarget> {
        let requester = requester & self.mask;
        let (offset, target) = self.entries.iter().find_map(|(first, count, target)| {
            let offset = requester.checked_sub(*first).filter(|offset| offset < count)?;
            Some((offset, *target))
        })?;
        Some(MessageTarget { device: target.device.checked_add(offset)?, ..target })
    }
}
