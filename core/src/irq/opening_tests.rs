//! Requests while their user gets its driver data, or loses it.

use alloc::sync::Arc;
use core::any::Any;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::route::{Handler, Target};
use super::{LineKey, Route};
use crate::binding::{AnyBinding, BindingState};
use crate::claim::{Claims, Holder, Mode, Subject};
use crate::device::{Device, DeviceDesc, NodeId};
use crate::driver::{ProbeError, QuiesceError, Quiesced};
use crate::env::fake::FakeEnv;
use crate::env::{IrqLine, Trigger};
use crate::lifecycle::IrqReturn;
use crate::machine::{Handle, Policy};

const KEY: LineKey = (None, 5);

/// Binding without driver data at the first call of its handler, during which another CPU opens it.
struct Opening {
    machine: Arc<Handle>,
    route: OnceLock<Arc<Route>>,
    calls: AtomicUsize,
    /// It is closed again at once.
    closes: bool,
}

impl AnyBinding for Opening {
    fn interrupt(&self, _: usize) -> Option<IrqReturn> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            self.route.get().unwrap().opened(&self.machine);
            return None;
        }
        (!self.closes).then_some(IrqReturn::Handled)
    }

    fn bound(&self) -> &BindingState {
        unreachable!("it is only interrupted")
    }

    fn driver(&self) -> &'static str {
        "opening"
    }

    fn probe(&self) -> Result<(), ProbeError> {
        Ok(())
    }

    fn open(&self) {}

    fn close(&self) {}

    fn request_release(&self) {}

    fn quiesce(&self) -> Option<Result<Quiesced, QuiesceError>> {
        None
    }

    fn drain(&self) {}

    fn drop_data(&self) {}

    fn has_data(&self) -> bool {
        true
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Delivers one request to such a binding. Returns the calls of its handler, and whether the line is masked.
fn deliver(trigger: Trigger, closes: bool) -> (usize, bool) {
    let env = FakeEnv::new();
    let machine = Arc::new(env.machine(Policy::default()));
    let device = Device::new(NodeId(1), DeviceDesc::new("d0"), None);
    let holder = Holder::new(&device.desc().name, "opening");
    let claim =
        Claims::default().take(&Subject::Interrupt { controller: None, line: KEY.1 }, &holder, Mode::Shared(""));
    let route = Route::new(machine.irqs().own.find_or_add(KEY.1), 0, device, claim.unwrap());
    let binding =
        Arc::new(Opening { machine: Arc::clone(&machine), route: OnceLock::new(), calls: AtomicUsize::new(0), closes });
    assert!(binding.route.set(Arc::clone(&route)).is_ok());
    let target = Target { route: Arc::clone(&route), handler: Handler::Data(Arc::clone(&binding) as _) };
    machine.irqs().add(&machine, target, trigger).unwrap();
    env.raise(IrqLine(KEY.1));
    let masked = !env.enabled.lock().unwrap().contains(&IrqLine(KEY.1));
    machine.irqs().remove(&machine, &route);
    (binding.calls.load(Ordering::Relaxed), masked)
}

#[test]
fn a_request_while_its_user_is_opened_reaches_the_driver_data() {
    for trigger in [Trigger::LevelHigh, Trigger::EdgeRising] {
        assert_eq!(deliver(trigger, false), (2, false), "{trigger:?}: called once more, and nothing holds the line");
        assert_eq!(deliver(trigger, true), (2, true), "{trigger:?}: called once more only, and the line is held");
    }
}
