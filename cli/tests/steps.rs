//! Each step of the story by itself, and the story on boards that lack something. What is looked at is the world, not the
//! words.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::redundant_closure_for_method_calls, reason = "a method is not general enough for `Client::call`")]

mod common;

use bindery::binding::Phase;
use bindery::iommu::Owner;
use bindery_cli::page::Page;
use bindery_cli::story::STEPS;
use bindery_cli::teller::Teller;
use bindery_cli::world::{Area, Setup, Tally, World, capacity, pattern, read};
use bindery_sim::salvator::DEVICE_TREE;
use common::{Dir, bindery, text};

/// A world in which the steps called `names` were played, each well.
fn played(setup: &Setup, names: &[&str]) -> World {
    let mut world = World::new(setup).unwrap();
    world.read_device_tree().unwrap();
    for name in names {
        play(&mut world, name);
    }
    world
}

fn play(world: &mut World, name: &str) {
    let mut words = Vec::new();
    let step = STEPS.iter().find(|s| s.name == name).unwrap();
    let mut teller = Teller::new(Page::new(&mut words, false), &world.tape, false, None);
    teller.begin(step.name, 1, step.title).unwrap();
    (step.run)(world, &mut teller).unwrap();
    teller.end().unwrap();
    let failures = teller.failures();
    drop(teller);
    assert_eq!(failures, 0, "{name}: {}", String::from_utf8(words).unwrap());
    assert_eq!(world.board.model_errors(), [], "{name}");
    assert_eq!(Tally::of(&world.host).broken, [], "{name}");
}

fn sata(world: &World) -> Option<&'static str> {
    world.sata().unwrap().driver()
}

fn owner(world: &World) -> Owner {
    let group = world.host.device_info(&world.sata().unwrap()).group.unwrap();
    world.host.groups().into_iter().find(|g| g.id() == group).unwrap().info().owner
}

#[test]
fn the_machine_has_devices_and_drivers_and_nothing_is_bound() {
    let world = played(&Setup::default(), &["machine"]);
    assert_eq!(world.host.devices().len(), world.description.devices.len());
    assert!(world.host.drivers().contains(&"sata_rcar"));
    assert!(world.host.devices().iter().all(|d| d.phase() == Phase::Unbound));
}

#[test]
fn probing_binds_the_controller_behind_its_iommu() {
    let world = played(&Setup::default(), &["machine", "probe"]);
    assert_eq!(sata(&world), Some("sata_rcar"));
    assert_eq!((world.host.waiting(), owner(&world)), (vec![], Owner::Kernel(1)));
    let first = world.tape.mapped("host", "ee300000.sata")[0];
    assert_eq!((first.addr.0, first.size), (0xffff_f000, 2048));
}

#[test]
fn io_moves_sectors_between_file_and_memory() {
    let world = played(&Setup::default(), &["machine", "probe", "io"]);
    let (area, _) = Area::of(capacity(&world.port().unwrap()).unwrap());
    let wanted = pattern("the file's owner", area);
    assert_eq!(read(&world.port().unwrap(), area).unwrap(), wanted);
    assert_eq!(world.image(area).unwrap().unwrap(), wanted);
}

#[test]
fn unbind_leaves_the_device_with_nothing() {
    let world = played(&Setup::default(), &["machine", "probe", "unbind"]);
    assert_eq!((sata(&world), owner(&world)), (None, Owner::None));
    assert_eq!(world.tape.mapped("host", "ee300000.sata"), []);
    assert_eq!(world.host.quarantine(), []);
}

#[test]
fn the_guest_has_the_disk_and_the_host_has_not() {
    let world = played(&Setup::default(), &["machine", "probe", "unbind", "hand-over"]);
    assert_eq!((sata(&world), owner(&world)), (Some("vfio-platform"), Owner::PassThrough(1)));
    let guest = world.guest.as_ref().unwrap();
    assert!(guest.has_device() && guest.port().is_some() && world.port().is_none());
    let (_, area) = Area::of(world.board.with_disk(|d| d.sectors()).unwrap());
    assert_eq!(world.image(area).unwrap().unwrap(), pattern("guest", area));
}

#[test]
fn the_host_has_the_disk_again_after_both_kinds_of_guest() {
    let world = played(&Setup::default(), &["machine", "probe", "unbind", "hand-over", "return"]);
    assert_eq!((sata(&world), owner(&world)), (Some("sata_rcar"), Owner::Kernel(1)));
    assert!(world.guest.is_none());
    assert!(
        world.guests.checked.iter().all(|n| *n > 0),
        "two guests checked their promises: {:?}",
        world.guests.checked
    );
    assert_eq!(world.guests.broken, []);
}

#[test]
fn the_verdict_takes_everything_back() {
    let world = played(&Setup::default(), &["machine", "probe", "verdict"]);
    assert_eq!(world.host.footprint(), world.fresh.unwrap());
    assert_eq!(world.host.drivers(), Vec::<&str>::new());
}

#[test]
fn steps_that_miss_what_came_before_say_so_and_do_no_harm() {
    for name in ["io", "unbind", "hand-over", "return", "verdict"] {
        played(&Setup::default(), &["machine", name]);
    }
}

#[test]
fn without_iommu_the_whole_story_holds() {
    let setup = Setup { untranslated: true, ..Setup::default() };
    let world = played(&setup, &STEPS.map(|s| s.name));
    assert_eq!(world.host.footprint(), world.fresh.unwrap());
}

/// The embedded tree with `from` replaced by `to`, of the same length, the last time that it occurs.
fn patched(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut blob = DEVICE_TREE.to_vec();
    let at = blob.windows(from.len()).rposition(|w| w == from.as_bytes()).unwrap();
    blob[at..at + to.len()].copy_from_slice(to.as_bytes());
    blob
}

#[test]
fn a_board_whose_root_iommu_has_no_driver_says_what_waits_for_it() {
    let dir = Dir::new();
    // The last IPMMU of the tree is the root; without it the leaves wait, and the controller behind them.
    let path = dir.file("no-root.dtb", patched("renesas,ipmmu-r8a7795", "renesas,nobody-knows!"));
    let story = bindery(["--dtb", text(&path)]).good();
    assert!(story.contains("still waits  ee300000.sata for ipmmu_hc"), "{story}");
    assert!(story.contains("not possible here: ee300000.sata is not bound: it waits for ipmmu_hc"), "{story}");
    assert!(story.contains("still waits  e6570000.mmu for ipmmu_mm (/soc/mmu@e67b0000): no driver"), "{story}");
}

#[test]
fn a_board_without_a_disk_controller_skips_its_steps_with_the_reason() {
    let dir = Dir::new();
    let mut blob = patched("renesas,rcar-gen3-sata", "renesas,rcar-gen9-sata");
    let old = b"renesas,sata-r8a7795";
    let at = blob.windows(old.len()).rposition(|w| w == old).unwrap();
    blob[at..at + old.len()].copy_from_slice(b"renesas,sata-r8a9999");
    let path = dir.file("no-sata.dtb", &blob);
    let story = bindery(["--dtb", text(&path)]).good();
    assert_eq!(story.matches("not possible here").count(), 5, "{story}");
    let json = bindery(["--json", "--dtb", text(&path)]).good();
    assert_eq!(json.lines().filter(|l| l.contains("\"event\":\"skipped\"")).count(), 5);
}
