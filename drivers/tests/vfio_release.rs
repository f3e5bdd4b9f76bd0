//! A user's callbacks that are due when its device is asked for: `edu` on the board `virt`, on an env that calls them late.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bindery::env::{Env, EventToken, Instant, Job, Width};
use bindery::event::EventKind;
use bindery_drivers::vfio::{Session, Vfio, VfioPci};
use bindery_sim::interpose::Interpose;
use bindery_sim::virt::Virt;

const EDU: &str = "0000:02:01.0";
/// The register of `edu` by which software raises its interrupt.
const RAISE: u64 = 0x60;
const LIMIT: Duration = Duration::from_secs(5);

type Act = Box<dyn FnOnce() + Send>;

/// The board, whose threads begin late: during a wait, after what a test does there once.
struct Late {
    board: Arc<dyn Env>,
    jobs: Mutex<Vec<Job>>,
    at_wait: Mutex<Option<Act>>,
}

impl Interpose for Late {
    fn inner(&self) -> &dyn Env {
        &*self.board
    }

    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        let act = self.at_wait.lock().unwrap().take();
        if let Some(act) = act {
            act();
        }
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        for job in jobs {
            job();
        }
        self.board.wait(token, until);
    }

    fn spawn(&self, job: Job) -> Result<(), Job> {
        self.jobs.lock().unwrap().push(job);
        Ok(())
    }
}

/// When the user drops its session.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Drops {
    /// Before any callback that is due was called.
    First,
    /// In its answer to the host's request.
    InTheAnswer,
    /// In its first callback of an interrupt.
    InTheInterrupt,
}

/// The host asks for the device while `interrupts` of the user's interrupts are due. Returns the time that the unbind took and
/// the calls of callbacks.
fn unbind(drops: Drops, interrupts: usize) -> (Duration, usize) {
    let late = Mutex::new(None);
    let env = |board: Arc<dyn Env>| {
        let env = Arc::new(Late { board, jobs: Mutex::default(), at_wait: Mutex::default() });
        *late.lock().unwrap() = Some(Arc::clone(&env));
        env.env()
    };
    let (rig, _) = common::virt::translated_on(Virt::new().function_reset(), env, |machine| {
        machine.register(VfioPci(Vfio { release_timeout: LIMIT }));
    });
    let late = late.into_inner().unwrap().unwrap();
    rig.machine.device(EDU).unwrap().set_driver_override(Some("vfio-pci"));
    rig.machine.bind(EDU, "vfio-pci").unwrap();
    let session = VfioPci::open(&rig.machine.client::<VfioPci>(EDU).unwrap()).unwrap();

    let (shared, calls) = (Arc::new(Mutex::new(None::<Session>)), Arc::new(AtomicUsize::new(0)));
    let callback = |leaves: bool| {
        let (session, calls) = (Arc::clone(&shared), Arc::clone(&calls));
        move || {
            calls.fetch_add(1, Ordering::SeqCst);
            let session = if leaves { session.lock().unwrap().take() } else { None };
            drop(session);
        }
    };
    session.on_request(callback(drops == Drops::InTheAnswer)).unwrap();
    session.on_interrupt(0, callback(drops == Drops::InTheInterrupt)).unwrap();
    for _ in 0..interrupts {
        session.set_masked(0, false).unwrap();
        session.write(0, RAISE, Width::W32, 1).unwrap();
        rig.board.run_pending();
    }
    *shared.lock().unwrap() = Some(session);
    if drops == Drops::First {
        let session = Arc::clone(&shared);
        *late.at_wait.lock().unwrap() = Some(Box::new(move || drop(session.lock().unwrap().take())));
    }
    rig.events();
    let begun = rig.board.now();
    rig.machine.unbind(EDU, "vfio-pci").unwrap();
    let states: Vec<_> = rig
        .event_kinds(EDU)
        .into_iter()
        .filter_map(|kind| if let EventKind::PassThrough { state, .. } = kind { Some(state) } else { None })
        .collect();
    assert_eq!(states, ["requested", "released"], "{drops:?} with {interrupts} due");
    rig.assert_well();
    (rig.board.now().since(begun), calls.load(Ordering::SeqCst))
}

#[test]
fn callbacks_that_were_due_when_the_user_left_are_neither_called_nor_waited_for() {
    // The answer to a request goes first, so a user that leaves in a callback of an interrupt has given it.
    for (drops, interrupts, called) in [
        (Drops::First, 0, 0),
        (Drops::First, 1, 0),
        (Drops::InTheAnswer, 0, 1),
        (Drops::InTheAnswer, 1, 1),
        // The answer to a request goes first.
        (Drops::InTheInterrupt, 1, 2),
    ] {
        let (took, calls) = unbind(drops, interrupts);
        assert!(took < LIMIT / 10, "P9: {took:?} where the user drops its session {drops:?} with {interrupts} due");
        assert_eq!(calls, called, "{drops:?} with {interrupts} due");
    }
}
