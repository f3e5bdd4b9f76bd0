//! Ledger operations while unwinding empties it.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use loom::thread;

use crate::binding::{Entry, EntryId, Ledger, ResourceKind, Rundown, UnwindCtx};
use crate::event::Outcome;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Number of releases of each entry.
type Counts = Arc<Vec<AtomicUsize>>;

fn counts(entries: usize) -> Counts {
    Arc::new((0..entries).map(|_| AtomicUsize::new(0)).collect())
}

/// Entry that counts its release when dropped: it is owned by the thread that took it out or whose push was refused.
struct Counted(Counts, usize);

impl Entry for Counted {
    fn kind(&self) -> ResourceKind {
        ResourceKind::Action
    }

    fn what(&self) -> String {
        self.1.to_string()
    }

    fn backend(&self) -> String {
        String::new()
    }

    fn release(self: Box<Self>, _: &mut UnwindCtx<'_>) -> Outcome {
        Outcome::Returned
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0[self.1].fetch_add(1, Ordering::Relaxed);
    }
}

fn entry(counts: &Counts, number: usize) -> Box<dyn Entry> {
    Box::new(Counted(Arc::clone(counts), number))
}

/// Unwinds the ledger, newest entry first.
fn empty(ledger: &Ledger) {
    let mut newer: Option<EntryId> = None;
    while let Some((id, entry)) = ledger.pop() {
        assert!(newer.is_none_or(|newer| id < newer), "P3: newest first");
        newer = Some(id);
        drop(entry);
    }
}

fn assert_each_released_once(counts: &Counts) {
    let seen: Vec<usize> = counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
    assert!(seen.iter().all(|n| *n == 1), "P4: releases of each entry: {seen:?}");
}

/// P3, P4: an entry pushed while unwinding begins is either on the ledger, and popped, or returned to its pusher.
#[test]
fn loom_an_entry_is_on_the_ledger_or_refused_and_never_lost() {
    loom::model(|| {
        let (ledger, counts) = (Arc::new(Ledger::default()), counts(2));
        let pushers = [0, 1].map(|n| {
            let (ledger, counts) = (Arc::clone(&ledger), Arc::clone(&counts));
            thread::spawn(move || drop(ledger.push(0, entry(&counts, n))))
        });
        ledger.close();
        empty(&ledger);
        for pusher in pushers {
            pusher.join().unwrap();
        }
        assert_each_released_once(&counts);
        assert_eq!(ledger.len(), 0);
    });
}

/// P3, P4: entries released early and entries popped by the unwinder are disjoint, and together they are all entries.
#[test]
fn loom_an_entry_released_early_is_released_once() {
    loom::model(|| {
        let (ledger, counts) = (Arc::new(Ledger::default()), counts(4));
        let group = ledger.open_group(0);
        let inner = ledger.open_group(group);
        let mut ids = Vec::new();
        for (n, tag) in [0, group, inner, 0].into_iter().enumerate() {
            ids.extend(ledger.push(tag, entry(&counts, n)).ok());
        }
        let whole_group = {
            let ledger = Arc::clone(&ledger);
            thread::spawn(move || while ledger.take_newest_of(group, |_| true).is_some() {})
        };
        let single = {
            let ledger = Arc::clone(&ledger);
            // An entry that the group's owner and the unwinder also try to take.
            thread::spawn(move || {
                let taken = ledger.take(ids[2]);
                assert!(taken.is_none_or(|entry| entry.what() == "2"), "P3: another entry than the requested one");
            })
        };
        ledger.close();
        empty(&ledger);
        whole_group.join().unwrap();
        single.join().unwrap();
        assert_each_released_once(&counts);
        assert_eq!(ledger.len(), 0);
    });
}

/// P3, P4: a reservation made by an active user of the driver data is valid until that user has left, and its entry is
/// released after the data, which is released first.
#[test]
fn loom_a_reservation_made_before_unwinding_is_honoured_and_its_entry_released() {
    loom::model(|| {
        const DATA: usize = 0;
        let (ledger, counts) = (Arc::new(Ledger::default()), counts(2));
        let users = Arc::new(Rundown::open());
        let data = ledger.push(0, entry(&counts, DATA)).unwrap_or_default();
        ledger.set_release_first(data);
        let user = {
            let (ledger, counts, users) = (Arc::clone(&ledger), Arc::clone(&counts), Arc::clone(&users));
            thread::spawn(move || {
                let mine = entry(&counts, 1);
                let Some(_user) = users.enter() else { return };
                let Some(reservation) = ledger.reservation() else { return };
                ledger.push_reserved(reservation, 0, mine);
                assert_eq!(counts[DATA].load(Ordering::Relaxed), 0, "P5: the data was dropped while a user is active");
            })
        };
        ledger.close();
        let Some((_, data)) = ledger.pop_first() else { panic!("the data is on the ledger") };
        users.close_and_drain();
        drop(data);
        empty(&ledger);
        assert_eq!(ledger.len(), 0, "P4");
        user.join().unwrap();
        assert_each_released_once(&counts);
        assert_eq!(ledger.len(), 0, "P4: an entry was added after unwinding");
    });
}
