//! The command itself on the kernel in memory: every exit code that it documents.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bindery_linux::command::{Exit, run_on};
use bindery_linux::face::{Face, READ_DEADLINE};
use rustix::io::Errno;

use crate::face::Shared;
use crate::kernel::{Fault, Kernel};
use crate::scenario::{Run, Scenario, all};

const DISK: &str = "0000:5e:00.0";

/// A host on which commands are run one after another.
struct Host {
    run: Run,
    /// True when the user may write.
    root: bool,
}

impl Host {
    fn of(name: &str) -> Self {
        let scenario: Scenario = all().into_iter().find(|s| s.name == name).unwrap();
        Self { run: scenario.start(), root: true }
    }

    fn disk() -> Self {
        Self::of("a disk")
    }

    fn kernel(&self) -> &Kernel {
        &self.run.kernel
    }

    fn bindctl(&self, line: &str) -> (Exit, String) {
        let (kernel, root) = (Rc::clone(&self.run.kernel), self.root);
        let state = self.run.state.path().join("state").display().to_string();
        let words = line.split_whitespace().chain(["--state", &state]);
        run_on(words, move || Box::new(Shared { kernel: Rc::clone(&kernel), root }))
    }

    /// Runs a command that ends with `exit` and says all of `words`.
    #[track_caller]
    fn ends(&self, line: &str, exit: Exit, words: &[&str]) -> String {
        let (ended, text) = self.bindctl(line);
        assert_eq!(ended, exit, "{line}:\n{text}");
        for word in words {
            assert!(text.contains(word), "{line}: {word} is missing in\n{text}");
        }
        text
    }

    /// Fails writes by their number, counted from the next one.
    fn fault(&self, faults: &[(usize, Fault)]) {
        let next = self.kernel().writes.get();
        *self.kernel().faults.borrow_mut() =
            faults.iter().map(|(n, fault)| (next + n, *fault)).collect::<BTreeMap<_, _>>();
    }

    fn put(&self, path: &str, text: &str) {
        self.kernel().file(path, text);
    }
}

#[test]
fn code_0_there_and_back_and_nothing_to_do() {
    let host = Host::disk();
    let before = host.kernel().state();
    host.ends(&format!("give {DISK}"), Exit::Done, &["done: give", "driver_override vfio-pci"]);
    assert_eq!(host.kernel().driver(DISK).as_deref(), Some("vfio-pci"));
    let writes = host.kernel().writes.get();
    host.ends(&format!("give {DISK}"), Exit::Done, &["already on vfio-pci"]);
    assert_eq!(host.kernel().writes.get(), writes, "giving twice does nothing twice");
    host.ends("status", Exit::Done, &["as wanted"]);
    host.ends(&format!("take {DISK}"), Exit::Done, &["done: take", "will scan what is on"]);
    assert_eq!(host.kernel().state(), before);
    host.ends("status", Exit::Done, &["nothing is given"]);
    host.ends("recover", Exit::Done, &["nothing to recover"]);
}

#[test]
fn code_1_drift() {
    let host = Host::disk();
    host.ends(&format!("give {DISK}"), Exit::Done, &[]);
    host.kernel().unbind(DISK, "vfio-pci").unwrap();
    host.ends("status", Exit::Drift, &["wanted vfio-pci, is without a driver"]);
}

#[test]
fn code_2_usage_and_a_state_directory_that_cannot_be_used() {
    let host = Host::disk();
    host.ends("give 0000:99:00.0", Exit::Usage, &["0000:99:00.0"]);
    host.ends("give", Exit::Usage, &[]);
    let state = host.run.state.path().join("state");
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(&state, "a file").unwrap();
    host.ends(&format!("give {DISK}"), Exit::Usage, &["state"]);
    assert_eq!(host.kernel().writes.get(), 0, "nothing is touched before the journal is safe");
}

#[test]
fn code_3_a_lock_that_another_command_has_and_a_plan_that_was_cut_short() {
    let host = Host::disk();
    let lock = host.run.store.lock(DISK, "give, by another").unwrap();
    host.ends(&format!("give {DISK}"), Exit::Policy, &["is locked by", "give, by another"]);
    drop(lock);
    // The holder is dead: its lock is free.
    host.fault(&[(1, Fault::Hang)]);
    host.ends(&format!("give {DISK}"), Exit::TimedOut, &[]);
    host.ends(&format!("give {DISK}"), Exit::Policy, &["unfinished give", "recover"]);
}

#[test]
fn code_4_in_use() {
    let host = Host::disk();
    host.put("/proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n1 partition 1 0 -2");
    host.ends(&format!("give {DISK}"), Exit::InUse, &["swap", "swapoff /dev/nvme0n1"]);
    assert_eq!(host.kernel().writes.get(), 0);
    host.ends(&format!("give {DISK} --force-in-use {DISK}"), Exit::Done, &["swap"]);
}

#[test]
fn code_5_not_viable() {
    let host = Host::of("a group of three");
    host.ends("give 0000:02:00.0", Exit::NotViable, &["0000:02:00.1", "--hold-siblings"]);
    assert_eq!(host.kernel().writes.get(), 0);
}

#[test]
fn code_6_the_kernel_refused_and_nothing_was_changed() {
    let host = Host::disk();
    host.fault(&[(0, Fault::Refuse(Errno::PERM))]);
    host.ends(&format!("give {DISK}"), Exit::Kernel, &["nothing was changed", "driver_override"]);
}

#[test]
fn code_7_the_kernel_did_not_answer_and_recover_says_so_until_it_has() {
    let host = Host::disk();
    let before = host.kernel().state();
    host.fault(&[(1, Fault::Hang)]);
    host.ends(&format!("give {DISK} --timeout 1"), Exit::TimedOut, &["not answered", "process 4711", "recover"]);
    host.ends("status", Exit::Drift, &["unfinished: give"]);
    let helper = host.run.store.lock(DISK, "unbind").unwrap();
    let writes = host.kernel().writes.get();
    host.ends("recover", Exit::TimedOut, &["still under way"]);
    host.ends(&format!("take {DISK}"), Exit::Policy, &["unfinished give", "recover"]);
    assert_eq!(host.kernel().writes.get(), writes, "nothing more is written");
    drop(helper);
    host.fault(&[]);
    host.ends("recover", Exit::Done, &["undone"]);
    assert_eq!(host.kernel().state(), before);
}

#[test]
fn code_8_rolled_back() {
    let host = Host::disk();
    let before = host.kernel().state();
    host.fault(&[(2, Fault::Refuse(Errno::NODEV)), (3, Fault::Nothing)]);
    host.ends(&format!("give {DISK}"), Exit::RolledBack, &["rolled back", "vfio-pci/bind"]);
    assert_eq!(host.kernel().state(), before);
    host.ends("status", Exit::Done, &["nothing is given"]);
}

#[test]
fn code_9_the_rollback_failed_and_recover_ends_it() {
    let host = Host::disk();
    let before = host.kernel().state();
    let io = Fault::Refuse(Errno::IO);
    host.fault(&[(2, io), (3, io), (4, io)]);
    host.ends(&format!("give {DISK}"), Exit::RollbackFailed, &["not undone", "recover"]);
    host.fault(&[(0, io)]);
    host.ends("recover", Exit::RollbackFailed, &["not undone"]);
    host.fault(&[]);
    host.ends("recover", Exit::Done, &["undone"]);
    assert_eq!(host.kernel().state(), before);
}

#[test]
fn code_10_only_root() {
    let host = Host { root: false, ..Host::disk() };
    host.ends(&format!("give {DISK}"), Exit::NeedsRoot, &["root"]);
    host.ends(&format!("give {DISK} --dry-run"), Exit::Done, &["driver_override"]);
    assert_eq!(host.kernel().writes.get(), 0);
}

#[test]
fn a_take_restores_functions_driver_override_and_count() {
    let host = Host::of("a physical function with autoprobe");
    let before = host.kernel().state();
    let device = "0000:17:00.0";
    host.ends(&format!("give {device} --force-in-use {device}"), Exit::Done, &["sriov_numvfs"]);
    assert_ne!(host.kernel().state(), before);
    host.ends(&format!("take {device}"), Exit::Done, &[]);
    assert_eq!(host.kernel().state(), before);
}

/// On a busy machine an answer may take longer than a command that only looks would wait.
#[test]
fn steps_wait_for_locked_attributes_as_long_as_for_writes_and_nothing_waits_without_end() {
    let host = Host::of("a physical function with autoprobe");
    let deadlines = |line: &str| {
        host.kernel().deadlines.borrow_mut().clear();
        host.ends(line, Exit::Done, &[]);
        let deadlines = host.kernel().deadlines.borrow();
        deadlines.iter().map(Duration::as_secs).collect::<Vec<_>>()
    };
    let look = READ_DEADLINE.as_secs();
    assert_eq!(deadlines("show 0000:17:00.0"), [look]);
    assert_eq!(deadlines("give 0000:17:00.0 --timeout 40 --force-in-use 0000:17:00.0"), [look, 40]);
    assert_eq!(deadlines("take 0000:17:00.0 --timeout 50"), [look, 50]);
}

#[test]
fn a_hand_over_writes_to_the_kernel_no_more_than_a_script_does() {
    let host = Host::disk();
    let writes = |line: &str| {
        let before = host.kernel().writes.get();
        host.ends(line, Exit::Done, &[]);
        host.kernel().writes.get() - before
    };
    assert_eq!(writes(&format!("give {DISK}")), 3, "driver_override, unbind, bind");
    assert_eq!(writes(&format!("take {DISK}")), 4, "the same, and power/control, which vfio-pci has changed");
}

#[test]
fn a_take_loads_the_module_of_a_driver_that_was_unloaded_meanwhile() {
    let host = Host::disk();
    let before = host.kernel().state();
    host.ends(&format!("give {DISK}"), Exit::Done, &[]);
    host.kernel().unload("nvme");
    host.ends(&format!("take {DISK} --dry-run"), Exit::Done, &["bind to nvme"]);
    host.put("/proc/sys/kernel/osrelease", "6.1");
    host.put(
        "/lib/modules/6.1/modules.dep",
        "kernel/drivers/nvme/host/nvme.ko.xz: kernel/drivers/nvme/host/nvme-core.ko.xz",
    );
    host.ends(&format!("take {DISK}"), Exit::Done, &["load the module nvme", "bind to nvme", "done: take"]);
    assert_eq!(host.kernel().state(), before);
    host.ends("status", Exit::Done, &["nothing is given"]);
}

#[test]
fn a_reboot_makes_records_void() {
    let host = Host::disk();
    host.ends(&format!("give {DISK}"), Exit::Done, &[]);
    host.put("/proc/sys/kernel/random/boot_id", "another");
    host.ends("status", Exit::Drift, &["rebooted"]);
    host.ends("recover", Exit::Done, &["void"]);
    assert!(host.run.store.given().unwrap().is_empty());
}

#[test]
fn json_says_what_the_text_says() {
    let host = Host::disk();
    let (exit, text) = host.bindctl(&format!("give {DISK} --json"));
    let told: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!((exit, told["outcome"].as_str(), told["exit"].as_u64()), (Exit::Done, Some("done"), Some(0)));
    let (_, text) = host.bindctl("status --json");
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["given"][0]["state"], "as wanted");
}

#[test]
fn a_take_brings_power_control_back() {
    let host = Host::disk();
    let control = format!("{}/power/control", host.kernel().device(DISK).unwrap());
    host.put(&control, "auto");
    // Somebody switches it off for as long as a guest has the device.
    let cold = format!("{}/d3cold_allowed", host.kernel().device(DISK).unwrap());
    host.put(&cold, "1");
    let before = host.kernel().state();
    host.ends(&format!("give {DISK}"), Exit::Done, &[]);
    host.put(&cold, "0");
    host.ends(&format!("take {DISK}"), Exit::Done, &["power/control auto", "d3cold_allowed 1"]);
    assert_eq!(host.kernel().text(&cold).unwrap().trim(), "1");
    assert_eq!(host.kernel().state(), before);
}

#[test]
fn nodes_that_are_given_to_a_user_later_do_not_hide_the_way_back() {
    let host = Host::disk();
    let before = host.kernel().state();
    host.ends(&format!("give {DISK}"), Exit::Done, &[]);
    host.ends(&format!("give {DISK} --owner 1000"), Exit::Done, &["user 1000"]);
    host.ends(&format!("take {DISK}"), Exit::Done, &["done: take"]);
    assert_eq!(host.kernel().state(), before);
}

#[test]
fn a_group_node_that_answers_busy_has_a_holder_that_proc_does_not_show() {
    let host = Host::disk();
    host.ends(&format!("give {DISK}"), Exit::Done, &[]);
    let node = host.kernel().names("/dev/vfio").into_iter().find(|name| name != "vfio").unwrap();
    host.kernel().busy.borrow_mut().push(format!("/dev/vfio/{node}"));
    host.ends(&format!("take {DISK}"), Exit::InUse, &["EBUSY", &format!("/dev/vfio/{node}")]);
    assert_eq!(host.kernel().driver(DISK).as_deref(), Some("vfio-pci"));
}

#[test]
fn a_desired_state_moves_a_group_as_a_whole_and_back() {
    let host = Host::of("a group of three");
    let before = host.kernel().state();
    let file = host.run.state.path().join("desired.toml");
    let wish = |driver: &str| {
        let listed = |function: &str, ids: &str| {
            format!("[[device]]\nselect = \"0000:02:00.{function}\"\nexpect = \"8086:{ids}\"\ndriver = \"{driver}\"\n")
        };
        std::fs::write(&file, format!("version = 1\n{}{}", listed("0", "0a54"), listed("1", "0a55"))).unwrap();
    };
    let apply = format!("apply {}", file.display());
    wish("vfio");
    host.ends(&apply, Exit::Done, &["done: give 0000:02:00.0 0000:02:00.1"]);
    host.ends(&format!("status {}", file.display()), Exit::Done, &[]);
    let writes = host.kernel().writes.get();
    host.ends(&apply, Exit::Done, &["nothing to do"]);
    assert_eq!(host.kernel().writes.get(), writes, "a second apply writes nothing");
    wish("host");
    host.ends(&apply, Exit::Done, &["done: take 0000:02:00.0", "done: take 0000:02:00.1"]);
    assert_eq!(host.kernel().state(), before);
    host.ends("status", Exit::Done, &["nothing is given"]);
}
