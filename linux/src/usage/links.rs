//! Consumers that the driver core would unbind with a device, by its device links.

use super::Scene;
use crate::inventory::Device;
use crate::obstacle::{Class, Findings, Obstacle};

pub(super) fn find(scene: Scene<'_>, device: &Device, findings: &mut Findings) {
    let face = scene.face;
    if device.driver.is_none() {
        return;
    }
    for entry in face.names(&device.path) {
        let Some(consumer) = entry.strip_prefix("consumer:") else { continue };
        let link = match face.resolve(&format!("{}/{entry}", device.path)) {
            Ok(Some(link)) => link,
            Ok(None) => continue,
            Err(error) => {
                findings.warn(error.to_string());
                continue;
            }
        };
        let status = face.try_text(&format!("{link}/status")).unwrap_or_default();
        let consumer = consumer.replacen(':', "/", 1);
        if status == "active" || status == "consumer probing" {
            findings.obstacle(Obstacle::new(
                &device.label(),
                Class::InUse,
                "consumer",
                format!("{consumer} depends on it (device link, {status}) and would be unbound with it"),
                format!("hand over or unbind {consumer} first"),
            ));
        }
    }
}
