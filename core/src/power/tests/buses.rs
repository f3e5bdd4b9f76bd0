//! Claims to the buses that a device is on.

use alloc::vec::Vec;

use crate::binding::Bound;
use crate::claim::{Holder, Mode, Subject};
use crate::device::{DeviceDesc, PciIdentity};
use crate::driver::{Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::machine::Policy;

struct Card;

impl Driver for Card {
    const NAME: &'static str = "card";
    const MATCHES: &'static [Match] = &[Match::compatible("t,card")];
    type Data<'b> = ();
    fn probe(&self, _: Bound<'_>) -> Result<(), ProbeError> {
        Ok(())
    }
    fn quiesce((): &()) -> Result<Quiesced, QuiesceError> {
        Ok(Quiesced::never_started())
    }
}

/// P4: whichever bus is another's, the others are nobody's afterwards.
#[test]
fn a_bind_that_finds_one_bus_taken_gives_back_those_that_it_had() {
    const BUSES: [&str; 3] = ["0000:02:00.0", "0000:01:00.0", "0000:00:01.0"];
    let buses = BUSES.map(|name| Subject::Bus(name.into()));
    for taken in &buses {
        let machine = FakeEnv::new().machine(Policy::default());
        machine.register(Card);
        let mut desc = DeviceDesc::new("0000:03:00.0");
        desc.compatible.push("t,card".into());
        let (bars, bridges) = (Vec::new(), BUSES.map(Into::into).into());
        desc.pci = Some(PciIdentity { vendor: 1, device: 2, subsystem: None, class: 0, revision: 0, bars, bridges });
        machine.set_autoprobe(false);
        machine.add_device(desc).unwrap();
        let others = Holder::new(&"0000:03:01.0".into(), "other");
        // Not exclusive, as a reset is, which would be waited for.
        let claim = machine.claim(taken, &others, Mode::Shared("another way")).unwrap();
        let usage = machine.resource_usage();
        assert!(machine.bind("0000:03:00.0", "card").is_err(), "{taken}");
        assert_eq!(machine.resource_usage(), usage, "{taken}");
        for bus in buses.iter().filter(|bus| *bus != taken) {
            let alone = machine.claim(bus, &others, Mode::Exclusive);
            assert!(alone.is_ok_and(|alone| machine.release_claim(&alone)), "{bus} while {taken} is taken");
        }
        machine.release_claim(&claim);
        machine.bind("0000:03:00.0", "card").unwrap();
        for bus in &buses {
            assert!(machine.claim(bus, &others, Mode::Exclusive).is_err(), "{bus} has a user");
        }
        machine.unbind("0000:03:00.0", "card").unwrap();
        assert_eq!(machine.resource_usage().claims, 0);
    }
}
