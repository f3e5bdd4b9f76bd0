//! Functions of the kernel in the stacks of reports.

/// True when a function of `names` is in the stack.
pub(super) fn has(frames: &[String], names: &[&str]) -> bool {
    frames.iter().any(|frame| names.contains(&frame.as_str()))
}

/// Functions that release managed resources.
pub(super) const RELEASE: [&str; 3] = ["release_nodes", "devres_release_all", "devres_release_group"];
/// Functions of an unbind.
pub(super) const UNBIND: [&str; 7] = [
    "device_release_driver_internal",
    "__device_release_driver",
    "device_release_driver",
    "driver_detach",
    "unbind_store",
    "device_driver_detach",
    "bus_remove_device",
];
/// Functions of a tear-down that an unbind or a removal calls.
pub(super) const LATER: [&str; 2] = ["device_unbind_cleanup", "pci_device_remove"];

/// True where the stack is in a tear-down.
pub(super) fn in_tear_down(frames: &[String]) -> bool {
    has(frames, &UNBIND) || has(frames, &LATER)
}

pub(super) fn is_dump(name: &str) -> bool {
    let report = name.starts_with("kasan_") || name.starts_with("print_") || name.starts_with("__asan");
    report
        || [
            "dump_backtrace",
            "show_stack",
            "dump_stack",
            "__dump_stack",
            "end_report",
            "unwind_backtrace",
            "__warn",
            "dump_stack_lvl",
            "bad_page",
        ]
        .contains(&name)
}
