//! The example, as it stands in `examples/`.

use bindery_linux::face::Directory;

use crate::common::Host;

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "../../examples/embed.rs"]
mod example;

#[test]
fn the_example_plans_a_hand_over_and_names_what_is_in_the_way() {
    let free = Host::with_disk("");
    let plan = example::plan(&Directory::open(free.path()).unwrap(), "0000:02:00.0").unwrap();
    assert_eq!(plan[..2], ["0000:02:00.0: driver_override vfio-pci", "0000:02:00.0: unbind from nvme"]);
    let used = Host::with_disk("mount_line '31 30 259:0 / /srv rw - ext4 /dev/nvme0n1 rw'");
    let plan = example::plan(&Directory::open(used.path()).unwrap(), "0000:02:00.0").unwrap();
    assert_eq!(plan.len(), 1, "{plan:?}");
    assert!(plan[0].contains("nvme0n1 is mounted on /srv") && plan[0].contains("umount /srv"), "{plan:?}");
    assert!(example::plan(&Directory::open(used.path()).unwrap(), "0000:0f:00.0").is_err());
}
