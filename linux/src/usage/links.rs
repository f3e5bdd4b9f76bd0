//! Consumers that the driver core would unbind with a device, by device links of its own or of what hangs below it.

use super::{Below, Scene};
use crate::inventory::Device;
use crate::obstacle::{Class, Findings, Obstacle};
use crate::path;

pub(super) fn find(scene: Scene<'_>, device: &Device, below: &Below, findings: &mut Findings) {
    let face = scene.face;
    if device.driver.is_none() {
        return;
    }
    for entry in &below.consumers {
        let link = match face.resolve(entry) {
            Ok(Some(link)) => link,
            Ok(None) => continue,
            Err(error) => {
                findings.warn(error.to_string());
                continue;
            }
        };
        // What hangs below the device goes with it anyway, and was looked at for itself.
        let consumer = face.resolve(&format!("{link}/consumer")).ok().flatten();
        if consumer.is_some_and(|consumer| path::within(&consumer, &device.path)) {
            continue;
        }
        let status = face.try_text(&format!("{link}/status")).unwrap_or_default();
        let name = path::name(entry).trim_start_matches("consumer:").replacen(':', "/", 1);
        let supplier = path::parent(entry);
        let what = if supplier == device.path { "it".to_owned() } else { format!("{} below it", path::name(supplier)) };
        if status == "active" || status == "consumer probing" {
            findings.obstacle(Obstacle::new(
                &device.label(),
                Class::InUse,
                "consumer",
                format!("{name} depends on {what} (device link, {status}) and would be unbound with it"),
                format!("hand over or unbind {name} first"),
            ));
        }
    }
}
