//! Signatures on disks, from udev's database.

use super::Scene;
use super::below::number;
use crate::face::{Face, Node};
use crate::obstacle::Findings;
use crate::path;

/// A file system or member of a volume that udev has recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    /// The type: `ext4`, `LVM2_member`, `zfs_member`.
    pub(super) kind: String,
    /// `filesystem`, `raid`, `crypto` or `other`.
    pub(super) usage: String,
    pub(super) uuid: Option<String>,
    pub(super) label: Option<String>,
}

/// The signature of a block device, from udev's database.
pub(super) fn of(face: &dyn Face, node: Node) -> Option<Signature> {
    let text = face.try_text(&format!("/run/udev/data/b{node}"))?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('='));
        line.map(ToOwned::to_owned)
    };
    Some(Signature {
        kind: value("ID_FS_TYPE")?,
        usage: value("ID_FS_USAGE").unwrap_or_default(),
        uuid: value("ID_FS_UUID"),
        label: value("ID_FS_LABEL"),
    })
}

/// Warns of a signature on a block device without a user.
pub(super) fn warn(scene: Scene<'_>, block: &str, findings: &mut Findings) {
    let Some((major, minor)) = number(scene.face, block) else { return };
    let Some(found) = of(scene.face, Node { block: true, major, minor }) else { return };
    let Signature { kind, usage, uuid, label } = found;
    let what = match usage.as_str() {
        "filesystem" | "" => format!("a {kind} file system"),
        _ => format!("a {kind} signature"),
    };
    let what = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { what.replacen("a ", "an ", 1) } else { what };
    let name = [label.map(|l| format!("label {l}")), uuid].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
    findings.warn(format!("{} carries {what}{name} without a user", path::name(block)));
}
