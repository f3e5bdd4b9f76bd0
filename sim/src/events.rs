//! Event sink of a board: a bounded ring and listeners.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bindery::event::Event;
use bindery::sync::SpinLock;

type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

#[derive(Default)]
struct Ring {
    kept: VecDeque<Event>,
    capacity: usize,
    dropped: u64,
}

/// The board's event sink. Both locks are leaf locks, and listeners are called with neither held.
#[derive(Default)]
pub(crate) struct Events {
    tracing_enabled: AtomicBool,
    ring: SpinLock<Ring>,
    listeners: SpinLock<Vec<Listener>>,
}

impl Events {
    pub(crate) fn tracing_enabled(&self) -> bool {
        self.tracing_enabled.load(Ordering::Relaxed)
    }

    pub(crate) fn keep(&self, capacity: usize) {
        self.ring.lock().capacity = capacity;
        let wanted = capacity > 0 || !self.listeners.lock().is_empty();
        self.tracing_enabled.store(wanted, Ordering::Relaxed);
    }

    pub(crate) fn listen(&self, listener: Listener) {
        self.listeners.lock().push(listener);
        self.tracing_enabled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        self.ring.lock().kept.drain(..).collect()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.ring.lock().dropped
    }

    pub(crate) fn emit(&self, event: &Event) {
        {
            let mut ring = self.ring.lock();
            if ring.capacity > 0 {
                while ring.kept.len() >= ring.capacity {
                    ring.kept.pop_front();
                    ring.dropped += 1;
                }
                ring.kept.push_back(event.clone());
            }
        }
        let count = self.listeners.lock().len();
        for i in 0..count {
            let listener = self.listeners.lock().get(i).cloned();
            if let Some(listener) = listener {
                listener(event);
            }
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("listens", &self.tracing_enabled).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindery::env::Instant;
    use bindery::event::EventKind;

    fn event(seq: u64) -> Event {
        Event { seq, at: Instant(0), device: None, kind: EventKind::DeviceAdded }
    }

    #[test]
    fn the_ring_keeps_the_newest_and_counts_what_it_dropped() {
        let events = Events::default();
        assert!(!events.tracing_enabled());
        events.keep(3);
        (1..=5).for_each(|n| events.emit(&event(n)));
        assert_eq!(events.take().iter().map(|e| e.seq).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!((events.dropped(), events.tracing_enabled()), (2, true));
        events.keep(0);
        assert!(!events.tracing_enabled());
    }

    #[test]
    fn a_listener_gets_every_event() {
        let events = Events::default();
        let seen = Arc::new(SpinLock::new(Vec::new()));
        let copy = Arc::clone(&seen);
        events.listen(Arc::new(move |e| copy.lock().push(e.seq)));
        (1..=3).for_each(|n| events.emit(&event(n)));
        assert_eq!(*seen.lock(), [1, 2, 3]);
        assert!(events.tracing_enabled());
    }
}
