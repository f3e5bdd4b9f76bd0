//! `bindery explore` on a terminal: the progress line, and Ctrl-C.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use common::terminal::Terminal;
use common::{Dir, bindery, text};

/// An exploration of hours.
const ENDLESS: &str = "explore --model linux-6.12 --faults 9 --preemptions 9 --bound states=0,paths=100000000000";
/// The same, for long enough that progress is shown.
const FOR_A_WHILE: &str = "explore --model linux-6.12 --faults 9 --preemptions 9 --bound states=0,time=1.5";

/// Runs the command with `options` on a terminal; its standard output goes to `out`.
fn on_a_terminal(options: &str, out: &str) -> Terminal {
    Terminal::run(&format!("exec '{}' {options} > '{out}'", env!("CARGO_BIN_EXE_bindery")))
}

fn is_progress(line: &str) -> bool {
    line.contains(" paths, ") && line.contains(" paths/s")
}

#[test]
fn progress_is_one_line_on_a_terminal_and_gone_when_the_exploration_is_over() {
    let dir = Dir::new();
    let mut terminal = on_a_terminal(&FOR_A_WHILE.replace("1.5", "4"), text(&dir.path("out")));
    terminal.watch_until(is_progress);
    assert_eq!(terminal.end(), 1);
    assert_eq!((&terminal.screen.above[..], &*terminal.screen.line), (&[][..], ""));
    let out = std::fs::read_to_string(dir.path("out")).unwrap();
    assert!(out.contains("mode         partial: the time of 4 s was over") && !out.contains('\x1b'), "{out}");
}

/// The words of `text`, without the lines of a tree that it may go on behind.
fn words(text: &str) -> Vec<String> {
    text.replace(['│', '├', '└', '─'], " ").split_whitespace().map(String::from).collect()
}

#[test]
fn output_fits_a_terminal_and_keeps_its_lines_in_a_pipe() {
    for args in ["run", "run --iommu off", "tree", "tree --long", "explore --model linux-5.0-rc5 --replay -"] {
        let mut terminal = Terminal::run(&format!("exec '{}' {args}", env!("CARGO_BIN_EXE_bindery")));
        terminal.end();
        let piped = bindery(args.split(' ')).out;
        assert!(piped.lines().any(|line| line.chars().count() > 80), "{args} has nothing to wrap");
        assert_eq!(terminal.screen.broken, 0, "{args}:\n{}", terminal.screen.above.join("\n"));
        assert_eq!(words(&terminal.screen.above.join("\n")), words(&piped), "{args}");
    }
}

#[test]
fn a_command_to_be_pasted_is_not_wrapped() {
    let mut terminal =
        Terminal::run(&format!("exec '{}' explore --model linux-5.0-rc5-swallowed", env!("CARGO_BIN_EXE_bindery")));
    assert_eq!(terminal.end(), 1);
    let shown = terminal.screen.above.concat();
    let piped = bindery(["explore", "--model", "linux-5.0-rc5-swallowed"]).out;
    let again: Vec<&str> = piped.lines().filter(|line| line.starts_with("   again: ")).collect();
    assert!(!again.is_empty() && again.iter().all(|line| shown.contains(line)), "{shown}");
}

#[test]
fn there_is_no_progress_without_a_terminal_or_with_quiet_or_json() {
    let ran = bindery(FOR_A_WHILE.split(' '));
    assert_eq!((ran.code, &*ran.err), (1, ""));
    for option in ["--quiet", "--json"] {
        let mut terminal = on_a_terminal(&format!("{FOR_A_WHILE} {option}"), "/dev/null");
        assert_eq!(terminal.end(), 1);
        assert_eq!((&terminal.screen.above[..], &*terminal.screen.line), (&[][..], ""), "{option}");
    }
}

#[test]
fn the_first_ctrl_c_ends_the_exploration_with_a_report() {
    let dir = Dir::new();
    let mut terminal = on_a_terminal(ENDLESS, text(&dir.path("out")));
    terminal.watch_until(is_progress);
    terminal.interrupt();
    assert_eq!(terminal.end(), 130);
    assert_eq!((&terminal.screen.above[..], &*terminal.screen.line), (&[][..], ""));
    let out = std::fs::read_to_string(dir.path("out")).unwrap();
    assert!(out.contains("mode         partial: cancelled, the rest is unknown"), "{out}");
    assert!(out.contains("explored     ") && !out.contains("explored     0 paths"), "{out}");
}

/// A pipe without room, and the path under which a program opens its writing end while that is there.
fn full_pipe() -> (PipeReader, PipeWriter, String) {
    /// `O_NONBLOCK`: who finds no room is told so.
    const AT_ONCE: i32 = 0o4000;
    let (reader, writer) = std::io::pipe().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd());
    let mut filler = File::options().write(true).custom_flags(AT_ONCE).open(&path).unwrap();
    for piece in [&[b'.'; 4096][..], b"."] {
        let full = loop {
            if let Err(error) = filler.write(piece) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
    }
    (reader, writer, path)
}

#[test]
fn the_second_ctrl_c_ends_the_program_although_its_report_is_not_out() {
    let (mut reader, writer, full) = full_pipe();
    let mut terminal = on_a_terminal(ENDLESS, &full);
    terminal.watch_until(is_progress);
    terminal.interrupt();
    // The exploration is over, and its report finds no room.
    terminal.watch_until(str::is_empty);
    terminal.interrupt();
    assert_eq!(terminal.end(), 130);
    drop(writer);
    let mut held = Vec::new();
    reader.read_to_end(&mut held).unwrap();
    assert!(held.iter().all(|byte| *byte == b'.'), "no report was written");
}
