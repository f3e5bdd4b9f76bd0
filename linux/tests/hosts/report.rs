//! `report` and `watch` on fake hosts.

use std::process::Command;

use crate::common::Host;

/// A disk with everything about it that says who owns it.
fn private() -> Host {
    Host::with_disk(
        "f proc/sys/kernel/hostname alices-box.example.org; f proc/sys/kernel/osrelease 6.1.0-13-amd64
         f etc/passwd 'alice:x:1000:1000:Alice Example:/home/alice:/bin/sh'
         f etc/libvirt/qemu/payroll.xml x
         f $N/wwid eui.0011223344556677
         f run/udev/data/b259:0 'S:disk/by-id/nvme-Example_SSD_PHLN9000A1'
         add run/udev/data/b259:0 'E:ID_SERIAL_SHORT=PHLN9000A1'
         add run/udev/data/b259:0 'E:ID_FS_UUID=550e8400-e29b-41d4-a716-446655440000'
         add run/udev/data/b259:0 'E:ID_FS_TYPE=ext4'
         add run/udev/data/b259:0 'E:ID_FS_LABEL=alices-data'
         mount_line '31 30 259:0 / /srv/alice-taxes rw - ext4 /dev/nvme0n1 rw'
         f dev/kmsg '6,1,1000000,-;nvme nvme0: pci function 0000:02:00.0, serial PHLN9000A1'
         add dev/kmsg '6,2,2000000,-;EXT4-fs (nvme0n1): mounted filesystem 550e8400-e29b-41d4-a716-446655440000'
         add dev/kmsg '6,3,3000000,-;usb 1-1: SerialNumber: MINE'
         add dev/kmsg '3,4,4000000,-;DMAR: [DMA Write] Request device [02:00.0] fault addr 0xfffff000'",
    )
}

#[test]
fn a_report_has_device_group_plan_and_kernel_log_and_no_private_value() {
    let said = private().bindctl("report 0000:02:00.0");
    assert_eq!(said.exit, 0, "{}", said.text);
    said.names(&[
        "0000:02:00.0",
        "8086:0a54",
        "6.1.0-13-amd64",
        "vfio_pci",
        "nvme nvme0: pci function",
        "EXT4-fs (nvme0n1)",
        "DMAR: [DMA Write]",
        "[    4.000000]",
        "reserved 0xfee00000-0xfeefffff, type msi",
        "in use",
        "config 00: 86 80 54 0a",
        "neither a journal nor a record names it",
    ]);
    let text = format!("{}{}", said.text, said.json).to_lowercase();
    for private in ["alice", "payroll", "phln9000a1", "550e8400", "0011223344556677", "example.org", "mine"] {
        assert!(!text.contains(private), "{private} stands in:\n{}", said.text);
    }
    // The log's serial number is the one that the controller shows.
    said.names(&["serial <serial-", "mounted on <mount-1>"]);
    assert_eq!(said.json["replaced"], serde_json::json!({ "mount": 1, "serial": 1, "uuid": 1 }));
    said.does_not_name("usb 1-1");
}

#[test]
fn the_file_is_new_and_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let host = private();
    let file = host.path().join("report.txt");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bindctl"));
        command.args(["report", "0000:02:00.0", "--output"]).arg(&file).arg("--root").arg(host.path());
        command.output().unwrap()
    };
    assert_eq!(run().status.code(), Some(0));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let first = std::fs::read(&file).unwrap();
    let again = run();
    assert_eq!(again.status.code(), Some(2), "a file that is there stays as it is");
    assert!(String::from_utf8_lossy(&again.stderr).contains("report.txt"));
    assert_eq!(std::fs::read(&file).unwrap(), first);
}

#[test]
fn a_report_tells_what_it_could_not_read_and_what_is_unfinished() {
    let host = Host::with_disk("");
    let journals = host.path().join("var/lib/bindctl/journal");
    std::fs::create_dir_all(&journals).unwrap();
    std::fs::write(journals.join("1.jsonl"), "garbage\n").unwrap();
    let said = host.bindctl("report 0000:02:00.0");
    assert_eq!(said.exit, 0, "a damaged journal is a part of the report: {}", said.text);
    said.names(&["1.jsonl", "not a journal", "cannot read /dev/kmsg"]);
}

#[test]
fn a_report_about_a_given_device_keeps_what_its_record_remembers() {
    let host = Host::with_disk("rm -rf $P/nvme; bind $P pci vfio-pci");
    let place = serde_json::json!({ "bus": "pci", "name": "0000:02:00.0", "path": "/sys/devices/x" });
    let memory = serde_json::json!({
        "device": "0000:02:00.0", "ids": "8086:0a54", "driver": "nvme", "driver_override": null, "functions": null,
        "names": ["nvme0"], "serials": ["S3RIAL"], "macs": ["02:00:00:aa:bb:cc"],
        "links": ["disk/by-id/nvme-Example_SSD_S3RIAL", "disk/by-id/nvme-Example_SSD_S3RIAL_1-part1"],
    });
    let step = serde_json::json!({
        "device": place, "action": { "do": "unbind", "driver": "nvme" }, "inverse": [], "for_device": "0000:02:00.0",
        "role": "own",
    });
    let record = serde_json::json!({
        "format": 1, "id": "1", "boot": "b", "devices": ["0000:02:00.0"], "steps": [step], "remembered": [memory],
    });
    let records = host.path().join("var/lib/bindctl/given");
    std::fs::create_dir_all(&records).unwrap();
    std::fs::write(records.join("1.json"), record.to_string()).unwrap();
    let said = host.bindctl("report 0000:02:00.0");
    assert_eq!(said.exit, 0, "{}", said.text);
    said.names(&["given by plan 1", "Example_SSD_<serial-", "<mac-1>"]);
    said.does_not_name("S3RIAL");
}

#[test]
fn a_directory_tells_of_no_changes() {
    let said = Host::with_disk("").bindctl("watch");
    assert_eq!(said.exit, 2, "{}", said.text);
    assert!(said.text.contains("no kernel"), "{}", said.text);
}
