//! Each step of the main job by itself, and the whole on boards that lack something. The tests look at the session, not at
//! the text.
#![allow(missing_docs, clippy::unwrap_used)]
#![allow(clippy::redundant_closure_for_method_calls, reason = "a method is not general enough for `Client::call`")]

mod common;

use bindery::binding::Phase;
use bindery::iommu::Owner;
use bindery_cli::output::Output;
use bindery_cli::reporter::Reporter;
use bindery_cli::script::{Runner, Script, Side};
use bindery_cli::session::{Area, Config, Port, Session, pattern};
use bindery_sim::salvator::DEVICE_TREE;
use common::{Dir, bindery, text};

/// A session in which the steps of the main job called `names` were run, each without a failure.
fn run_steps(config: &Config, names: &[&str]) -> Session {
    let mut session = Session::new(config).unwrap();
    for name in names {
        run_step(&mut session, name);
    }
    session
}

fn run_step(session: &mut Session, name: &str) {
    let mut printed = Vec::new();
    let script = Script::lifecycle(session).unwrap();
    let step = script.steps.iter().find(|s| &*s.name == name).unwrap();
    let log = session.log.clone();
    let mut reporter = Reporter::new(Output::new(&mut printed, false), &log, false, None);
    Runner::new(session, &mut reporter).step(step).unwrap();
    let failures = reporter.failures();
    drop(reporter);
    assert_eq!(failures, 0, "{name}: {}", String::from_utf8(printed).unwrap());
    assert_eq!(session.target.model_errors(), Vec::<String>::new(), "{name}");
    assert_eq!(session.host.promises().broken(), [], "{name}");
}

fn sata(session: &Session) -> Option<&'static str> {
    session.device().unwrap().driver()
}

fn owner(session: &Session) -> Owner {
    let group = session.host.device_info(&session.device().unwrap()).group.unwrap();
    session.host.groups().into_iter().find(|g| g.id() == group).unwrap().info().owner
}

#[test]
fn the_machine_has_devices_and_drivers_and_nothing_is_bound() {
    let session = run_steps(&Config::default(), &["machine"]);
    assert_eq!(session.host.devices().len(), session.description.devices.len());
    assert!(session.host.drivers().contains(&"sata_rcar"));
    assert!(session.host.devices().iter().all(|d| d.phase() == Phase::Unbound));
}

#[test]
fn probing_binds_the_controller_behind_its_iommu() {
    let session = run_steps(&Config::default(), &["machine", "probe"]);
    assert_eq!(sata(&session), Some("sata_rcar"));
    assert_eq!((session.host.waiting(), owner(&session)), (vec![], Owner::Kernel(1)));
    let first = session.log.mapped("host", "ee300000.sata")[0];
    assert_eq!((first.addr.0, first.size), (0xffff_f000, 2048));
}

#[test]
fn io_moves_sectors_between_file_and_memory() {
    let session = run_steps(&Config::default(), &["machine", "probe", "io"]);
    let (area, _) = Area::of(Port::capacity(&session.port().unwrap()).unwrap());
    let wanted = pattern("other", area);
    assert_eq!(session.read(Side::Host, area).unwrap(), wanted);
    assert_eq!(session.read(Side::Image, area).unwrap(), wanted);
}

#[test]
fn unbind_leaves_the_device_with_nothing() {
    let session = run_steps(&Config::default(), &["machine", "probe", "unbind"]);
    assert_eq!((sata(&session), owner(&session)), (None, Owner::None));
    assert_eq!(session.log.mapped("host", "ee300000.sata"), []);
    assert_eq!(session.host.quarantine(), []);
}

#[test]
fn the_guest_has_the_disk_and_the_host_has_not() {
    let session = run_steps(&Config::default(), &["machine", "probe", "unbind", "hand-over"]);
    assert_eq!((sata(&session), owner(&session)), (Some("vfio-platform"), Owner::PassThrough(1)));
    let guest = session.guest.as_ref().unwrap();
    assert!(guest.env.has_device() && guest.client().is_some() && session.port().is_none());
    let (_, area) = Area::of(session.sectors().unwrap());
    assert_eq!(session.read(Side::Image, area).unwrap(), pattern("guest", area));
}

#[test]
fn the_host_has_the_disk_again_after_both_kinds_of_guest() {
    let session = run_steps(&Config::default(), &["machine", "probe", "unbind", "hand-over", "return"]);
    assert_eq!((sata(&session), owner(&session)), (Some("sata_rcar"), Owner::Kernel(1)));
    assert!(session.guest.is_none());
    assert!(
        session.guests.checked.iter().all(|n| *n > 0),
        "two guests checked their promises: {:?}",
        session.guests.checked
    );
    assert_eq!(session.guests.broken.concat(), Vec::<String>::new());
}

#[test]
fn the_verdict_takes_everything_back() {
    let session = run_steps(&Config::default(), &["machine", "probe", "verdict"]);
    assert_eq!(session.host.resource_usage(), session.baseline);
    assert_eq!(session.host.drivers(), Vec::<&str>::new());
}

#[test]
fn steps_that_miss_what_came_before_say_so_and_do_no_harm() {
    for name in ["io", "unbind", "hand-over", "return", "verdict"] {
        run_steps(&Config::default(), &["machine", name]);
    }
}

#[test]
fn without_iommu_the_main_job_holds() {
    let config = Config { untranslated: true, ..Config::default() };
    let session = run_steps(&config, &["machine", "probe", "io", "unbind", "hand-over", "return", "verdict"]);
    assert_eq!(session.host.resource_usage(), session.baseline);
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
    let out = bindery(["--dtb", text(&path)]).good();
    assert!(out.contains("still waits  ee300000.sata for ipmmu_hc"), "{out}");
    assert!(out.contains("not possible here: ee300000.sata is not bound: it waits for ipmmu_hc"), "{out}");
    assert!(out.contains("still waits  e6570000.mmu for ipmmu_mm (/soc/mmu@e67b0000): no driver"), "{out}");
}

#[test]
fn a_board_without_a_disk_controller_skips_its_steps_with_the_reason() {
    let dir = Dir::new();
    let mut blob = patched("renesas,rcar-gen3-sata", "renesas,rcar-gen9-sata");
    let old = b"renesas,sata-r8a7795";
    let at = blob.windows(old.len()).rposition(|w| w == old).unwrap();
    blob[at..at + old.len()].copy_from_slice(b"renesas,sata-r8a9999");
    let path = dir.file("no-sata.dtb", &blob);
    let out = bindery(["--dtb", text(&path)]).good();
    assert_eq!(out.matches("not possible here").count(), 5, "{out}");
    let json = bindery(["--json", "--dtb", text(&path)]).good();
    assert_eq!(json.lines().filter(|l| l.contains("\"event\":\"skipped\"")).count(), 5);
}

/// The board's own tree describes more than the board models; a device that a tree moves elsewhere is one more.
#[test]
fn devices_that_the_board_has_no_model_for_are_named_in_the_verdict() {
    let named = |args: &[&str]| -> Vec<String> {
        let json = bindery(args).good();
        let line = json.lines().find(|l| l.contains("\"event\":\"without-model\"")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["devices"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().into()).collect()
    };
    let own = named(&["--json"]);
    let has = |name: &str| own.iter().any(|n| n == name);
    assert!(has("e6800000.ethernet") && has("e6510000.i2c"), "{own:?}");
    for modelled in
        ["ee300000.sata", "e6570000.mmu", "e6150000.clock-controller", "f1010000.interrupt-controller", "soc"]
    {
        assert!(!has(modelled), "{modelled}: {own:?}");
    }
    let out = bindery([] as [&str; 0]).good();
    let first = format!("no model     for {} devices of the tree: {}, {}", own.len(), own[0], own[1]);
    assert!(out.contains(&first) && out.contains(&format!(" and {} more", own.len() - 4)), "{out}");

    let dir = Dir::new();
    let mut blob = DEVICE_TREE.to_vec();
    let old = [0xee30_0000_u32.to_be_bytes(), [0; 4], 0x20_0000_u32.to_be_bytes()].concat();
    let at = blob.windows(old.len()).position(|w| w == old).unwrap();
    blob[at..at + 4].copy_from_slice(&0xee50_0000_u32.to_be_bytes());
    let path = dir.file("moved.dtb", &blob);
    let moved = named(&["--json", "--dtb", text(&path)]);
    assert!(moved.len() == own.len() + 1 && moved.iter().any(|name| name == "ee500000.sata"), "{moved:?}");
}
