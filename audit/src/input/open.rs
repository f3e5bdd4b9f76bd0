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
    #[error("{name}: {error}")]
    Host {
        /// The file.
        name: String,
        /// The host's words.
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
    let other = |what, instead: &str| {
        Err(Unreadable::Format { name: name.into(), what, instead: instead.replace("FILE", name) })
    };
    match head {
        [0x1f, 0x8b, ..] => Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(source)))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = StreamingDecoder::new(source)
                .map_err(|error| host(io::Error::new(io::ErrorKind::InvalidData, error.to_string())))?;
            Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
        }
        [0x17, 0x08, 0x44, ..] => other("a trace.dat of trace-cmd", "trace-cmd report -i FILE | bindery audit -"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => other("compressed by xz", "xz -dc FILE | bindery audit -"),
        [b'B', b'Z', b'h', ..] => other("compressed by bzip2", "bzip2 -dc FILE | bindery audit -"),
        [b'P', b'E', b'R', b'F', b'I', b'L', b'E', ..] => {
            other("a perf.data", "perf script -i FILE -F comm,pid,cpu,time,event,trace | bindery audit -")
        }
        _ => Ok(Box::new(source)),
    }
}
