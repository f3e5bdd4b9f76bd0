//! `give`, `take`, `status` and `recover` on a directory, which has no kernel behind it.

use crate::common::{Host, gives};

#[test]
fn give_and_take_on_a_directory_print_the_plan_and_write_nothing() {
    let host = Host::with_disk("");
    let said = host.bindctl("give 0000:02:00.0");
    gives(&said, "0000:02:00.0");
    assert!(said.text.contains("nothing was done"), "{}", said.text);
    let path = "sys/devices/pci0000:00/0000:00:1c.0/0000:02:00.0/driver_override";
    assert_eq!(std::fs::read_to_string(host.path().join(path)).unwrap(), "(null)\n");
    assert_eq!(host.bindctl("take 0000:02:00.0").json["outcome"], "nothing to do");
    let owned = host.bindctl("give 0000:02:00.0 --dry-run --owner 1000");
    assert_eq!(owned.json["steps"][5]["do"], "owner", "{}", owned.text);
}

#[test]
fn an_owner_that_does_not_exist_is_a_usage_error() {
    let said = Host::with_disk("").bindctl("give 0000:02:00.0 --owner nobodyhere");
    assert_eq!(said.exit, 2, "{}", said.text);
}

#[test]
fn nothing_is_given_and_nothing_is_to_recover_at_first() {
    let host = Host::with_disk("");
    assert_eq!(host.bindctl("status").exit, 0);
    assert_eq!(host.bindctl("recover").exit, 0);
}

#[test]
fn damaged_and_newer_state_is_told_with_file_and_line() {
    let host = Host::with_disk("");
    let journals = host.path().join("var/lib/bindctl/journal");
    let records = host.path().join("var/lib/bindctl/given");
    std::fs::create_dir_all(&journals).unwrap();
    std::fs::create_dir_all(&records).unwrap();
    for (folder, name) in [(&journals, "1.jsonl"), (&records, "1.json")] {
        for (text, word) in [("{\"format\":99}\n", "newer version"), ("garbage\n", "not a ")] {
            std::fs::write(folder.join(name), text).unwrap();
            let said = host.bindctl("status");
            assert_eq!(said.exit, 2, "{}", said.text);
            assert!(said.text.contains(word) && said.text.contains(&format!("{name}:1")), "{}", said.text);
        }
        std::fs::remove_file(folder.join(name)).unwrap();
    }
}

#[test]
fn the_memory_of_a_guest_is_compared_with_what_its_owner_may_lock() {
    let host = Host::with_disk(
        "f etc/passwd 'qemu:x:107:107::/:/bin/false'
         f proc/self/limits 'Max locked memory         65536                8388608              bytes'",
    );
    let said = host.bindctl("give 0000:02:00.0 --dry-run --owner qemu --guest-memory 16G");
    assert_eq!(said.exit, 0, "a warning: the guest is not there yet: {}", said.text);
    said.names(&["a guest of 16384 MiB needs 17408 MiB", "RLIMIT_MEMLOCK", "qemu - memlock"]);
    host.bindctl("show 0000:02:00.0 --guest-memory 1G").names(&["8 MiB may be locked"]);
    host.bindctl("give 0000:02:00.0 --dry-run --owner 0 --guest-memory 16G").names(&["root is not limited"]);
    assert_eq!(host.bindctl("plan --to vfio 0000:02:00.0 --guest-memory lots").exit, 2);
}
