//! Running a script, one line after the other.

use std::fmt::Write as _;

use bindery_sim::disk::SECTOR;

use super::{Command, Line, Script};
use crate::failure::Result;
use crate::output::{HEADING, PLAIN, WARNING, count};
use crate::record;
use crate::reporter::Reporter;
use crate::session::{Area, Session, capacity, read, write};
use crate::shell;
use crate::story::verdict;

/// Most sectors that one `read` prints.
const MOST: u64 = 2048;

/// Makes the machine, then runs every line. A line whose outcome is not the one it says is a failure; the lines behind it
/// run all the same, as in a shell.
pub fn run(script: &Script, session: &mut Session, reporter: &mut Reporter<'_>) -> Result<()> {
    reporter.begin("script", 1, "Script")?;
    session.register_drivers();
    session.host.settle();
    for line in &script.lines {
        let prompt = reporter.output().paint(HEADING, format_args!("$ {}", line.text));
        reporter.text(prompt)?;
        let outcome = execute(session, &line.command);
        if let (Err(_), Command::Write { lba, bytes }) = (&outcome, &line.command) {
            let area = Area { lba: *lba, sectors: bytes.len() as u64 / SECTOR };
            let end = session.port().and_then(|p| capacity(&p).ok()).unwrap_or(0);
            if area.lba.checked_add(area.sectors).is_some_and(|last| last <= end) {
                session.check_host_io(area, bytes)?;
            }
        }
        let (ok, output) = match &outcome {
            Ok(output) => (true, output.as_str()),
            Err(error) => (false, error.as_str()),
        };
        reporter.mark(&record::Line::Command { step: "script", line: line.number, command: &line.text, ok, output })?;
        answer(line, &outcome, reporter)?;
        reporter.end()?;
    }
    reporter.gap()?;
    reporter.text(count(script.lines.len(), "command"))?;
    verdict::run_quietly(session, reporter)
}

fn answer(line: &Line, outcome: &std::result::Result<String, String>, reporter: &mut Reporter<'_>) -> Result<()> {
    let (style, text) = match outcome {
        Ok(text) => (PLAIN, text),
        Err(text) => (WARNING, text),
    };
    for text in text.lines() {
        let text = reporter.output().paint(style, text);
        reporter.text(text)?;
    }
    match outcome {
        Ok(_) if line.must_fail => reporter.fail(&format!("line {}: {} was to be refused", line.number, line.text)),
        Err(error) if !line.must_fail => reporter.fail(&format!("line {}: {error}", line.number)),
        _ => Ok(()),
    }
}

fn execute(session: &Session, command: &Command) -> std::result::Result<String, String> {
    let done = match command {
        Command::Echo { value, path } => {
            shell::echo(&session.control, value, path).map(|()| String::new()).map_err(|e| e.to_string())
        }
        Command::Cat(path) => shell::cat(&session.control, path).map_err(|e| e.to_string()),
        Command::Ls(path) => shell::ls(&session.control, path).map_err(|e| e.to_string()),
        Command::Read { lba, count } => sectors(session, *lba, *count),
        Command::Write { lba, bytes } => {
            let area = Area { lba: *lba, sectors: bytes.len() as u64 / SECTOR };
            let port = session.port().ok_or_else(|| no_disk(session))?;
            write(&port, area, bytes).map(|()| format!("{} written", count(area.sectors as usize, "sector")))
        }
    };
    // What the command set in motion comes to rest before the next one.
    session.host.settle();
    done
}

fn sectors(session: &Session, lba: u64, count: u64) -> std::result::Result<String, String> {
    if count > MOST {
        return Err(format!("read: {count} sectors are more than the {MOST} that one command prints"));
    }
    let port = session.port().ok_or_else(|| no_disk(session))?;
    let bytes = read(&port, Area { lba, sectors: count })?;
    // The disk has these sectors, so that their place in bytes fits.
    Ok(dump(lba * SECTOR, &bytes))
}

fn no_disk(session: &Session) -> String {
    match session.sata() {
        Some(sata) => {
            let holder = sata.driver().unwrap_or("nobody");
            format!("no disk: {} is held by {holder}", sata.name())
        }
        None => "no disk: the machine has no disk controller".into(),
    }
}

/// Sixteen bytes a line, as `xxd` prints them; a run of equal lines is one `*`.
fn dump(mut at: u64, bytes: &[u8]) -> String {
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
        let text = dump(512, &bytes);
        assert_eq!(text.lines().next().unwrap(), "00000200: 6269 6e64 6572 790a 0000 0000 0000 0000  bindery.........");
        assert_eq!(text.lines().collect::<Vec<_>>()[2], "*");
        assert_eq!(text.lines().count(), 3);
    }
}
