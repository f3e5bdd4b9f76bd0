//! Users of a pass-through device, whom the core shuts out before it stops the device, whatever the driver does; and the reset that the
//! device needs after them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::board::TestBoard;
use crate::binding::{Bound, ResourceError};
use crate::dma::PassThroughHost;
use crate::driver::{DmaOwner, Driver, Match, ProbeError, QuiesceError, Quiesced};
use crate::instrument::FaultPoint;
use crate::iommu::DomainKind;
use crate::machine::BindError;
use crate::power::SupplyError;

const LAB: &str = "1000.lab";

/// What the driver does when the device is to be stopped, but for shutting anybody out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    Succeeds,
    Fails,
    /// The core does not call its `quiesce`.
    Injected,
    PanicsInRequest,
    PanicsInQuiesce,
}

/// Each moment, and whether a user was let in then.
type Seen = Arc<Mutex<Vec<(&'static str, bool)>>>;

struct Giver(Stop, Seen);

struct Given {
    stop: Stop,
    seen: Seen,
    host: PassThroughHost,
}

impl Given {
    fn look(&self, at: &'static str) {
        self.seen.lock().unwrap().push((at, self.host.operate("a look", || ()).is_some()));
        assert_eq!(self.seen.lock().unwrap().last(), Some(&(at, !self.host.is_closed())));
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.look("drop");
    }
}

impl Driver for Giver {
    const NAME: &'static str = "giver";
    const MATCHES: &'static [Match] = &[Match::compatible("acme,lab")];
    const DMA: DmaOwner = DmaOwner::PassThrough;
    type Data<'b> = Given;

    fn probe(&self, dev: Bound<'_>) -> Result<Given, ProbeError> {
        let host = dev.pass_through().unwrap().host();
        let given = Given { stop: self.0, seen: Arc::clone(&self.1), host };
        given.look("probe");
        Ok(given)
    }

    fn request_release(given: &Given) {
        given.look("request");
        assert_ne!(given.stop, Stop::PanicsInRequest);
    }

    fn quiesce(given: &Given) -> Result<Quiesced, QuiesceError> {
        given.look("quiesce");
        assert_ne!(given.stop, Stop::PanicsInQuiesce);
        if given.stop == Stop::Fails { Err(QuiesceError("it goes on")) } else { Ok(Quiesced::stopped()) }
    }
}

/// Binds and unbinds the device; a call of the core may fail. Returns what was seen, and the calls that may fail.
fn unbind(stop: Stop, fail_at: Option<usize>) -> (Vec<(&'static str, bool)>, Vec<FaultPoint>) {
    let board = TestBoard::translated(DomainKind::Strict);
    let seen = Seen::default();
    board.machine.set_autoprobe(false);
    board.machine.register(Giver(stop, Arc::clone(&seen)));
    board.machine.device(LAB).unwrap().set_driver_override(Some(Giver::NAME));
    board.env.calls.lock().unwrap().clear();
    *board.env.fail_at.lock().unwrap() = fail_at;
    board.machine.bind(LAB, Giver::NAME).unwrap();
    let host = board.machine.client::<Giver>(LAB).unwrap().call(|given| given.host.clone()).unwrap();
    seen.lock().unwrap().push(("bound", host.operate("a look", || ()).is_some()));
    // A driver's panic ends the first one.
    while catch_unwind(AssertUnwindSafe(|| board.machine.unbind(LAB, Giver::NAME))).is_err() {}
    assert_eq!(host.operate("a look", || ()), None);
    let again = board.machine.bind(LAB, Giver::NAME);
    assert_eq!(host.operate("a look", || ()), None, "P5: of an earlier binding");
    // Users may have left anything in a device that was not shown to be stopped, and this board has no reset.
    let error = ResourceError::NotReset(SupplyError::NoSuchLine).into();
    let not_reset = BindError::Probe { device: LAB.into(), error };
    assert_eq!(again, if stop == Stop::Succeeds { Ok(()) } else { Err(not_reset) }, "P12: {stop:?}");
    assert_eq!(board.machine.promises().broken(), []);
    let calls = board.env.calls.lock().unwrap().clone();
    let seen = seen.lock().unwrap().clone();
    (seen, calls)
}

#[test]
fn users_are_shut_out_before_the_device_is_stopped_and_it_is_reset_after_them_whatever_its_driver_does() {
    let begin = [("probe", false), ("bound", true), ("request", true)];
    let (_, calls) = unbind(Stop::Succeeds, None);
    let quiesce = calls.iter().position(|point| *point == FaultPoint::Quiesce);
    for stop in [Stop::Succeeds, Stop::Fails, Stop::Injected, Stop::PanicsInRequest, Stop::PanicsInQuiesce] {
        let (seen, _) = unbind(stop, quiesce.filter(|_| stop == Stop::Injected));
        let end: &[_] = match stop {
            Stop::Injected | Stop::PanicsInRequest => &[("drop", false)],
            _ => &[("quiesce", false), ("drop", false)],
        };
        let expected: Vec<_> = begin.iter().chain(end).copied().collect();
        // Of the first binding.
        assert_eq!(seen[..expected.len()], expected, "P5: {stop:?}");
    }
}
