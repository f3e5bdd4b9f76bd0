//! Each write fails, or does nothing and says that it worked.

use bindery_linux::engine::Ended;
use bindery_linux::state::Recovered;
use rustix::io::Errno;

use crate::kernel::Fault;
use crate::scenario::all;

const FAULTS: [Fault; 3] = [Fault::Refuse(Errno::NODEV), Fault::Refuse(Errno::IO), Fault::Nothing];

#[test]
fn a_failed_write_is_undone_as_a_whole() {
    let mut failed = 0;
    for scenario in all() {
        for fault in FAULTS {
            for write in 0.. {
                let run = scenario.start();
                let before = run.kernel.state();
                run.kernel.faults.borrow_mut().insert(write, fault);
                let ended = scenario.give(&run);
                let name = format!("{}, write {write}, {fault:?}", scenario.name);
                if run.kernel.writes.get() <= write {
                    break;
                }
                match ended {
                    // The second choice, drivers_probe, worked where bind did not.
                    Ended::Done => assert_eq!(run.store.given().unwrap().len(), 1, "{name}"),
                    Ended::RolledBack { untouched, .. } => {
                        failed += 1;
                        assert_eq!(run.kernel.state(), before, "{name}");
                        assert_eq!(untouched, write == 0, "{name}");
                        assert_eq!(run.store.unfinished().unwrap().len(), 0, "{name}");
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
    }
    assert!(failed > 30, "{failed}");
}

#[test]
fn a_rollback_that_fails_is_left_to_recover() {
    let mut recovered = 0;
    for scenario in all() {
        for first in 0.. {
            let run = scenario.start();
            run.kernel.faults.borrow_mut().insert(first, Fault::Refuse(Errno::IO));
            scenario.give(&run);
            let total = run.kernel.writes.get();
            if total <= first {
                break;
            }
            for second in first + 1..total {
                let run = scenario.start();
                let before = run.kernel.state();
                for write in [first, second] {
                    run.kernel.faults.borrow_mut().insert(write, Fault::Refuse(Errno::IO));
                }
                let ended = scenario.give(&run);
                let name = format!("{}, writes {first} and {second}", scenario.name);
                match ended {
                    Ended::Done => continue,
                    Ended::RolledBack { .. } => {}
                    Ended::RollbackFailed { .. } => {
                        recovered += 1;
                        assert_eq!(run.store.unfinished().unwrap().len(), 1, "{name}: nobody would know of it");
                        assert_eq!(run.recover(), [Recovered::Undone], "{name}");
                    }
                    other => panic!("{name}: {other:?}"),
                }
                assert_eq!(run.kernel.state(), before, "{name}");
            }
        }
    }
    assert!(recovered > 10, "{recovered}");
}

#[test]
fn success_without_an_effect_is_noticed_and_told() {
    let disk = all().remove(0);
    let run = disk.start();
    // Writes: override, unbind, bind (refused), drivers_probe (answers success and binds nothing).
    run.kernel.faults.borrow_mut().insert(2, Fault::Refuse(Errno::NODEV));
    run.kernel.faults.borrow_mut().insert(3, Fault::Nothing);
    let ended = disk.give(&run);
    assert!(matches!(&ended, Ended::RolledBack { why, .. } if why.contains("vfio-pci/bind")), "{ended:?}");
    assert_eq!(run.kernel.driver("0000:5e:00.0").as_deref(), Some("nvme"));
}

#[test]
fn a_disk_that_is_full_leaves_no_device_away() {
    let mut wholes = 0;
    for scenario in all() {
        for room in 0.. {
            let run = scenario.start();
            let before = run.kernel.state();
            run.kernel.fuse.room.set(Some(room));
            let ended = scenario.give(&run);
            let name = format!("{}, room for {room} lines", scenario.name);
            if ended == Ended::Done {
                break;
            }
            assert_eq!(matches!(ended, Ended::JournalFailed(_)), room == 0, "{name}: {ended:?}");
            assert!(room > 0 || run.kernel.writes.get() == 0, "{name}: nothing is touched before the journal is safe");
            // Without room for its line, a step is not done; what was done goes back all the same. Only when all steps
            // are done and noted, they stay.
            let whole = run.kernel.state() != before;
            run.kernel.fuse.room.set(None);
            let recovered = run.recover();
            assert!(!whole || recovered == [Recovered::Finished], "{name}: {ended:?}, {recovered:?}");
            assert_eq!(run.store.given().unwrap().len(), usize::from(whole), "{name}: {recovered:?}");
            assert_eq!(run.kernel.state() == before, !whole, "{name}");
            assert!(run.store.unfinished().unwrap().is_empty(), "{name}");
            wholes += usize::from(whole);
        }
    }
    assert_eq!(wholes, all().len(), "one line short of the end, once for each scenario");
}
