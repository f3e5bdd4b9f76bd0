//! Lines of a stack, in the forms of several architectures.

use super::field::hex;

/// The functions that a line of a stack names, innermost first; none for a line that is no stack's.
pub fn frame(text: &str) -> Option<Vec<&str>> {
    let text = text.trim();
    if let Some((first, rest)) = text.split_once(") from [<") {
        let first = first.rsplit('(').next()?;
        let second = rest.split('(').nth(1)?.trim_end_matches(')');
        return Some(vec![symbol(first), symbol(second)]);
    }
    if let Some((first, rest)) = text.split_once(" from ")
        && first.contains("+0x")
        && let Some(second) = is_frame(rest)
    {
        // arm, since 5.11: `check_unmap from debug_dma_unmap_page+0xa4/0xb4`.
        return Some(vec![symbol(first.trim()), second]);
    }
    let mut rest = text;
    for head in ["PC is at ", "LR is at ", "RIP: 0010:", "RIP: ", "NIP ", "LR "] {
        rest = rest.strip_prefix(head).unwrap_or(rest);
    }
    // A register: `pc : f+0x1/0x2`, and with its address in front on MIPS.
    if let Some((register, value)) = rest.split_once(": ")
        && ["pc", "lr", "epc", "ra", "era"].contains(&register.trim())
    {
        rest = value.trim_start();
        if let Some((address, name)) = rest.split_once(' ')
            && address.len() >= 8
            && hex(address).is_some()
        {
            rest = name;
        }
    }
    if rest.starts_with("? ") {
        // An address that was only found on the stack.
        return Some(Vec::new());
    }
    // The addresses of the stack and of the code: `[<c0038754>]`, `[c000000003a1fb50] [c0000000001234a8]`.
    while let Some((address, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        let address = address.trim_start_matches('<').trim_end_matches('>');
        if address.len() < 8 || hex(address).is_none() {
            break;
        }
        rest = after.trim_start();
    }
    is_frame(rest).or_else(|| is_sourced(rest)).map(|name| vec![name])
}

/// The function of `name (drivers/base/dd.c:1272)` and `name drivers/base/dd.c:1272 [inline]`, as tools write it that know the
/// kernel's source.
fn is_sourced(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once(' ')?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    let place = match rest.trim_start().strip_prefix('(') {
        Some(place) => place.split_once(')')?.0,
        None => rest.strip_suffix(" [inline]")?,
    };
    let lined = [".c:", ".h:", ".S:", ".rs:"]
        .iter()
        .any(|ending| place.split_once(ending).is_some_and(|(_, line)| line.starts_with(|c: char| c.is_ascii_digit())));
    (plain && !name.is_empty() && lined).then(|| name.split('.').next().unwrap_or(name))
}

/// The function of `name+0x1/0x2 [module]`; some web pages put blanks around the plus sign.
fn is_frame(text: &str) -> Option<&str> {
    let (name, rest) = text.split_once("+0x").or_else(|| text.split_once(" + 0x"))?;
    if name.contains(' ') {
        return None;
    }
    let rest = rest.split_whitespace().next()?;
    let (offset, size) = rest.split_once("/0x")?;
    let hexes = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hexes(offset) && hexes(size) && !name.is_empty()).then(|| symbol(name))
}

fn symbol(text: &str) -> &str {
    text.split("+0x").next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_several_architectures_are_read() {
        assert_eq!(frame(" debug_dma_map_page+0x68/0x170"), Some(vec!["debug_dma_map_page"]));
        assert_eq!(frame("pc : __free_pages+0x8/0x58"), Some(vec!["__free_pages"]));
        assert_eq!(frame("RIP: 0010:dma_debug_device_change+0x190/0x1f0"), Some(vec!["dma_debug_device_change"]));
        let arm = "[<8019f304>] (check_unmap) from [<8019fd6c>] (debug_dma_unmap_page+0xa4/0xb4)";
        assert_eq!(frame(arm), Some(vec!["check_unmap", "debug_dma_unmap_page"]));
        assert_eq!(frame(" ? maybe+0x1/0x2"), Some(vec![]));
        assert_eq!(frame("epc   : 801c2530 ex_remove+0x20/0x100"), Some(vec!["ex_remove"]));
        assert_eq!(frame(" ra : ex_remove+0x20/0x100"), Some(vec!["ex_remove"]));
        assert_eq!(frame("[<801c2530>] ex_remove+0x20/0x100"), Some(vec!["ex_remove"]));
        let power = "[c000000003a1fb50] [c0000000001234a8] ex_remove+0x58/0x100 (unreliable)";
        assert_eq!(frame(power), Some(vec!["ex_remove"]));
        assert_eq!(frame("NIP [c0000000001234a8] ex_remove+0x58/0x100"), Some(vec!["ex_remove"]));
        assert_eq!(frame("ex_stop + 0x18/0x38"), Some(vec!["ex_stop"]));
        assert_eq!(frame("unbind_store (drivers/base/bus.c:245) "), Some(vec!["unbind_store"]));
        assert_eq!(frame(" release_nodes drivers/base/devres.c:506 [inline]"), Some(vec!["release_nodes"]));
        let both = " devres_release_all+0x15a/0x1c0 drivers/base/devres.c:535";
        assert_eq!(frame(both), Some(vec!["devres_release_all"]));
        assert_eq!(frame("see drivers/base/dd.c:12 for it"), None);
        assert_eq!(frame("the crash is in ex_stop+0x18/0x38"), None);
        assert_eq!(frame(" r7:00000009 r6:60000193"), None);
    }
}
