//! Readers of plain, gzip and zstd input, told apart by their first bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// The reason why an input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The host refused.
    #[error("cannot read {name}: {}", crate::command::said(.error))]
    Host {
        /// The file.
        name: String,
        /// The host's error.
        error: io::Error,
    },
    /// A binary format that is not read directly.
    #[error("{name} is {what}, which is not read directly: {instead}")]
    Format {
        /// The file.
        name: String,
        /// The format.
        what: &'static str,
        /// The command that makes text of it.
        instead: String,
    },
}

/// Opens the file at `path`; `-` is standard input.
pub fn open(path: &Path) -> Result<Box<dyn BufRead>, Unreadable> {
    let name = path.display().to_string();
    let host = |error| Unreadable::Host { name: name.clone(), error };
    if path.as_os_str() == "-" {
        return sniff(&name, io::stdin());
    }
    if path.is_dir() {
        return Err(host(io::Error::new(io::ErrorKind::IsADirectory, "a directory; name the files in it")));
    }
    sniff(&name, File::open(path).map_err(host)?)
}

/// A reader of what is in `source`, decompressed where its first bytes say so.
pub fn sniff(name: &str, source: impl Read + 'static) -> Result<Box<dyn BufRead>, Unreadable> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    let host = |error| Unreadable::Host { name: name.into(), error };
    let head = source.fill_buf().map_err(host)?;
    match head {
        [0x1f, 0x8b, ..] => unpacked(name, BufReader::with_capacity(BUFFER, MultiGzDecoder::new(source))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = StreamingDecoder::new(source)
                .map_err(|error| host(io::Error::new(io::ErrorKind::InvalidData, error.to_string())))?;
            unpacked(name, BufReader::with_capacity(BUFFER, decoder))
        }
        head => {
            refuse(name, head)?;
            Ok(Box::new(source))
        }
    }
}

/// `reader`, unless what it unpacks is itself of a format that is not read, or its beginning is damaged: a decoder that has
/// failed once may end quietly when it is asked again.
fn unpacked(name: &str, mut reader: impl BufRead + 'static) -> Result<Box<dyn BufRead>, Unreadable> {
    let head = reader.fill_buf().map_err(|error| Unreadable::Host { name: name.into(), error })?;
    refuse(name, head)?;
    Ok(Box::new(reader))
}

/// Formats that are not read directly: how they begin, what they are, and the command that makes text of them. Only what is
/// certain is refused: a console's garbage is a part of many logs.
const FORMATS: &[(&[u8], &str, &str)] = &[
    (&[0x17, 0x08, 0x44], "a trace.dat of trace-cmd", "trace-cmd report -i FILE | bindery audit -"),
    (b"PERFILE", "a perf.data", "perf script -i FILE -F comm,pid,cpu,time,event,trace | bindery audit -"),
    (b"\x7fELF", "an ELF file", "name a trace or a kernel log; for a crash dump, vmcore-dmesg FILE | bindery audit -"),
    (b"KDUMP   ", "a crash dump of makedumpfile", "makedumpfile --dump-dmesg FILE log.txt && bindery audit log.txt"),
    (b"LPKSHHRH", "a file of systemd's journal", "journalctl --file FILE -k | bindery audit -"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "compressed by xz", "xz -dc FILE | bindery audit -"),
    (b"BZh", "compressed by bzip2", "bzip2 -dc FILE | bindery audit -"),
    (&[0x04, 0x22, 0x4d, 0x18], "compressed by lz4", "lz4 -dc FILE | bindery audit -"),
    (b"PK\x03\x04", "a zip archive", "unzip -p FILE | bindery audit -"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x -so FILE | bindery audit -"),
    (&[0x89, b'P', b'N', b'G'], "a picture", "the log's text is needed"),
    (&[0xff, 0xd8, 0xff], "a picture", "the log's text is needed"),
    (b"%PDF-", "a PDF document", "pdftotext -layout FILE - | bindery audit -"),
];

/// Where tar archives have their magic.
const TAR: std::ops::Range<usize> = 257..262;

fn refuse(name: &str, head: &[u8]) -> Result<(), Unreadable> {
    let known = FORMATS.iter().find(|(magic, ..)| head.starts_with(magic)).map(|(_, what, instead)| (*what, *instead));
    // The two bytes alone could be a console's garbage; its zeros tell UTF-16.
    let wide = || {
        let wide = matches!(head, [0xff, 0xfe, _, 0, ..] | [0xfe, 0xff, 0, ..]);
        wide.then_some(("text in UTF-16", "iconv -f UTF-16 -t UTF-8 FILE | bindery audit -"))
    };
    let tar = || (head.get(TAR) == Some(b"ustar")).then_some(("a tar archive", "tar -xOf FILE | bindery audit -"));
    match known.or_else(wide).or_else(tar) {
        Some((what, instead)) => {
            Err(Unreadable::Format { name: name.into(), what, instead: instead.replace("FILE", name) })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn refused(bytes: &[u8]) -> Option<String> {
        sniff("x", io::Cursor::new(bytes.to_vec())).err().map(|error| error.to_string())
    }

    #[test]
    fn a_program_is_refused_with_what_it_is_and_what_to_do() {
        let words = refused(b"\x7fELF\x02\x01\x01").unwrap();
        assert!(words.contains("an ELF file") && words.contains("vmcore-dmesg x | bindery audit -"), "{words}");
        let mut tar = vec![0; 512];
        tar[TAR].copy_from_slice(b"ustar");
        assert!(refused(&tar).unwrap().contains("tar -xOf x"));
        assert!(refused(b"\xff\xfe[\0 \0").unwrap().contains("UTF-16"));
    }

    #[test]
    fn what_is_packed_is_looked_at_too() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"\x17\x08\x44tracing6\0").unwrap();
        assert!(refused(&packed.finish().unwrap()).unwrap().contains("trace-cmd report"));
    }

    #[test]
    fn a_damaged_beginning_is_no_empty_file() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"[    1.0] x\n").unwrap();
        let packed = packed.finish().unwrap();
        assert!(refused(&packed[..8]).unwrap().starts_with("cannot read x: "));
        let reserved = [&packed[..3], &[0xff], &packed[4..]].concat();
        assert!(refused(&reserved).unwrap().starts_with("cannot read x: "));
        assert_eq!(refused(&packed), None);
    }

    #[test]
    fn garbage_is_read() {
        assert_eq!(refused(b"\xf0\x00\xff[    1.0] x\n"), None);
        assert_eq!(refused(b"\xff\xfe\xff[    1.0] x\n"), None);
        assert_eq!(refused(b""), None);
    }
}
