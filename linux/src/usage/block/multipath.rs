//! Namespaces that are reached through several controllers.

use super::Search;
use crate::path;
use crate::usage::below::Controller;
use crate::usage::{Scene, signature};

impl Search<'_, '_> {
    /// A disk that is reached through several controllers.
    pub(super) fn multipath(&mut self, controller: &Controller, head: &str, hidden: &str) {
        let others = other_paths(self.scene, controller, head);
        let also = if others.is_empty() {
            String::new()
        } else {
            format!("; the same namespace is also reached through {}", others.join(", "))
        };
        let name = path::name(head);
        let before = std::mem::replace(&mut self.used, false);
        self.walk(head, name, &also);
        let used = std::mem::replace(&mut self.used, before);
        if !used && !others.is_empty() {
            self.findings.warn(format!(
                "{name} ({} here) is also reached through {}: the host keeps that path",
                path::name(hidden),
                others.join(", ")
            ));
        }
        if !used {
            signature::warn(self.scene, head, self.findings);
        }
        self.used |= used;
    }
}

/// The multipath disks that a controller leads to, each with the hidden path below the controller.
///
/// A hidden path `nvme2c4n1` belongs to subsystem instance 2, so its disk is `nvme2n1`. It stands below the subsystem.
pub(super) fn heads(scene: Scene<'_>, controller: &Controller) -> Vec<(String, String)> {
    let mut heads = Vec::new();
    for hidden in &controller.hidden {
        let Some(name) = head_name(path::name(hidden)) else { continue };
        let mut candidates: Vec<String> = subsystems(scene, controller).map(|s| format!("{s}/{name}")).collect();
        candidates.extend(scene.face.resolve(&format!("/sys/block/{name}")).ok().flatten());
        if let Some(head) = candidates.into_iter().find(|path| scene.face.exists(path)) {
            heads.push((head, hidden.clone()));
        }
    }
    heads
}

fn head_name(hidden: &str) -> Option<String> {
    let rest = hidden.strip_prefix("nvme")?;
    let (subsystem, rest) = rest.split_once('c')?;
    let (_, namespace) = rest.split_once('n')?;
    Some(format!("nvme{subsystem}n{namespace}"))
}

/// The subsystems that have a link to the controller.
fn subsystems<'a>(scene: Scene<'a>, controller: &'a Controller) -> impl Iterator<Item = String> + 'a {
    const CLASS: &str = "/sys/class/nvme-subsystem";
    let name = path::name(&controller.path);
    scene.face.names(CLASS).into_iter().filter_map(move |subsystem| {
        let path = scene.face.resolve(&format!("{CLASS}/{subsystem}")).ok().flatten()?;
        let target = scene.face.resolve(&format!("{path}/{name}")).ok().flatten()?;
        (target == controller.path).then_some(path)
    })
}

/// The devices of the other controllers that lead to the same disk.
fn other_paths(scene: Scene<'_>, controller: &Controller, head: &str) -> Vec<String> {
    let mut others = Vec::new();
    let own = scene.inventory.above(&controller.path).map(|d| d.path.clone());
    for subsystem in subsystems(scene, controller) {
        for entry in scene.face.names(&subsystem) {
            let Some(other) = scene.face.resolve(&format!("{subsystem}/{entry}")).ok().flatten() else { continue };
            let leads =
                scene.face.names(&other).iter().any(|name| head_name(name).as_deref() == Some(path::name(head)));
            if other == controller.path || !leads {
                continue;
            }
            let label = match scene.inventory.above(&other) {
                Some(device) if Some(&device.path) == own.as_ref() => continue,
                Some(device) => device.label(),
                None => format!("{} (not on a local bus)", path::name(&other)),
            };
            if !others.contains(&label) {
                others.push(label);
            }
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_of_a_hidden_path_is_numbered_by_its_subsystem() {
        assert_eq!(head_name("nvme2c4n1").as_deref(), Some("nvme2n1"));
        assert_eq!(head_name("nvme0n1"), None);
        assert_eq!(head_name("cntlid"), None);
    }
}
