//! The tool as a process: give, take and recover with a state directory of their own, each of which may be killed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use bindery_linux::check::Target;
use bindery_linux::engine::{Begun, Ended, NotBegun, Order};
use bindery_linux::plan::{Plan, Request, build};
use bindery_linux::state::{Given, Journal, Recovered, Store, recover};
use bindery_linux::usage::Scene;
use bindery_linux::{Inventory, System};

use crate::face::{Board, Crash};

/// A write is not tried again: time does not pass on a board between two tries.
const TIMEOUT: Duration = Duration::ZERO;

/// A request to the tool.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    /// The devices, by their names on the platform bus.
    pub(crate) devices: &'static [&'static str],
    /// The driver that they get: `vfio`, or another.
    pub(crate) to: &'static str,
    pub(crate) hold_siblings: bool,
}

/// The tool's state directory.
pub(crate) struct Tool {
    pub(crate) store: Store,
    _state: tempfile::TempDir,
}

/// Runs one process of the tool. `None` when it was killed: all that it held in memory, and its locks, are gone.
fn process<T>(run: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => Some(done),
        Err(payload) if payload.is::<Crash>() => None,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

impl Tool {
    pub(crate) fn new() -> Self {
        // Every line of a journal is synced: in memory that costs nothing.
        let memory = Path::new("/dev/shm");
        let state = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        Self { store: Store::at(state.path().join("state"), state.path().join("locks")), _state: state }
    }

    /// The plan, made anew.
    fn plan(board: &Board<'_>, wish: &Wish, to: &Target) -> Plan {
        let (inventory, system) = (Inventory::scan(board), System::read(board));
        let request = Request {
            devices: wish.devices.iter().map(|name| inventory.named("platform", name).unwrap()).collect(),
            to: to.clone(),
            hold_siblings: wish.hold_siblings,
            force_in_use: wish.devices.iter().map(|name| format!("platform/{name}")).collect(),
            noiommu: false,
            owner: None,
        };
        build(Scene { face: board, inventory: &inventory, system: &system }, &request)
    }

    /// `give`. `None` when the tool was killed.
    pub(crate) fn give(&self, board: &Board<'_>, wish: &Wish) -> Option<Ended> {
        process(|| {
            let to = if wish.to == "vfio" { Target::Vfio } else { Target::Driver(wish.to.into()) };
            let plan = Self::plan(board, wish, &to);
            assert!(!plan.is_refused(), "{:?}", plan.findings);
            let order = Order {
                purpose: "give".into(),
                devices: plan.subjects.iter().map(|s| s.device.clone()).collect(),
                steps: plan.steps.clone(),
                remembered: plan.remembered.clone(),
                takes: None,
            };
            self.run(board, &order, || Self::plan(board, wish, &to).steps)
        })
    }

    /// `take` of what the first record says. `None` when the tool was killed.
    pub(crate) fn take(&self, board: &Board<'_>) -> Option<Ended> {
        process(|| {
            let given = self.given().remove(0);
            let steps = given.steps_for(&given.devices);
            let order = Order {
                purpose: "take".into(),
                devices: given.devices.clone(),
                steps: steps.clone(),
                remembered: Vec::new(),
                takes: Some(given.id),
            };
            self.run(board, &order, || steps)
        })
    }

    fn run(&self, board: &Board<'_>, order: &Order, again: impl FnOnce() -> Vec<bindery_linux::plan::Step>) -> Ended {
        // The tool may be killed before each line of the journal; and at each write, see `face`.
        let mut progress = |_: usize, _: &_, _: &_, _: bool| board.scheduling_point();
        let again = || Ok::<_, NotBegun>(again());
        let begun = Begun::new(board, &self.store, order, again);
        let mut begun = begun.unwrap_or_else(|refused| panic!("{} was not begun: {refused}", order.purpose));
        let ended = begun.run(TIMEOUT, &mut progress);
        // All is done, or undone, and the journal is not closed yet.
        board.scheduling_point();
        begun.close(&ended).unwrap();
        ended
    }

    /// `recover` of one journal. `None` when the tool was killed.
    pub(crate) fn recover(&self, board: &Board<'_>) -> Option<Recovered> {
        process(|| {
            let path = self.store.unfinished().unwrap().remove(0);
            let mut progress = |_: usize, _: &_, _: &_, _: bool| board.scheduling_point();
            recover(board, &self.store, &path, TIMEOUT, &mut progress).unwrap().1
        })
    }

    /// Devices that a journal or a record names: they can be brought back.
    pub(crate) fn known(&self) -> Vec<String> {
        let unfinished = self.store.unfinished().unwrap();
        let journals = unfinished.iter().map(|path| Journal::read(path).unwrap().header.steps);
        let records = self.given().into_iter().map(|given| given.steps);
        journals.chain(records).flatten().map(|step| step.device.name).collect()
    }

    pub(crate) fn given(&self) -> Vec<Given> {
        self.store.given().unwrap()
    }

    /// True when a journal is left.
    pub(crate) fn is_unfinished(&self) -> bool {
        !self.store.unfinished().unwrap().is_empty()
    }
}
