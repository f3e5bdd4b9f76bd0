use std::format;
use std::vec::Vec;

use alloc::sync::Arc;

use super::{Claim, Claims, Holder, Mode, Provider, Subject};
use crate::addr::PhysAddr;
use crate::device::NodeId;

fn registers(base: u64, len: u64) -> Subject {
    Subject::Registers { base: PhysAddr(base), len }
}

fn holder(device: &str, driver: &str) -> Holder {
    Holder::new(&device.into(), driver)
}

#[test]
fn a_second_holder_is_refused_with_the_name_of_the_first() {
    let claims = Claims::default();
    let (first, second) = (holder("e6150000.clock", "cpg"), holder("a-pm", "pm"));
    let held = claims.take(&registers(0xe615_0000, 0x1000), &first, Mode::Exclusive).unwrap();
    let conflict = claims.take(&registers(0xe615_0800, 0x10), &second, Mode::Shared("")).unwrap_err();
    assert_eq!(format!("{conflict}"), "registers 0xe6150000 + 0x1000 are held by e6150000.clock (cpg)");
    assert_eq!(conflict.holder, first);
    assert!(claims.take(&registers(0xe615_1000, 0x10), &second, Mode::Exclusive).is_ok(), "right behind it");
    assert!(claims.release(&held));
    assert!(claims.take(&registers(0xe615_0800, 0x10), &second, Mode::Exclusive).is_ok());
}

#[test]
fn a_claim_is_shared_on_equal_terms_only() {
    let claims = Claims::default();
    let line = |line| Subject::Interrupt { controller: None, line };
    let gpio = Provider { node: NodeId(7), name: "gpio".into() };
    let behind = |line| Subject::Interrupt { controller: Some(gpio.clone()), line };
    let (a, b, guest) = (holder("a", "x"), holder("b", "y"), Holder::pass_through(&"g".into(), "vfio"));
    let first = claims.take(&line(5), &a, Mode::Shared("level high")).unwrap();
    let again = claims.take(&line(5), &a, Mode::Exclusive).expect("a holder does not conflict with itself");
    assert!(!claims.release(&again), "the first is still there");
    let second = claims.take(&line(5), &b, Mode::Shared("level high")).unwrap();
    let conflict = claims.take(&line(5), &guest, Mode::Exclusive).unwrap_err();
    assert_eq!(format!("{conflict}"), "interrupt line 5 is held by a (x), shared, level high");
    assert!(claims.take(&behind(5), &guest, Mode::Exclusive).is_ok(), "the same number elsewhere is another line");
    claims.release(&first);
    assert!(claims.take(&line(5), &a, Mode::Shared("rising edge")).is_err());
    claims.release(&second);
    assert!(claims.take(&line(5), &a, Mode::Shared("rising edge")).is_ok());
    assert!(claims.take(&line(5), &b, Mode::Shared("level high")).is_err());
}

#[test]
fn a_dma_peer_coexists_with_the_kernel_driver_and_never_with_a_guest() {
    let claims = Claims::default();
    let (driver, dma, guest) = (holder("fifo", "x"), holder("dmac", "y"), Holder::pass_through(&"g".into(), "vfio"));
    let window = registers(0x1000, 0x1000);
    let own = claims.take(&window, &driver, Mode::Exclusive).unwrap();
    let peer = claims.take(&registers(0x1100, 4), &dma, Mode::Peer).unwrap();
    claims.release(&own);
    assert!(claims.take(&window, &guest, Mode::Exclusive).is_err(), "a peer reaches it still");
    claims.release(&peer);
    claims.take(&window, &guest, Mode::Exclusive).unwrap();
    assert!(claims.take(&registers(0x1100, 4), &dma, Mode::Peer).is_err());
}

#[test]
fn a_release_refuses_new_uses_and_waits_for_active_ones() {
    let claims = Arc::new(Claims::default());
    let claim = claims.take(&Subject::Group(1), &holder("a", "x"), Mode::Exclusive).unwrap();
    let inside = claim.enter().unwrap();
    std::thread::scope(|s| {
        let releaser = s.spawn(|| claims.release(&claim));
        while let Some(guard) = claim.enter() {
            drop(guard);
            std::thread::yield_now();
        }
        assert_eq!(claims.len(), 1, "still in use");
        drop(inside);
        assert!(releaser.join().unwrap());
    });
    assert_eq!((claims.len(), claim.enter().is_none()), (0, true));
    assert!(claims.release(&claim), "a second time changes nothing");
}

#[test]
fn registers_are_widened_to_whole_pages_up_to_the_last_page() {
    assert_eq!(Subject::whole_pages(PhysAddr(0x1ff0), 0x20), registers(0x1000, 0x2000));
    assert_eq!(Subject::whole_pages(PhysAddr(0x1000), 0x1000), registers(0x1000, 0x1000));
    assert_eq!(Subject::whole_pages(PhysAddr(u64::MAX - 1), 9), registers(!0xfff, 0x1000));
    assert_eq!(Subject::whole_pages(PhysAddr(0), u64::MAX), registers(0, u64::MAX));
}

/// First byte, length, index of the holder, mode.
type Request = (u64, u64, usize, Mode);

/// Oracle of compatibility, byte by byte.
fn is_compatible(old: &Request, new: &Request) -> bool {
    let guest = |who: usize| who == 2;
    let bytes = |c: &Request| c.0..c.0 + c.1;
    let meets = bytes(old).any(|b| bytes(new).contains(&b));
    !meets
        || old.2 == new.2
        || match (old.3, new.3) {
            (Mode::Exclusive, Mode::Exclusive | Mode::Shared(_)) | (Mode::Shared(_), Mode::Exclusive) => false,
            (Mode::Shared(a), Mode::Shared(b)) => a == b,
            (Mode::Peer, Mode::Peer) => true,
            (Mode::Peer, _) | (_, Mode::Peer) => !guest(old.2) && !guest(new.2),
        }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: if cfg!(miri) { 4 } else { 256 }, ..Default::default() })]

    /// P14: the table accepts exactly the claims that a comparison with all claims, byte by byte, accepts.
    #[test]
    fn the_table_matches_an_oracle_that_compares_all_claims(
        steps in proptest::collection::vec((0u64..24, 0u64..9, 0usize..4, 0usize..4, proptest::bool::weighted(0.3)), 1..60),
    ) {
        let modes = [Mode::Exclusive, Mode::Shared(""), Mode::Shared("other terms"), Mode::Peer];
        let holders =
            [holder("a", "x"), holder("b", "x"), Holder::pass_through(&"g".into(), "vfio"), holder("a", "x")];
        let claims = Claims::default();
        let mut list: Vec<(Request, Arc<Claim>)> = Vec::new();
        for (base, len, who, mode, back) in steps {
            if back && !list.is_empty() {
                let (_, claim) = list.remove(base as usize % list.len());
                claims.release(&claim);
                proptest::prop_assert!(claim.enter().is_none());
                continue;
            }
            let new = (base, len, who, modes[mode]);
            let expected = list.iter().all(|(old, _)| is_compatible(old, &new));
            match claims.take(&registers(base, len), &holders[who], modes[mode]) {
                Ok(claim) => {
                    proptest::prop_assert!(expected, "{new:?} beside {list:?}");
                    list.push((new, claim));
                }
                Err(conflict) => {
                    proptest::prop_assert!(!expected, "{new:?} refused for {conflict}");
                    proptest::prop_assert!(conflict.holder != holders[who]);
                }
            }
            proptest::prop_assert_eq!(claims.len(), list.len());
            proptest::prop_assert!(claims.find_conflicting(&registers(base, len)).is_none());
            for (at, who) in holders.iter().enumerate() {
                let held = list.iter().filter(|(c, _)| c.2 == at).count();
                proptest::prop_assert_eq!(claims.held_by(who).len(), held);
            }
        }
    }
}
