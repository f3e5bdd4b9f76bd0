//! Paths below `/sys`, `/proc` and `/dev` as text.

/// The last component of `path`.
pub fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `path` without its last component.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The place that the link at `link` leads to when its text is `text`, without a look at the file system.
///
/// That is exact for links in sysfs, whose texts never pass through another link. `None` when the text is absolute or
/// climbs above the link's first component (`/sys`).
pub fn target(link: &str, text: &str) -> Option<String> {
    if text.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = parent(link).split('/').filter(|p| !p.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
                if parts.is_empty() {
                    return None;
                }
            }
            name => parts.push(name),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// The path in `/dev` of a device with this name in sysfs, where a name cannot have a slash: `cciss!c0d0` is `/dev/cciss/c0d0`.
pub fn node(name: &str) -> String {
    format!("/dev/{}", name.replace('!', "/"))
}

/// Extension of a file's name, behind the last dot.
pub fn extension(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, extension)| extension)
}

/// True when `path` is `above` or lies below it.
pub fn within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// True when `name` can be the name of a device, driver, module or bus: one component, printable, bounded.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c == '/' || c.is_control())
}

/// `text` with control characters, which could steer a terminal, written as `\xHH`.
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| format!("\\x{:02x}", u32::from(c)));
            let plain = escaped.is_none().then_some(c);
            escaped.unwrap_or_default().chars().chain(plain).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_resolve_as_the_kernel_writes_them() {
        let link = "/sys/bus/pci/devices/0000:00:04.0";
        assert_eq!(target(link, "../../../devices/pci0000:00/x").as_deref(), Some("/sys/devices/pci0000:00/x"));
    }

    #[test]
    fn links_that_climb_out_resolve_to_nothing() {
        assert_eq!(target("/sys/a/b", "../../../etc"), None);
        assert_eq!(target("/sys/a/b", "/etc/passwd"), None);
        assert_eq!(target("/sys/a/b", "../../proc/1"), None, "not even from sysfs into procfs");
    }

    #[test]
    fn names_are_one_printable_component() {
        for bad in ["", ".", "..", "a/b", "a\nb", "a\0b"] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_name("0000:00:04.0"));
    }

    #[test]
    fn a_sibling_with_the_same_beginning_is_not_within() {
        assert!(within("/sys/a/b", "/sys/a"));
        assert!(!within("/sys/ab", "/sys/a"));
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\x1b[2Jb");
    }
}
