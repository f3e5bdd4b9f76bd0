//! The ledger, while the way back empties it.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use loom::thread;

use crate::binding::{Entry, EntryId, Ledger, ResourceKind, Rundown, UnwindCtx};
use crate::event::Outcome;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// How often each entry has gone back.
type Counts = Arc<Vec<AtomicUsize>>;

fn counts(entries: usize) -> Counts {
    Arc::new((0..entries).map(|_| AtomicUsize::new(0)).collect())
}

/// Goes back when it is dropped: whoever gets it out of the ledger, or is refused, has it to himself.
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

/// The unwinder's part: everything, newest first.
fn empty(ledger: &Ledger) {
    let mut newer = EntryId::MAX;
    while let Some((id, entry)) = ledger.pop() {
        assert!(id < newer, "P3: newest first");
        newer = id;
        drop(entry);
    }
}

fn assert_each_went_back_once(counts: &Counts) {
    let seen: Vec<usize> = counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
    assert!(seen.iter().all(|n| *n == 1), "P4: how often each entry went back: {seen:?}");
}

/// P3, P4: what is pushed while the way back begins is either on the ledger, and popped, or comes back to its pusher.
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
        assert_each_went_back_once(&counts);
        assert_eq!(ledger.len(), 0);
    });
}

/// P3, P4: what is given back early and what the unwinder pops are never the same entry, and together they are all.
#[test]
fn loom_an_entry_given_back_early_goes_back_by_one_hand() {
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
            thread::spawn(move || while ledger.take_newest_of(group).is_some() {})
        };
        let single = {
            let ledger = Arc::clone(&ledger);
            // One that the group's owner and the unwinder want, too.
            thread::spawn(move || {
                let taken = ledger.take(ids[2]);
                assert!(
                    taken.is_none_or(|entry| entry.what() == "2"),
                    "P3: another entry than the one that was asked for"
                );
            })
        };
        ledger.close();
        empty(&ledger);
        whole_group.join().unwrap();
        single.join().unwrap();
        assert_each_went_back_once(&counts);
        assert_eq!(ledger.len(), 0);
    });
}

/// P3, P4: a seat that was taken by a user inside the driver's data is good until that user has left, and what is put
/// there goes back after the data, which is out first.
#[test]
fn loom_a_seat_taken_before_the_way_back_holds_and_what_sits_there_goes_back() {
    loom::model(|| {
        const DATA: usize = 0;
        let (ledger, counts) = (Arc::new(Ledger::default()), counts(2));
        let door = Arc::new(Rundown::open());
        let data = ledger.push(0, entry(&counts, DATA)).unwrap_or_default();
        ledger.set_first_out(data);
        let user = {
            let (ledger, counts, door) = (Arc::clone(&ledger), Arc::clone(&counts), Arc::clone(&door));
            thread::spawn(move || {
                let mine = entry(&counts, 1);
                let Some(_inside) = door.enter() else { return };
                let Some(reservation) = ledger.reservation() else { return };
                ledger.push_reserved(reservation, 0, mine);
                assert_eq!(counts[DATA].load(Ordering::Relaxed), 0, "P5: the data went while a user is inside");
            })
        };
        ledger.close();
        let Some((_, data)) = ledger.pop_first() else { panic!("the data is on the ledger") };
        door.close_and_drain();
        drop(data);
        empty(&ledger);
        assert_eq!(ledger.len(), 0, "P4");
        user.join().unwrap();
        assert_each_went_back_once(&counts);
        assert_eq!(ledger.len(), 0, "P4: an entry came after the end");
    });
}
