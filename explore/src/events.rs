//! The host's events on a path that is replayed.

use std::sync::{Arc, Mutex, PoisonError};

use bindery::event::Event;
use bindery_sim::board::Board;

use crate::engine::Chooser;
use crate::scene::Scene;

/// The line of a story for `event`.
pub(crate) fn line(event: &Event) -> String {
    format!("[{}] {}: {}", event.at, event.device.as_deref().unwrap_or("-"), event.kind)
}

/// Events of a device before a path begins, kept in case that they have to be told.
pub(crate) struct Kept<'a> {
    chooser: &'a Chooser,
    events: Arc<Mutex<Vec<Event>>>,
}

impl<'a> Kept<'a> {
    /// Keeps events of `device` until it is dropped, if the story is kept.
    pub(crate) fn of(board: &Board, device: &str, chooser: &'a Chooser) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        if chooser.tells() {
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

    /// Tells of them.
    pub(crate) fn tell(&self) {
        for event in self.events.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.chooser.tell(|| line(event));
            self.chooser.keep("host", event);
        }
    }
}

/// From now on keeps each event of the machine of `scene`, if its story is kept. The scene itself tells of each in words,
/// and does so first.
pub(crate) fn keep(scene: &Scene) {
    if !scene.chooser().tells() {
        return;
    }
    let (chooser, watch) = (scene.chooser().clone(), Arc::downgrade(&scene.watch));
    scene.board().on_event(Box::new(move |event| {
        // A world that is taken apart after its path is no part of it.
        if watch.upgrade().is_some_and(|watch| !watch.is_over()) {
            chooser.keep("host", event);
        }
    }));
}
