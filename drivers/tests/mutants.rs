//! Each historical bug that a machine can be given is noticed: one scenario each, which is clean without the bug.
#![cfg(feature = "mutants")]
#![allow(clippy::unwrap_used)]
#![allow(clippy::redundant_closure_for_method_calls, reason = "a method is not general enough for `Client::call`")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bindery::env::Site;
use bindery::event::EventKind;
use bindery::machine::{Footprint, Policy};
use bindery::mutant::Mutant;
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::salvator::Salvator;
use common::{Rig, SATA, numbered_disk};

const DRIVER: &str = "sata_rcar";

/// What a scenario saw by itself: a life that did not end as it began, or wrong data.
type Seen = Vec<String>;

/// The whole board with a disk; nothing is probed yet.
fn board(mutant: Option<Mutant>, policy: Policy) -> Rig {
    let mut salvator = Salvator::new().disk(numbered_disk(64));
    if let Some(mutant) = mutant {
        salvator = salvator.mutant(mutant);
    }
    let rig = common::on(salvator, policy);
    rig.add_board();
    bindery_drivers::register_all(&rig.machine);
    rig
}

/// Runs `scenario` and says what anybody noticed: promises, models, IOMMU, DMA checker, the scenario itself.
fn run(mutant: Option<Mutant>, policy: Policy, scenario: fn(&Rig) -> Seen) -> Vec<String> {
    let rig = board(mutant, policy);
    let mut found = match catch_unwind(AssertUnwindSafe(|| scenario(&rig))) {
        Ok(seen) => seen,
        Err(_) => vec!["panic".into()],
    };
    rig.board.run_pending();
    found.extend(rig.machine.promises().broken().iter().map(|(p, what)| format!("{}: {what}", p.id())));
    found.extend(rig.board.model_errors().iter().map(|e| format!("model: {e}")));
    found.extend(rig.machine.dma_misuses().iter().map(|m| format!("dma: {m}")));
    found.extend(rig.events().iter().filter_map(|(_, kind)| match kind {
        EventKind::IommuFault { addr, reason, .. } => Some(format!("fault: {addr}: {reason}")),
        _ => None,
    }));
    found
}

/// `scenario` is clean without `mutant`, and with it somebody says what begins with each of `sees`.
#[track_caller]
fn killed(mutant: Mutant, policy: Policy, scenario: fn(&Rig) -> Seen, sees: &[&str]) {
    assert_eq!(run(None, policy, scenario), Vec::<String>::new(), "without the bug");
    let found = run(Some(mutant), policy, scenario);
    for seen in sees {
        assert!(found.iter().any(|f| f.starts_with(seen)), "{} is not seen as {seen:?}: {found:#?}", mutant.name());
    }
}

macro_rules! killed {
    ($($(#[$attr:meta])* $name:ident: $mutant:ident, $policy:expr, $scenario:expr, $sees:expr;)*) => {
        $($(#[$attr])* #[test] fn $name() { killed(Mutant::$mutant, $policy, $scenario, &$sees); })*

        #[test]
        fn no_mutant_is_without_a_scenario() {
            let with: Vec<_> = [$(Mutant::$mutant,)*].into();
            let without: Vec<_> = Mutant::ALL.iter().filter(|m| !with.contains(m)).collect();
            assert!(without.is_empty(), "{without:?}");
        }
    };
}

fn translated() -> Policy {
    Policy::default()
}

fn untranslated() -> Policy {
    Policy { untranslated_dma: true, ..Policy::default() }
}

/// Everything is probed, and the disk let go of: what a life starts from.
fn before(rig: &Rig) -> Footprint {
    rig.settle();
    assert_eq!(rig.driver(SATA), Some(DRIVER));
    unbind(rig);
    rig.footprint()
}

fn bind(rig: &Rig) {
    rig.machine.bind(SATA, DRIVER).unwrap();
}

fn unbind(rig: &Rig) {
    rig.machine.unbind(SATA, DRIVER).unwrap();
}

/// Reads one sector; says so if it does not hold what it should.
fn read(rig: &Rig) -> Seen {
    let mut back = vec![0; 512];
    let port = rig.machine.client::<SataRcar>(SATA).unwrap();
    match port.call(|p| p.read(7, &mut back)).unwrap() {
        Ok(()) if back == 7u16.to_le_bytes().repeat(256) => Vec::new(),
        Ok(()) => vec!["data: sector 7 holds something else".into()],
        Err(e) => vec![format!("data: {e}")],
    }
}

/// The machine is as it was before.
fn same(rig: &Rig, before: &Footprint) -> Seen {
    let now = rig.footprint();
    if now == *before { Vec::new() } else { vec![format!("left: {now:?} instead of {before:?}")] }
}

/// Bind, read, unbind.
fn life(rig: &Rig) -> Seen {
    let before = before(rig);
    bind(rig);
    let mut seen = read(rig);
    unbind(rig);
    seen.extend(same(rig, &before));
    seen
}

/// A probe that fails where `site` is next.
fn failed_probe(rig: &Rig, site: Site) -> Seen {
    let before = before(rig);
    rig.board.faults().fail_sites(&[site]);
    assert!(rig.machine.bind(SATA, DRIVER).is_err());
    rig.board.faults().never();
    same(rig, &before)
}

/// A probe that fails after it has taken its DMA memory.
fn late_failure(rig: &Rig) -> Seen {
    failed_probe(rig, Site::IrqRequest)
}

killed! {
    dma_torn_down_before_devres: DmaBeforeDevres, translated(), life, ["P1", "dma"];
    dma_torn_down_before_devres_untranslated: DmaBeforeDevres, untranslated(), life, ["P1"];
    dma_torn_down_before_devres_of_a_failed_probe: DmaBeforeDevresOnFailure, translated(), late_failure, ["P1", "left"];
    ownership_dropped_before_devres: GroupBeforeDevres, translated(), life, ["P7"];
}
