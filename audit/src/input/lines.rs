//! Physical lines of bounded length.

use std::io::{self, BufRead};

/// Longest line that is kept, in bytes. The kernel's own lines end at about 1 KiB, lists of scatterlists at 8 KiB.
pub const MAX_LINE: usize = 64 << 10;

/// One physical line.
#[derive(Debug)]
pub struct Line<'a> {
    /// Number in its file, from 1.
    pub number: u64,
    /// Its bytes without the line feed, at most [`MAX_LINE`].
    pub bytes: &'a [u8],
    /// True when the line was longer than that.
    pub cut: bool,
    /// True when a line feed ends it; the last line of a file that was cut has none.
    pub ended: bool,
}

/// The lines of a reader, each in the same buffer.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    number: u64,
    read: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), number: 0, read: 0 }
    }

    /// Bytes read so far, after decompression.
    pub fn bytes_read(&self) -> u64 {
        self.read
    }

    /// The next line, or none at the end.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let mut cut = false;
        let (mut any, mut line_ended) = (false, false);
        loop {
            let chunk = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let (piece, used, ended) = match memchr::memchr(b'\n', chunk) {
                Some(at) => (&chunk[..at], at + 1, true),
                None => (chunk, chunk.len(), false),
            };
            let room = MAX_LINE - self.buffer.len();
            cut |= piece.len() > room;
            self.buffer.extend_from_slice(&piece[..piece.len().min(room)]);
            self.reader.consume(used);
            self.read += used as u64;
            if ended {
                line_ended = true;
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(Line { number: self.number, bytes: &self.buffer, cut, ended: line_ended }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_cut_and_the_next_one_is_whole() {
        let mut text = vec![b'x'; MAX_LINE + 10];
        text.extend_from_slice(b"\nshort");
        let mut lines = Lines::new(text.as_slice());
        let first = lines.next_line().unwrap().unwrap();
        assert!(first.cut && first.bytes.len() == MAX_LINE && first.number == 1);
        let second = lines.next_line().unwrap().unwrap();
        assert_eq!((second.bytes, second.cut, second.number), (&b"short"[..], false, 2));
        assert!(lines.next_line().unwrap().is_none());
    }

    #[test]
    fn an_empty_last_line_is_none_and_one_without_a_line_feed_is_told() {
        let mut lines = Lines::new(&b"a\n"[..]);
        assert!(lines.next_line().unwrap().unwrap().ended);
        assert!(lines.next_line().unwrap().is_none());
        assert!(!Lines::new(&b"a"[..]).next_line().unwrap().unwrap().ended);
    }
}
