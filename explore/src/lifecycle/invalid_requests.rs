//! Invalid requests to the control tree: each error number that it has.

use super::peer;
use super::play::Play;
use crate::engine::Violation;

/// One invalid request after another. None of them has an effect.
pub(super) fn all(play: &Play<'_>) -> Result<(), Violation> {
    let (tree, device, driver) = (play.scene.tree(), &play.names.device, play.names.driver);
    let described = |rest: &str| rest.contains(peer::PHANTOM) || rest.contains(peer::NAMESAKE);
    let at = |rest: &str| if described(rest) { format!("/sys/bus/platform/{rest}") } else { play.on_bus(rest) };
    // Nothing is bound: there is nothing to unbind.
    play.refused(&at(&format!("drivers/{driver}/unbind")), device)?;
    play.refused(&at(&format!("drivers/{driver}/bind")), "no-such-device")?;
    play.refused(&at("no-such-file"), "1")?;
    play.refused(&at(&"x".repeat(4096)), "1")?;
    play.refused(&at("devices"), "1")?;
    play.refused(&at("drivers_autoprobe/deeper"), "1")?;
    let _ = play.write(&at("drivers_autoprobe"), "perhaps");
    play.refused("/sys/kernel/debug/devices_deferred", "1")?;
    play.note(&tree.read(&at("drivers_probe")));
    // Firmware describes a device that does not exist.
    let phantom = peer::PHANTOM;
    let override_path = at(&format!("devices/{phantom}/driver_override"));
    let _ = play.write(&override_path, phantom);
    play.refused(&at(&format!("drivers/{phantom}/bind")), phantom)?;
    let _ = play.write(&override_path, "\n");
    // A device called like a file of the driver's directory.
    if play.scene.machine().add_device(peer::describe_namesake()).is_ok() {
        let _ = play.write(&at(&format!("devices/{}/driver_override", peer::NAMESAKE)), phantom);
        play.refused(&at(&format!("drivers/{phantom}/bind")), peer::NAMESAKE)?;
        play.scene.machine().remove_device(peer::NAMESAKE);
    }
    play.effect("an invalid request", play.holder().is_none())?;
    if play.bind().is_ok() {
        play.refused(&at(&format!("drivers/{driver}/bind")), device)?;
        let peer_in_use = play.names.iommu.is_none() && play.names.peer_iommu.is_some();
        if peer_in_use {
            play.peer_binds();
        }
        // A group that has an owner.
        let machine = play.scene.machine();
        let group = machine.device(if peer_in_use { peer::NAME } else { device });
        if let Some(group) = group.and_then(|member| machine.device_info(&member).group) {
            let group = format!("/sys/kernel/iommu_groups/{group}/type");
            play.refused(&group, "DMA")?;
            play.refused(&group, "perhaps")?;
        }
        if peer_in_use {
            play.peer_unbinds();
        }
    }
    let visit = play.unbind()?;
    play.recover(visit)
}
