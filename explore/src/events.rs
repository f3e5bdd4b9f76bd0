//! The host's events on a path that is replayed.

use std::sync::{Arc, Mutex, PoisonError};

use bindery::event::Event;
use bindery_sim::board::Board;

use crate::engine::Chooser;
use crate::scene::Scene;

/// Line of a trace for `event`.
pub(crate) fn line(event: &Event) -> String {
    format!("[{}] {}: {}", event.at, event.device.as_deref().unwrap_or("-"), event.kind)
}

/// Events of a device before a path begins, kept in case a finding needs them.
pub(crate) struct EarlyEvents<'a> {
    chooser: &'a Chooser,
    events: Arc<Mutex<Vec<Event>>>,
}

impl<'a> EarlyEvents<'a> {
    /// Keeps events of `device` until it is dropped, if the trace is kept.
    pub(crate) fn of(board: &Board, device: &str, chooser: &'a Chooser) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        if chooser.logs() {
            let (device, events) = (device.to_owned(), Arc::downgrade(&events));
            board.on_event(Box::new(move |event| {
                if let Some(events) = events.upgrade()
                    && event.device.as_deref() == Some(&*device)
                {
                    events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
                }
            }));
        }
        Self { chooser, events }
    }

    /// Adds them to the trace.
    pub(crate) fn log(&self) {
        for event in self.events.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.chooser.log(|| line(event));
            self.chooser.record("host", event);
        }
    }
}

/// Records each event of the machine of `scene` from now on, if its trace is kept. The scene itself logs each as text, and
/// does so first.
pub(crate) fn record(scene: &Scene) {
    if !scene.chooser().logs() {
        return;
    }
    let (chooser, hooks) = (scene.chooser().clone(), Arc::downgrade(&scene.hooks));
    scene.board().on_event(Box::new(move |event| {
        // The tear-down of a fixture after its path is no part of the path.
        if hooks.upgrade().is_some_and(|hooks| !hooks.is_over()) {
            chooser.record("host", event);
        }
    }));
}
