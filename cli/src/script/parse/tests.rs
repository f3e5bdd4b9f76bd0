//! Tests of the parser.

use super::*;
use crate::failure::Failure;
use crate::script::{Check, Command, Drivers, GuestCheck, GuestCommand, ImageCheck, Reads, Transfer};
use crate::session::{Area, GuestKind};

fn lines(text: &str) -> Vec<Line> {
    parse("s", text).unwrap().steps.into_iter().flat_map(|s| s.lines).collect()
}

fn commands(text: &str) -> Vec<Command> {
    let command = |line: Line| match line.action {
        Action::Run(command) => command,
        other => panic!("{other:?}"),
    };
    lines(text).into_iter().map(command).collect()
}

fn wrong(text: &str) -> (usize, String, String) {
    let Err(Failure::Script(e)) = parse("s", text) else { panic!("{text:?} was understood") };
    let place = text.get(e.span.offset()..e.span.offset() + e.span.len()).unwrap_or("?");
    (e.line, e.what.clone(), place.into())
}

#[test]
fn commands_comments_and_blank_lines_are_told_apart() {
    let seen = lines("# first\n\n  cat /sys/a\r\n! ls /sys/b\n@? settle\n");
    let line = |number, text: &str, quiet, wanted, command| {
        let (text, action) = (text.into(), Action::Run(command));
        Line { number, text, quiet, wanted, action }
    };
    assert_eq!(
        seen,
        [
            line(3, "cat /sys/a", false, Wanted::Success, Command::Cat { path: "/sys/a".into() }),
            line(4, "! ls /sys/b", false, Wanted::Error, Command::Ls { path: "/sys/b".into() }),
            line(5, "settle", true, Wanted::Any, Command::Settle),
        ]
    );
}

#[test]
fn lines_before_the_first_step_are_a_step_of_their_own() {
    let script = parse("s", "settle\nstep a First step\nsettle\nsettle\nstep b Second\n").unwrap();
    let seen: Vec<_> = script.steps.iter().map(|s| (&*s.name, &*s.title, s.implicit, s.lines.len())).collect();
    assert_eq!(seen, [("script", "Script", true, 1), ("a", "First step", false, 2), ("b", "Second", false, 0)]);
}

#[test]
fn checks_are_understood_with_and_without_operands() {
    let seen = lines(
        "if guest asked\nelse\nend\nexpect dma-blocked\nrequire driver none\nexpect image reads 1 2 a\n\
        expect reads 1 2\nexpect guest reads 1 2 a\nrequire guest\nexpect output a  > b\n",
    );
    let area = Area { lba: 1, sectors: 2 };
    let expected = [
        Action::If(Check::Guest { check: Some(GuestCheck::Asked) }),
        Action::Else,
        Action::End,
        Action::Expect(Check::DmaBlocked),
        Action::Require(Check::Driver { name: "none".into() }),
        Action::Expect(Check::Image(ImageCheck::Reads(Reads { area, name: Some("a".into()) }))),
        Action::Expect(Check::Reads(Reads { area, name: None })),
        Action::Expect(Check::Guest { check: Some(GuestCheck::Reads(Reads { area, name: Some("a".into()) })) }),
        Action::Require(Check::Guest { check: None }),
        Action::Expect(Check::Output { text: "a  > b".into() }),
    ];
    assert_eq!(seen.into_iter().map(|l| l.action).collect::<Vec<_>>(), expected);
}

#[test]
fn echo_takes_its_value_as_a_shell_would() {
    let echo = |value: &str| Command::Echo { value: value.into(), path: "/p".into() };
    for (text, value) in [
        ("echo a.b > /p", "a.b"),
        ("echo a.b>/p", "a.b"),
        ("echo -n a > /p", "a"),
        ("echo > /p", ""),
        ("echo \"\" > /p", ""),
        ("echo 'a > b' > /p", "a > b"),
    ] {
        assert_eq!(commands(text), [echo(value)], "{text}");
    }
}

#[test]
fn sectors_are_filled_up_and_bytes_may_be_hexadecimal() {
    let written = |text: &str| match commands(text).remove(0) {
        Command::Host(Transfer::Write { lba, text }) => (lba, text.len(), text[..16].to_vec()),
        other => panic!("{other:?}"),
    };
    assert_eq!(written("write 7 hello  world"), (7, 512, b"hello  world\0\0\0\0".to_vec()));
    assert_eq!(written("write 7 -h"), (7, 512, b"-h\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()));
    assert_eq!(written("write 0x10 0xdead beef"), (16, 512, b"\xde\xad\xbe\xef\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()));
    assert_eq!(commands("read 5"), [Command::Host(Transfer::Read(Area { lba: 5, sectors: 1 }))]);
    assert_eq!(commands("image read 5 0x20"), [Command::Image(Transfer::Read(Area { lba: 5, sectors: 32 }))]);
}

#[test]
fn commands_of_two_words_are_understood() {
    let start = |guest| Command::Guest(GuestCommand::Start { guest });
    let fill = Transfer::Fill { area: Area { lba: 1, sectors: 2 }, name: "a".into() };
    assert_eq!(
        commands(
            "guest start cooperative\nguest start unresponsive\nguest stop\nguest fill 1 2 a\ndrivers add\ndrivers remove"
        ),
        [
            start(GuestKind::Cooperative),
            start(GuestKind::Unresponsive),
            Command::Guest(GuestCommand::Stop),
            Command::Guest(GuestCommand::Transfer(fill)),
            Command::Drivers(Drivers::Add),
            Command::Drivers(Drivers::Remove),
        ]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_place() {
    let says = |line: usize, what: &str, place: &str| (line, what.to_string(), place.to_string());
    assert_eq!(wrong("\n  frobnicate it\n"), says(2, "unknown command \"frobnicate\"", "frobnicate"));
    assert_eq!(wrong("echo value"), says(1, "echo without > PATH", "echo value"));
    assert_eq!(wrong("echo"), says(1, "echo without > PATH", "echo"));
    assert_eq!(wrong("echo a >> /p"), says(1, ">> has no meaning for the control tree", ">>"));
    assert_eq!(wrong("echo a >"), says(1, "echo without PATH", "echo"));
    assert_eq!(wrong("cat /a /b"), says(1, "too many words", "/b"));
    assert_eq!(wrong("ls"), says(1, "ls without PATH", "ls"));
    assert_eq!(wrong("read -1"), says(1, "\"-1\" is not a number", "-1"));
    assert_eq!(wrong("read 1 0"), says(1, "no sectors", "0"));
    assert_eq!(wrong("write 1"), says(1, "write without TEXT", "write"));
    assert_eq!(wrong("write 1 0x"), says(1, "nothing to write", "0x"));
    assert_eq!(wrong("write 1 0xabc"), says(1, "not a whole number of hexadecimal bytes", "0xabc"));
    assert_eq!(wrong("!"), says(1, "a command is missing behind the prefix", "!"));
    assert_eq!(wrong("? !ls /"), says(1, "a command that may fail (?) need not (!)", "? !ls /"));
    assert_eq!(wrong("grüße > /p").2, "grüße");
    assert_eq!(wrong("guest frob").1, "unknown command \"frob\"");
    assert_eq!(wrong("fill 0 2049 a"), says(1, "2049 sectors are more than 2048", "2049"));
    assert_eq!(wrong("fill 0"), says(1, "fill without COUNT, NAME", "fill"));
    assert_eq!(wrong("guest start lazy").1, "no such guest; there are: cooperative, unresponsive");
    assert_eq!(wrong("drivers add now"), says(1, "too many words", "now"));
    assert_eq!(wrong("--help"), says(1, "unknown command \"--help\"", "--help"));
    assert_eq!(wrong("guest"), says(1, "unknown command \"guest\"", "guest"));
    assert_eq!(wrong("! note a"), says(1, "note takes no prefix", "note"));
    assert_eq!(wrong("step"), says(1, "step without NAME, TITLE", "step"));
    assert_eq!(wrong("settle\nend"), says(2, "end without if", "end"));
    assert_eq!(wrong("if guest\nelse\nelse"), says(3, "else without if", "else"));
    assert_eq!(wrong("if guest\nif guest"), says(2, "if inside if", "if"));
    assert_eq!(wrong("settle\n if guest\nsettle\n"), says(2, "if without end", "if guest"));
    assert_eq!(wrong("expect image reads 0 1"), says(1, "reads without NAME", "reads"));
    assert!(wrong("expect rain").1.contains("no such check; there are: driver NAME"));
    assert!(wrong("expect").1.contains("no such check; there are: driver NAME"));
    assert!(wrong("expect image ledger").1.contains("no such check; there are: driver NAME"));
    assert!(wrong("show weather").1.contains("no such facts; there are: machine"));
}

#[test]
fn help_and_the_documentation_name_every_command_and_every_check() {
    fn names<'g>(grammar: &'g clap::Command, found: &mut Vec<&'g str>) {
        for command in grammar.get_subcommands() {
            found.push(command.get_name());
            names(command, found);
        }
    }
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/run.md")).unwrap();
    let docs = docs.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(" ");
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_ascii_lowercase() && c != '-').map(String::from).collect()
    };
    let (help, docs) = (words(&format!("{GRAMMAR} {CHECKS}")), words(&docs));
    let (grammar, mut found) = (grammar(), Vec::new());
    names(&grammar, &mut found);
    assert!(found.contains(&"fill") && found.contains(&"dma-blocked") && found.contains(&"released"));
    for name in found {
        assert!(help.iter().any(|word| word == name), "the help does not name {name}");
        assert!(docs.iter().any(|word| word == name), "docs/run.md does not name {name}");
    }
}
