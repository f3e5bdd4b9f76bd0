//! The host's events on a path that is replayed.

use std::sync::Arc;

use crate::scene::Scene;

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
