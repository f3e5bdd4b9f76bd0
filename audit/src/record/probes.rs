//! Kprobe events in the place of `dma:*`, for kernels before 6.12: the functions of the DMA API with their arguments.
//!
//! `model::kprobe` reads them. `A1` stands for the first argument; a device's name is the string to which the first pointer of
//! its `kobject` points, and that is the first field of a `struct device` since 2.6.

use std::fs;
use std::io;
use std::path::Path;

use super::tracefs::append;

/// A probe: `p` at a function's entry or `r` at its return, name of the event, function, fetched arguments.
type Probe = (char, &'static str, &'static str, &'static str);

/// The device that is the first argument.
const DEV: &str = "dev=+0(+0(A1)):string";

/// Signatures as of 5.0 to 6.11.
const PROBES: [Probe; 17] = [
    ('p', "bindery_alloc", "dma_alloc_attrs", "size=A2:u64 attrs=A5:x64"),
    ('r', "bindery_alloc_ret", "dma_alloc_attrs", "virt=$retval:x64"),
    ('p', "bindery_free", "dma_free_attrs", "size=A2:u64 virt=A3:x64 dma=A4:x64 attrs=A5:x64"),
    ('p', "bindery_alloc_pages", "dma_alloc_pages", "size=A2:u64 dir=A4:u32"),
    ('r', "bindery_alloc_pages_ret", "dma_alloc_pages", "virt=$retval:x64"),
    ('p', "bindery_free_pages", "dma_free_pages", "size=A2:u64 virt=A3:x64 dma=A4:x64 dir=A5:u32"),
    ('p', "bindery_map_page", "dma_map_page_attrs", "size=A4:u64 dir=A5:u32 attrs=A6:x64"),
    ('r', "bindery_map_page_ret", "dma_map_page_attrs", "dma=$retval:x64"),
    ('p', "bindery_unmap_page", "dma_unmap_page_attrs", "dma=A2:x64 size=A3:u64 dir=A4:u32 attrs=A5:x64"),
    ('r', "bindery_unmap_page_ret", "dma_unmap_page_attrs", ""),
    ('p', "bindery_map_resource", "dma_map_resource", "phys=A2:x64 size=A3:u64 dir=A4:u32 attrs=A5:x64"),
    ('r', "bindery_map_resource_ret", "dma_map_resource", "dma=$retval:x64"),
    ('p', "bindery_unmap_resource", "dma_unmap_resource", "dma=A2:x64 size=A3:u64 dir=A4:u32 attrs=A5:x64"),
    ('r', "bindery_unmap_resource_ret", "dma_unmap_resource", ""),
    ('p', "bindery_map_sg", "dma_map_sg_attrs", "sg=A2:x64 dir=A4:u32 attrs=A5:x64"),
    ('r', "bindery_map_sg_ret", "dma_map_sg_attrs", "count=$retval:s32"),
    ('p', "bindery_unmap_sg", "dma_unmap_sg_attrs", "sg=A2:x64 dir=A4:u32 attrs=A5:x64"),
];

/// The same for `dma_map_sgtable`, which maps by a function of its own and reports an error instead of a count.
const SGTABLE: [Probe; 2] = [
    ('p', "bindery_map_sgtable", "dma_map_sgtable", "sg=+0(A2):x64 dir=A3:u32 attrs=A4:x64"),
    ('r', "bindery_map_sgtable_ret", "dma_map_sgtable", "err=$retval:s32"),
];

/// Names of arguments: since 4.20, and before it by the registers of an architecture's calls.
fn arguments() -> Vec<[&'static str; 6]> {
    let mut all = vec![["$arg1", "$arg2", "$arg3", "$arg4", "$arg5", "$arg6"]];
    if cfg!(target_arch = "x86_64") {
        all.push(["%di", "%si", "%dx", "%cx", "%r8", "%r9"]);
    } else if cfg!(target_arch = "aarch64") {
        all.push(["%x0", "%x1", "%x2", "%x3", "%x4", "%x5"]);
    }
    all
}

/// The command that makes a probe in `group`.
fn command(group: &str, probe: &Probe, arguments: [&str; 6]) -> String {
    let (kind, event, function, fetched) = probe;
    let dev = if *kind == 'p' { DEV } else { "" };
    let mut args = format!("{dev} {fetched}");
    for (n, argument) in arguments.iter().enumerate() {
        args = args.replace(&format!("A{}", n + 1), argument);
    }
    format!("{kind}:{group}/{event} {function} {}", args.trim()).trim_end().to_owned()
}

/// Makes the probes of `group`, and returns how many there are. A pair of which one half is refused is not made.
pub(super) fn make(tracefs: &Path, group: &str) -> usize {
    let file = tracefs.join("kprobe_events");
    let mut made = 0;
    for arguments in arguments() {
        let mut index = 0;
        let probes: Vec<&Probe> = PROBES.iter().chain(&SGTABLE).collect();
        while let Some(probe) = probes.get(index) {
            let pair = probes.get(index + 1).filter(|next| next.0 == 'r');
            index += 1 + usize::from(pair.is_some());
            if append(&file, &format!("{}\n", command(group, probe, arguments))).is_err() {
                continue;
            }
            let Some(pair) = pair else {
                made += 1;
                continue;
            };
            if append(&file, &format!("{}\n", command(group, pair, arguments))).is_ok() {
                made += 2;
            } else {
                let _ = append(&file, &format!("-:{group}/{}\n", probe.1));
            }
        }
        if made > 0 {
            break;
        }
    }
    made
}

/// Removes the probes of `group`, which nobody uses any more.
pub(super) fn remove(tracefs: &Path, group: &str) -> io::Result<()> {
    let file = tracefs.join("kprobe_events");
    let mut result = Ok(());
    for event in events(&fs::read_to_string(&file).unwrap_or_default()).filter(|(of, _)| *of == group) {
        result = append(&file, &format!("-:{}/{}\n", event.0, event.1)).and(result);
    }
    result
}

/// Groups of probes whose names begin with `prefix`.
pub(super) fn groups(tracefs: &Path, prefix: &str) -> Vec<String> {
    let text = fs::read_to_string(tracefs.join("kprobe_events")).unwrap_or_default();
    let mut groups: Vec<String> =
        events(&text).map(|(group, _)| group.to_owned()).filter(|group| group.starts_with(prefix)).collect();
    groups.sort();
    groups.dedup();
    groups
}

/// Groups and names in the text of `kprobe_events`: `p:GROUP/NAME FUNCTION ARGUMENTS`, with a number after `r` in some.
fn events(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_whitespace().next()?.split_once(':')?.1.split_once('/'))
}

/// Calls that were missed because too many were under way, by probe, from `kprobe_profile`.
pub(super) fn missed(tracefs: &Path) -> Vec<(String, u64)> {
    let text = fs::read_to_string(tracefs.join("kprobe_profile")).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, missed) = (words.next()?, words.nth(1)?.parse().ok()?);
        (missed > 0 && name.starts_with("bindery_")).then(|| (name.to_owned(), missed))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_group_function_and_arguments() {
        let names = arguments()[0];
        assert_eq!(
            command("g", &PROBES[0], names),
            "p:g/bindery_alloc dma_alloc_attrs dev=+0(+0($arg1)):string size=$arg2:u64 attrs=$arg5:x64"
        );
        assert_eq!(command("g", &PROBES[1], names), "r:g/bindery_alloc_ret dma_alloc_attrs virt=$retval:x64");
        assert_eq!(command("g", &PROBES[9], names), "r:g/bindery_unmap_page_ret dma_unmap_page_attrs");
    }

    #[test]
    fn only_the_group_is_removed_and_left_groups_are_found() {
        let tracefs = tempfile::tempdir().unwrap();
        let file = tracefs.path().join("kprobe_events");
        fs::write(&file, "p:bindery_audit_1_0/x f a=1\nr16:bindery_audit_1_0/y f\np:other/x g\n").unwrap();
        assert_eq!(groups(tracefs.path(), "bindery_audit_"), ["bindery_audit_1_0"]);
        remove(tracefs.path(), "bindery_audit_1_0").unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.ends_with("p:other/x g\n-:bindery_audit_1_0/x\n-:bindery_audit_1_0/y\n"), "{text}");
    }
}
