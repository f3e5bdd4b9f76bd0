//! Hand-overs that are run in every way.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use bindery_linux::check::Target;
use bindery_linux::engine::{Ended, Engine};
use bindery_linux::plan::{Memory, Plan, Request, Step, build};
use bindery_linux::state::{FORMAT, Header, Journal, Log, LogError, Record, Recovered, Store, recover};
use bindery_linux::usage::Scene;
use bindery_linux::{Inventory, System};

use crate::kernel::{Crash, Fuse, Kernel, Tree};

const TIMEOUT: Duration = Duration::from_millis(10);

/// A host and what is given there.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    tree: Tree,
    devices: Vec<&'static str>,
    hold_siblings: bool,
}

/// One run of the command, and what it left.
pub(crate) struct Run {
    pub(crate) kernel: Rc<Kernel>,
    pub(crate) store: Store,
    pub(crate) state: tempfile::TempDir,
}

fn fake(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/fake").join(name)
}

fn host(script: &str) -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new("sh").arg("-ec").arg(script).arg(dir.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    crate::kernel::read(dir.path())
}

/// The scenarios' hosts, made once.
static HOSTS: LazyLock<[Tree; 5]> = LazyLock::new(|| {
    let lib = fake("lib.sh");
    let reported = |name: &str, lines: &str| {
        host(&format!("sh {} \"$0\"; . {}; R=$0; {lines}", fake(name).display(), lib.display()))
    };
    let functions = "12-pf-with-live-vfs.sh";
    [
        reported(
            "17-data-on-it-but-nobody-uses-it.sh",
            "f sys/devices/pci0000:5d/0000:5d:02.0/0000:5e:00.0/power/control auto",
        ),
        reported(functions, ""),
        reported(functions, "rm -r $R/proc/5120; route_head"),
        reported(
            functions,
            "rm -r $R/proc/5120; route_head; p=sys/devices/pci0000:16/0000:16:02.0/0000:17:00.0
             f $p/sriov_drivers_autoprobe 1",
        ),
        host(&format!(
            ". {}; root \"$0\"; iommu dmar0; drv pci nvme nvme; drv pci ahci ahci; drv pci pcieport; vfio_stack
             H=sys/devices/pci0000:00
             pci $H 0000:00:1c.0 060400 8086 a110 1; bind $P pci pcieport; RP=$P
             pci $RP 0000:02:00.0 010802 8086 0a54; A=$P; bind $P pci nvme
             pci $RP 0000:02:00.1 010601 8086 0a55; B=$P; bind $P pci ahci
             pci $RP 0000:02:00.2 010601 8086 0a55; C=$P; f $C/driver_override other
             group 9 DMA-FQ $RP $A $B $C",
            lib.display()
        )),
    ]
});

/// All scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    let named: [(&str, &[&'static str]); 5] = [
        ("a disk", &["0000:5e:00.0"]),
        ("a function without a driver", &["0000:17:00.5"]),
        ("a physical function", &["0000:17:00.0"]),
        ("a physical function with autoprobe", &["0000:17:00.0"]),
        ("a group of three", &["0000:02:00.0", "0000:02:00.2"]),
    ];
    let made = named.into_iter().zip(HOSTS.iter()).map(|((name, devices), tree)| Scenario {
        name,
        tree: tree.clone(),
        devices: devices.to_vec(),
        hold_siblings: devices.len() > 1,
    });
    made.collect()
}

/// A journal that ends the command before, within and after each line.
struct Cut {
    journal: Journal,
    path: PathBuf,
    fuse: Rc<Fuse>,
}

impl Log for Cut {
    fn append(&mut self, record: &Record) -> Result<(), LogError> {
        self.fuse.moment();
        if let Some(room) = self.fuse.room.get() {
            let Some(left) = room.checked_sub(1) else {
                let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
                return Err(LogError::Write { path: self.path.clone(), error });
            };
            self.fuse.room.set(Some(left));
        }
        if self.fuse.blows() {
            let whole = std::fs::read(&self.path).unwrap();
            self.journal.append(record)?;
            let longer = std::fs::read(&self.path).unwrap();
            let torn = whole.len() + (longer.len() - whole.len()) / 2;
            std::fs::write(&self.path, &longer[..torn]).unwrap();
            std::panic::panic_any(Crash);
        }
        self.journal.append(record)?;
        self.fuse.moment();
        Ok(())
    }
}

/// Runs `what`, which may be ended by the fuse. `None` when it was.
pub(crate) fn until_crash<T>(what: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(done) => Some(done),
        Err(payload) if payload.is::<Crash>() => None,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

impl Scenario {
    pub(crate) fn start(&self) -> Run {
        let kernel = Rc::new(Kernel::new(self.tree.clone()));
        kernel.matches("0000:17:00.5", "mlx5_core");
        // Every line of a journal is synced: in memory that costs nothing.
        let memory = Path::new("/dev/shm");
        let state = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let store = Store::at(state.path().join("state"), state.path().join("state/locks"));
        store.prepare().unwrap();
        Run { kernel, store, state }
    }

    pub(crate) fn plan(&self, kernel: &Kernel) -> Plan {
        let (inventory, system) = (Inventory::scan(kernel), System::read(kernel));
        let request = Request {
            devices: self.devices.iter().map(|name| inventory.named("pci", name).unwrap()).collect(),
            to: Target::Vfio,
            hold_siblings: self.hold_siblings,
            force_in_use: self.devices.iter().map(|&name| name.into()).collect(),
            noiommu: false,
            owner: None,
        };
        let plan = build(Scene { face: kernel, inventory: &inventory, system: &system }, &request);
        assert!(!plan.is_refused(), "{}: {:?}", self.name, plan.findings);
        plan
    }

    /// Gives the devices.
    pub(crate) fn give(&self, run: &Run) -> Ended {
        let plan = self.plan(&run.kernel);
        self.go(run, "give", plan.steps, plan.remembered, None)
    }

    /// Takes the devices back.
    pub(crate) fn take(&self, run: &Run) -> Ended {
        let given = run.store.given().unwrap();
        let devices: Vec<String> = self.devices.iter().map(|&name| name.into()).collect();
        let steps = given[0].steps_for(&devices);
        self.go(run, "take", steps, Vec::new(), Some(given[0].id.clone()))
    }

    fn go(&self, run: &Run, purpose: &str, steps: Vec<Step>, remembered: Vec<Memory>, takes: Option<String>) -> Ended {
        let header = Header {
            format: FORMAT,
            id: purpose.into(),
            boot: String::new(),
            purpose: purpose.into(),
            pid: 1,
            devices: self.devices.iter().map(|&name| name.into()).collect(),
            steps,
            remembered,
            takes,
        };
        let fuse = run.kernel.fuse.clone();
        fuse.moment();
        let journal = run.store.begin(&header).unwrap();
        let path = run.state.path().join("state/journal").join(format!("{purpose}.jsonl"));
        let mut log = Cut { journal, path, fuse: fuse.clone() };
        let mut progress = |_: usize, _: &_, _: &_, _: bool| {};
        let mut engine =
            Engine { face: &*run.kernel, log: &mut log, timeout: TIMEOUT, locks: &[], progress: &mut progress };
        let ended = engine.run(&header.steps);
        fuse.moment();
        match ended {
            Ended::Done => run.store.close(&header, true).unwrap(),
            Ended::RolledBack { .. } | Ended::JournalFailed(_) => run.store.close(&header, false).unwrap(),
            _ => {}
        }
        ended
    }
}

impl Run {
    /// Recovers everything that is unfinished.
    pub(crate) fn recover(&self) -> Vec<Recovered> {
        let paths = self.store.unfinished().unwrap();
        let recovered = paths
            .iter()
            .map(|path| recover(&*self.kernel, &self.store, path, TIMEOUT, &mut |_, _, _, _| {}).unwrap().1);
        recovered.collect()
    }
}
