//! `key=value` fields, in any order and with any number of unknown ones.

/// The fields of a payload.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a str,
}

impl<'a> Fields<'a> {
    /// The fields of `text`.
    pub fn new(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Fields<'a> {
    /// Key and value; a word without `=` is a value without key.
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.find(' ').unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        let Some(equals) = word.find('=') else {
            self.rest = &self.rest[end..];
            return Some(("", word));
        };
        let key = &word[..equals];
        let value = &self.rest[equals + 1..];
        let end = if value.starts_with('{') {
            value.find('}').map_or(value.len(), |close| close + 1)
        } else if let Some(quoted) = value.strip_prefix('"') {
            quoted.find('"').map_or(value.len(), |close| close + 2)
        } else {
            value.find(' ').unwrap_or(value.len())
        };
        self.rest = &value[end..];
        Some((key, &value[..end]))
    }
}

/// A hexadecimal number, with or without `0x`.
pub fn hex(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// A number that is decimal unless it begins with `0x`.
pub fn number(text: &str) -> Option<u64> {
    if text.starts_with("0x") { hex(text) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_any_order_with_unknown_ones_between() {
        let text = "0000:00:03.0 dir=X new=1 dma_addrs={0x1, 0x2} attrs= size=5";
        let fields: Vec<_> = Fields::new(text).collect();
        let expected = [
            ("", "0000:00:03.0"),
            ("dir", "X"),
            ("new", "1"),
            ("dma_addrs", "{0x1, 0x2}"),
            ("attrs", ""),
            ("size", "5"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn numbers_that_are_too_long_are_none() {
        assert_eq!((hex("ffffffffffffffff"), hex("0x10000000000000000"), hex("")), (Some(u64::MAX), None, None));
        assert_eq!((number("0x10"), number("10"), number("-1")), (Some(16), Some(10), None));
    }
}
