//! F34: a clock near its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bindery::env::{Env, EventToken, Instant};
use bindery::machine::{Machine, Policy};
use bindery_drivers::sata_rcar::SataRcar;
use bindery_sim::board::Board;
use bindery_sim::interpose::Interpose;
use bindery_sim::salvator::{self, Salvator};

use super::dma::{SATA, disk};

/// A board whose clock stands `.1` nanoseconds before the end of time.
struct Late(Arc<Board>, u64);

impl Late {
    fn offset(&self) -> u64 {
        u64::MAX - self.1
    }
}

impl Interpose for Late {
    fn inner(&self) -> &dyn Env {
        &*self.0
    }
    fn now(&self) -> Instant {
        Instant(self.0.now().0.saturating_add(self.offset()))
    }
    fn wait(&self, token: &EventToken<'_>, until: Instant) {
        // A deadline beyond the end is the end.
        let under = if until == Instant::MAX {
            self.0.now() + Duration::from_millis(1)
        } else {
            Instant(until.0 - self.offset())
        };
        self.0.wait(token, under);
    }
}

#[test]
fn f34_deadlines_saturate_near_the_end_of_time() {
    // The whole lifecycle fits, or the clock stands still in the middle of it.
    for left in [Duration::from_secs(3600), Duration::from_millis(19), Duration::from_millis(1), Duration::ZERO] {
        let board = Salvator::new().disk(disk()).build();
        let env = Arc::new(Late(board, left.as_nanos() as u64)).env();
        let machine = Machine::new(env, Policy::default());
        machine.add_device_tree(salvator::DEVICE_TREE).unwrap();
        bindery_drivers::register_all(&machine);
        let (done, end) = std::sync::mpsc::channel();
        let finished = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = Arc::clone(&finished);
        std::thread::spawn(move || {
            machine.settle();
            let bound = machine.device(SATA).and_then(|d| d.driver()).is_some();
            if let Some(client) = machine.client::<SataRcar>(SATA) {
                let _ = client.call(|p| p.read(0, &mut [0; 512]));
            }
            let _ = machine.unbind(SATA, "sata_rcar");
            flag.store(true, Ordering::SeqCst);
            let _ = done.send((bound, machine.promises().broken()));
        });
        let (bound, broken) =
            end.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|e| panic!("{left:?} left: {e}"));
        assert!(finished.load(Ordering::SeqCst) && broken.is_empty(), "{left:?} left: {broken:?}");
        assert!(bound || left < Duration::from_secs(1), "{left:?} left: not bound");
    }
}
