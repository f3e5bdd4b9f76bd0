//! Pass-through of the device to a guest and back.

use bindery::device::SupplierKind;
use bindery::driver::Driver as _;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_drivers::vfio::Vfio;
use bindery_sim::guest::{Guest, GuestEnv, Layout};

use super::Names;
use super::play::Play;
use crate::engine::{Violation, Visit};
use crate::scene::check;

/// RAM that a guest needs at least: its driver's buffers and a few pages.
const GUEST_RAM: u64 = 256 << 10;
const OWNER: &str = "vfio-platform";

/// Hands the device over, has a guest use it, and takes it back, from a guest that cooperates or does not.
pub(super) fn hand_over(play: &Play<'_>, cooperates: bool) -> Result<(), Violation> {
    play.recover(pass_through(play, cooperates)?)
}

/// Returns true when the pass-through owner gets the device: it refuses one that it could not reset, and the core one
/// whose IOMMU group has a member in use.
pub(super) fn is_given(names: &Names) -> bool {
    !names.shares_group && names.desc.suppliers.iter().any(|s| s.kind == SupplierKind::Reset)
}

fn pass_through(play: &Play<'_>, cooperates: bool) -> Result<Visit, Violation> {
    let (scene, device) = (play.scene, &play.names.device);
    let override_path = play.on_bus(&format!("devices/{device}/driver_override"));
    let _ = play.write(&override_path, OWNER);
    let _ = play.write(&play.on_bus("drivers_probe"), device);
    play.expect("hand-over", play.holder() == is_given(play.names).then_some(OWNER))?;
    let was_given = play.holder() == Some(OWNER);
    if let Visit::Seen = play.step("handed over")? {
        return Ok(Visit::Seen);
    }
    // The guest's device tree knows the disk controller alone; another device is owned, and not used.
    let guest = if play.names.driver == SataRcar::NAME {
        let guest = start(play, cooperates);
        play.expect("guest", guest.is_some())?;
        guest
    } else {
        None
    };
    let used = guest.as_ref().map_or(Ok(()), |guest| use_device(guest, play));
    if used.is_ok() {
        let _ = scene.tree().write(&play.on_bus(&format!("drivers/{OWNER}/unbind")), device);
    }
    let guest_check = guest.as_ref().map_or(Ok(()), |guest| check(&guest.machine, "guest: "));
    // A guest that was cut off holds resources that it cannot use any more, until it ends.
    drop(guest);
    let was_used = used.is_ok();
    used.and(guest_check)?;
    if was_given && was_used && play.holder() != Some(OWNER) {
        scene.chooser().cover(play.variant);
    }
    let _ = play.write(&override_path, "\n");
    play.step("taken back")
}

/// Starts a guest on the device, which has the host's name in it, too: both derive it from unit name and address.
fn start(play: &Play<'_>, cooperates: bool) -> Option<Guest<SataRcar>> {
    let (host, device) = (play.scene.machine(), &play.names.device);
    let session = Vfio::open(&host.client::<Vfio>(device)?).ok()?;
    let layout = Layout::of(&play.names.desc);
    let env = GuestEnv::new(host, session, layout, GUEST_RAM).ok()?;
    if play.scene.chooser().logs() {
        let chooser = play.scene.chooser().clone();
        env.on_event(Box::new(move |event| {
            let device = event.device.as_deref().unwrap_or("-");
            chooser.log(|| format!("[{}] guest {device}: {}", event.at, event.kind));
            chooser.record("guest", event);
        }));
    }
    let guest = Guest::start(env, play.board.guest_device_tree, device.as_str().into(), cooperates).ok()?;
    guest.machine.register(SataRcar);
    Some(guest)
}

/// Binds and uses the device, with the same driver.
fn use_device(guest: &Guest<SataRcar>, play: &Play<'_>) -> Result<(), Violation> {
    guest.machine.settle();
    if let Some(port) = guest.client() {
        let mut sector = [0; 512];
        let read = matches!(port.call(|p| p.read(3, &mut sector)), Ok(Ok(())));
        play.expect("guest's read", read)?;
    } else {
        play.expect("guest's bind", false)?;
    }
    check(&guest.machine, "guest: ")?;
    play.scene.step("guest uses it")
}
