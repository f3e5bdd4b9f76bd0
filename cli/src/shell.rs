//! Shell commands for the control tree and the disk, and their output as a shell prints it.

use std::fmt::Write as _;
use std::io;

use bindery::control::{ControlError, EntryKind, OpenFlags, Tree};
use bindery_sim::disk::SECTOR;

use crate::session::Area;

/// `echo VALUE > PATH`.
pub fn echo(tree: &Tree, value: &str, path: &str) -> Result<String, String> {
    let written = tree.open(path, OpenFlags::REDIRECT).and_then(|mut file| file.write(format!("{value}\n").as_bytes()));
    written.map(|_| String::new()).map_err(|error| refused("echo", &error))
}

/// `cat PATH`.
pub fn cat(tree: &Tree, path: &str) -> Result<String, String> {
    tree.read(path).map_err(|error| refused("cat", &error))
}

/// `ls PATH`: names in order, directories with a slash, links with where they lead.
pub fn ls(tree: &Tree, path: &str) -> Result<String, String> {
    let entries = tree.list(path).map_err(|error| refused("ls", &error))?;
    let lines = entries.into_iter().map(|entry| match entry.kind {
        EntryKind::Dir => format!("{}/\n", entry.name),
        EntryKind::File { .. } => format!("{}\n", entry.name),
        EntryKind::Link { target } => format!("{} -> {target}\n", entry.name),
    });
    Ok(lines.collect())
}

/// A refusal of the control tree, as `program` prints it: with the C library's text for its number.
fn refused(program: &str, error: &ControlError) -> String {
    let text = io::Error::from_raw_os_error(error.errno as i32).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    format!("{program}: {}: {text} ({})", error.path, error.why)
}

/// The bytes of `area`, sixteen a line, as `xxd` prints them; a run of equal lines is one `*`.
pub fn dump(area: Area, bytes: &[u8]) -> String {
    // The disk has these sectors, so that their place in bytes fits.
    let mut at = area.lba * SECTOR;
    let mut text = String::new();
    let mut before: Option<&[u8]> = None;
    let mut folded = false;
    for line in bytes.chunks(16) {
        if before == Some(line) {
            if !std::mem::replace(&mut folded, true) {
                text.push_str("*\n");
            }
        } else {
            folded = false;
            let mut digits = String::new();
            for pair in line.chunks(2) {
                for byte in pair {
                    let _ = write!(digits, "{byte:02x}");
                }
                digits.push(' ');
            }
            let readable = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { *b as char } else { '.' };
            let _ = writeln!(text, "{at:08x}: {digits:<40} {}", line.iter().map(readable).collect::<String>());
        }
        before = Some(line);
        at += line.len() as u64;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lines_are_folded() {
        let mut bytes = b"bindery\n".to_vec();
        bytes.resize(512, 0);
        let text = dump(Area { lba: 1, sectors: 1 }, &bytes);
        assert_eq!(text.lines().next().unwrap(), "00000200: 6269 6e64 6572 790a 0000 0000 0000 0000  bindery.........");
        assert_eq!(text.lines().collect::<Vec<_>>()[2], "*");
        assert_eq!(text.lines().count(), 3);
    }
}
