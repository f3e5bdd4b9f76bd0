//! Searches for words that most lines do not have.

/// Rank of each byte by how often it stands in logs: 0 for the rare ones.
const COMMON: [u8; 256] = {
    let mut rank = [0; 256];
    let often = b"bkvwygpf-_.:hmcludns0raite ";
    let mut at = 0;
    while at < often.len() {
        rank[often[at] as usize] = at as u8 + 1;
        at += 1;
    }
    rank
};

/// Bytes of a key among which the rarest is chosen.
const BEGINNING: usize = 8;

/// The place of the first `key` in `text`.
///
/// Like [`str::find`], which prepares each search at a cost that short lines do not pay back: this one looks for the rarest byte
/// of the key's beginning, which most lines do not have. That byte is known when the program is built, for keys that are.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the rarest byte of a constant key is found by the compiler")]
pub(crate) fn find(text: &str, key: &str) -> Option<usize> {
    let bytes = key.as_bytes();
    let mut rarest = 0;
    let mut at = 1;
    while at < bytes.len() && at < BEGINNING {
        if COMMON[bytes[at] as usize] < COMMON[bytes[rarest] as usize] {
            rarest = at;
        }
        at += 1;
    }
    find_by(text.as_bytes(), bytes, rarest)
}

/// The place of the first `key`, whose byte `rarest` is looked for.
fn find_by(text: &[u8], key: &[u8], rarest: usize) -> Option<usize> {
    let Some(byte) = key.get(rarest) else { return Some(0) };
    let mut from = rarest;
    loop {
        let start = from + memchr::memchr(*byte, text.get(from..)?)? - rarest;
        if text[start..].starts_with(key) {
            return Some(start);
        }
        from = start + rarest + 1;
    }
}

/// True when `key` is in `text`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as for `find`")]
pub(crate) fn has(text: &str, key: &str) -> bool {
    find(text, key).is_some()
}

/// The text before and behind the first `key`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "as for `find`")]
pub(crate) fn cut<'a>(text: &'a str, key: &str) -> Option<(&'a str, &'a str)> {
    find(text, key).map(|at| (&text[..at], &text[at + key.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_the_standard_library_finds() {
        let texts = ["", "a", "sda: sda1 sda2", "é: ü: é", ": probe of : probe of x", "aaab", "probe"];
        let keys = ["", "a", ": ", "sda2", "sda1 ", ": probe of ", "é", "ü: é", "aab", "b", "zz", "probe!", "x"];
        for text in texts {
            for key in keys {
                assert_eq!(find(text, key), text.find(key), "{key:?} in {text:?}");
                assert_eq!((has(text, key), cut(text, key)), (text.contains(key), text.split_once(key)));
            }
        }
    }
}
