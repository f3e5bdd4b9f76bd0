//! Variants of a lifecycle: beginnings and ends of a binding.

use bindery::bus::Departure;
use bindery::device::BusKind;
use bindery::promise::Promise;

use super::Names;
use super::play::Play;
use crate::engine::{Kind, Violation, Visit};

/// Need of a variant for a new fixture, because its course depends on where memory is allocated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NewFixture {
    Never,
    /// The peer is bound in it, and an untranslated one has bounce buffers.
    WithUntranslatedPeer,
    Always,
}

/// One variant of the lifecycle.
pub(super) struct Variant {
    /// Name in reports.
    pub(super) name: &'static str,
    /// Set when it begins before anything was probed.
    pub(super) fresh: bool,
    /// Its need for a new fixture.
    pub(super) new_fixture: NewFixture,
    /// Set when it is executed without translation.
    pub(super) untranslated: bool,
    /// Returns true when the device can have this lifecycle.
    pub(super) possible: fn(&Names) -> bool,
    /// Returns true when it has an effect on the device, and is required: elsewhere only its refusal is checked.
    pub(super) has_effect: fn(&Names) -> bool,
    pub(super) play: fn(&Play<'_>) -> Result<(), Violation>,
}

const fn settled(name: &'static str, script: fn(&Play<'_>) -> Result<(), Violation>) -> Variant {
    Variant {
        name,
        fresh: false,
        new_fixture: NewFixture::Never,
        untranslated: false,
        possible: |_| true,
        has_effect: |_| true,
        play: script,
    }
}

/// All variants. The first is the default one.
pub(super) const VARIANTS: &[Variant] = &[
    settled("lifecycle: bound, used, unbound", ordinary),
    settled("lifecycle: the device is removed", |play| {
        let remove = |play: &Play<'_>| {
            play.scene.machine().remove_device(&play.names.device);
        };
        ends(play, "removal", remove, |play| play.scene.machine().device(&play.names.device).is_none())
    }),
    settled("lifecycle: the device vanishes", |play| {
        let vanish = |play: &Play<'_>| {
            let _ = play.scene.board().unplug(&play.names.part);
            play.scene.machine().device_vanished(&play.names.device);
        };
        ends(play, "vanishing", vanish, |play| play.scene.machine().device(&play.names.device).is_none())
    }),
    settled("lifecycle: the driver is removed", |play| {
        let unregister = |play: &Play<'_>| {
            play.scene.machine().unregister(play.names.driver);
        };
        ends(play, "driver removal", unregister, |play| {
            play.holder().is_none() && !play.scene.machine().drivers().contains(&play.names.driver)
        })
    }),
    Variant {
        possible: |names| !names.suppliers.is_empty(),
        ..settled("lifecycle: the supplier is unbound first", supplier_first)
    },
    Variant {
        possible: can_be_handed_over,
        has_effect: super::guest::is_given,
        ..settled("lifecycle: passed to a guest that releases it", |play| super::guest::hand_over(play, true))
    },
    Variant {
        possible: can_be_handed_over,
        has_effect: super::guest::is_given,
        ..settled("lifecycle: passed to a guest that does not answer", |play| super::guest::hand_over(play, false))
    },
    Variant { new_fixture: NewFixture::WithUntranslatedPeer, ..settled("lifecycle: group peer", group_peer) },
    settled("lifecycle: invalid requests", super::invalid_requests::all),
    Variant { fresh: true, new_fixture: NewFixture::Always, ..settled("lifecycle: probed in any order", start) },
    Variant {
        new_fixture: NewFixture::Always,
        ..settled("lifecycle: a consumer defers while it binds", undescribed_consumer)
    },
    Variant { untranslated: true, ..settled("lifecycle: untranslated", ordinary) },
    Variant {
        new_fixture: NewFixture::Always,
        untranslated: true,
        ..settled("lifecycle: untranslated group peer", group_peer)
    },
    Variant {
        possible: is_on_a_link,
        ..settled("lifecycle: an uncorrectable error", |play| {
            let fail = |play: &Play<'_>| {
                play.scene.machine().device_departs(&play.names.device, Departure::Failed);
            };
            ends(play, "uncorrectable error", fail, |play| play.scene.machine().device(&play.names.device).is_none())
        })
    },
    Variant {
        possible: is_on_a_link,
        ..settled("lifecycle: the link goes down", |play| {
            let fall = |play: &Play<'_>| {
                let _ = play.scene.board().unplug(&play.names.part);
                play.scene.machine().device_departs(&play.names.device, Departure::LinkDown);
            };
            ends(play, "link down", fall, |play| play.scene.machine().device(&play.names.device).is_none())
        })
    },
];

/// Returns true when the bus of the device tells of errors and of its link.
fn is_on_a_link(names: &Names) -> bool {
    names.desc.bus == BusKind::Pci
}

/// Returns true when the control tree has the device: nobody can write an override for one of which Linux makes none.
fn can_be_handed_over(names: &Names) -> bool {
    names.desc.bus != BusKind::Early
}

/// Binds, uses, and ends by `end`, which is called `what` and whose effect is that `ended`; then recovers, and the next
/// lifecycle must be like the first.
fn ends<'a>(
    play: &Play<'a>,
    what: &'static str,
    end: impl Fn(&Play<'a>),
    ended: impl Fn(&Play<'a>) -> bool,
) -> Result<(), Violation> {
    let steps = || {
        if let Visit::Seen = play.bind()? {
            return Ok(Visit::Seen);
        }
        if let Visit::Seen = play.use_it()? {
            return Ok(Visit::Seen);
        }
        if let Visit::Seen = play.hardware()? {
            return Ok(Visit::Seen);
        }
        let was_bound = play.holder() == Some(play.names.driver);
        end(play);
        play.effect(what, was_bound && ended(play))?;
        play.step(what)
    };
    play.recover(steps()?)
}

/// Binds, uses, unbinds.
fn ordinary(play: &Play<'_>) -> Result<(), Violation> {
    let unbind = |play: &Play<'_>| play.unbind_from(play.names.driver, &play.names.device);
    ends(play, "unbind", unbind, |play| play.holder().is_none())
}

/// Unbinds one of the device's suppliers while the device is in use: each of them on a path of its own.
fn supplier_first(play: &Play<'_>) -> Result<(), Violation> {
    let suppliers = &play.names.suppliers;
    let which = play.scene.chooser().choose(Kind::Value, "supplier", suppliers.len());
    let Some((supplier, driver)) = suppliers.get(which) else { return Ok(()) };
    let held = |name: &str| play.scene.machine().device(name).and_then(|d| d.driver());
    let unbind = |play: &Play<'_>| play.unbind_from(driver, supplier);
    play.expect("supplier's bind", held(supplier) == Some(*driver))?;
    ends(play, "supplier unbind", unbind, |play| held(supplier).is_none() && play.holder().is_none())
}

/// Binds and unbinds the group peer while the device is bound.
fn group_peer(play: &Play<'_>) -> Result<(), Violation> {
    let steps = || {
        let bound = play.peer_binds();
        play.expect("group peer's bind", bound)?;
        if let Visit::Seen = play.step("group peer binds")? {
            return Ok(Visit::Seen);
        }
        if let Visit::Seen = play.bind()? {
            return Ok(Visit::Seen);
        }
        let held = |name: &str| play.scene.machine().device(name).is_some_and(|device| device.driver().is_some());
        let both = held(super::peer::NAME) && held(&play.names.device);
        play.peer_unbinds();
        play.effect("group peer's unbind", both && !held(super::peer::NAME) && held(&play.names.device))?;
        if let Visit::Seen = play.step("group peer unbinds")? {
            return Ok(Visit::Seen);
        }
        play.unbind()
    };
    play.recover(steps()?)
}

/// Probes a consumer that firmware does not describe; it may find the device missing just before that is bound.
fn undescribed_consumer(play: &Play<'_>) -> Result<(), Violation> {
    let (scene, machine) = (play.scene, play.scene.machine());
    let gone = || Violation::seen_by("scenario", "consumer", "the device is gone".to_string());
    let supplier = machine.device(&play.names.device).ok_or_else(gone)?;
    machine.register(super::consumer::Consumer(supplier));
    let added = machine.add_device(super::consumer::describe());
    added.map_err(|e| Violation::seen_by("scenario", "consumer", e.to_string()))?;
    machine.settle();
    scene.step("consumer probed")?;
    scene.disable_faults(true);
    machine.settle();
    let _ = machine.bind(&play.names.device, play.names.driver);
    machine.settle();
    scene.check("supplier bound")?;
    let there = play.holder().is_some();
    let name = super::consumer::NAME;
    let bound = machine.device(name).is_some_and(|consumer| consumer.driver().is_some());
    if there && bound {
        scene.chooser().cover(play.variant);
    }
    let failed = scene.chooser().has_failed();
    scene.chooser().check(Promise::OrderIndependent, bound || !there || failed, "waits for what is there", || {
        format!("{name} is not bound although {}, for which it waited, is", play.names.device)
    })
}

/// Probes everything for the first time, in every order.
fn start(play: &Play<'_>) -> Result<(), Violation> {
    loop {
        play.scene.check("start")?;
        let state = super::state_of(play.variant, "start", play.scene.digest());
        if play.scene.chooser().scheduling_point(state) == Visit::Seen {
            return Ok(());
        }
        if !play.scene.machine().step() {
            break;
        }
    }
    // The last step may have found nothing to do; what the machine itself says of the end counts, too.
    play.scene.machine().settle();
    play.step("started")?;
    let bound = play.holder() == Some(play.names.driver);
    play.scene.chooser().check(
        Promise::OrderIndependent,
        bound || play.scene.chooser().is_disturbed(),
        "not bound",
        || format!("{} was not bound in this order of probing", play.names.device),
    )?;
    if bound {
        play.scene.chooser().cover(play.variant);
    }
    play.scene.disable_faults(true);
    play.probe_all();
    play.scene.check("probed again")?;
    let bound = play.holder() == Some(play.names.driver);
    play.scene.chooser().check(Promise::OrderIndependent, bound, "not bound after a failure", || {
        format!("{} could not be bound after its suppliers were probed again", play.names.device)
    })
}
