//! A user who errs at the control tree: each error number that it has.

use super::bystander;
use super::play::Play;
use crate::engine::Violation;

/// One mistake after the other. None of them does anything.
pub(super) fn all(play: &Play<'_>) -> Result<(), Violation> {
    let (tree, device, driver) = (play.scene.tree(), &play.names.device, play.names.driver);
    let at = |rest: &str| format!("/sys/bus/platform/{rest}");
    // Nothing is bound: there is nothing to unbind.
    let _ = play.write(&at(&format!("drivers/{driver}/unbind")), device);
    let _ = play.write(&at(&format!("drivers/{driver}/bind")), "no-such-device");
    let _ = play.write(&at("no-such-file"), "1");
    let _ = play.write(&at("devices"), "1");
    let _ = play.write(&at("drivers_autoprobe/deeper"), "1");
    let _ = play.write(&at("drivers_autoprobe"), "perhaps");
    let _ = play.write("/sys/kernel/debug/devices_deferred", "1");
    play.note(&tree.read(&at("drivers_probe")));
    // Firmware that lies: there is no such device.
    let phantom = bystander::PHANTOM;
    let override_path = at(&format!("devices/{phantom}/driver_override"));
    let _ = play.write(&override_path, phantom);
    let _ = play.write(&at(&format!("drivers/{phantom}/bind")), phantom);
    let _ = play.write(&override_path, "\n");
    if play.bind().is_ok() {
        let _ = play.write(&at(&format!("drivers/{driver}/bind")), device);
        let group = play.scene.machine().device(device).and_then(|d| play.scene.machine().device_info(&d).group);
        let group = format!("/sys/kernel/iommu_groups/{}/type", group.unwrap_or(0));
        let _ = play.write(&group, "DMA");
        let _ = play.write(&group, "perhaps");
    }
    let then = play.unbind()?;
    play.mend(then)
}
