//! The encoding of a raw mail's text.

/// How a mail's text is encoded.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    quoted: bool,
    /// The beginning of a line that goes on in the next one, with its number.
    begun: Option<(u64, Vec<u8>)>,
}

/// Longest line that is put together, in bytes.
const MAX_LINE: usize = 64 << 10;

impl Transfer {
    /// Decodes `raw`, which is line number `line`, into `out`: the line's number, or none where the line goes on in the next one.
    ///
    /// Text outside a mail in quoted-printable encoding is copied.
    pub(crate) fn decode(&mut self, line: u64, raw: &[u8], out: &mut Vec<u8>) -> Option<u64> {
        let (first, mut text) = self.begun.take().unwrap_or_default();
        let soft = raw.trim_ascii_end().strip_suffix(b"=");
        let mut bytes = soft.unwrap_or(raw).iter().copied();
        while let Some(byte) = bytes.next() {
            let hex = |byte: u8| char::from(byte).to_digit(16);
            let mut rest = bytes.clone();
            let code = (byte == b'=').then(|| Some(rest.next().and_then(hex)? * 16 + rest.next().and_then(hex)?));
            match code.flatten() {
                Some(code) => {
                    text.push(code as u8);
                    bytes = rest;
                }
                None => text.push(byte),
            }
        }
        let line = if first == 0 { line } else { first };
        if soft.is_some() && text.len() < MAX_LINE {
            self.begun = Some((line, text));
            return None;
        }
        *out = text;
        Some(line)
    }

    /// True inside a mail whose text is encoded. Header lines turn it on and off.
    pub(crate) fn is_quoted(&mut self, raw: &[u8]) -> bool {
        const KEY: &[u8] = b"content-transfer-encoding:";
        if raw.first().is_some_and(|byte| matches!(byte, b'C' | b'c'))
            && let Some((key, value)) = raw.split_at_checked(KEY.len())
            && key.eq_ignore_ascii_case(KEY)
        {
            self.quoted = value.trim_ascii().eq_ignore_ascii_case(b"quoted-printable");
        } else if self.quoted && raw.starts_with(b"From ") {
            self.quoted = false;
        }
        self.quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(lines: &[&str]) -> Vec<(u64, String)> {
        let mut mail = Transfer::default();
        let mut out = Vec::new();
        for (line, raw) in (1..).zip(lines) {
            let mut text = raw.as_bytes().to_vec();
            if !mail.is_quoted(raw.as_bytes()) {
                out.push((line, (*raw).to_owned()));
            } else if let Some(line) = mail.decode(line, raw.as_bytes(), &mut text) {
                out.push((line, String::from_utf8(text).unwrap()));
            }
        }
        out
    }

    #[test]
    fn soft_breaks_and_codes_are_taken_back() {
        let head = "Content-Transfer-Encoding: Quoted-Printable";
        assert_eq!(decoded(&[head, "a=", "b=3Dc=", "=20d"])[1], (2, "ab=c d".into()));
        assert_eq!(decoded(&[head, "attrs=3D", "x=zz"])[1..], [(2, "attrs=".into()), (3, "x=zz".into())]);
        assert_eq!(decoded(&["attrs=", "b"]), [(1, "attrs=".into()), (2, "b".into())]);
        assert_eq!(decoded(&[head, "From x", "a=", "b"])[2..], [(3, "a=".into()), (4, "b".into())]);
    }
}
