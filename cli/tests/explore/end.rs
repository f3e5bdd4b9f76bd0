//! Explorations that end early.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::common::{bindery_to, closed_pipe, command};
use super::{RC5, broken, json};

#[test]
fn a_reader_that_leaves_ends_it_quietly_with_the_exit_code_of_what_was_found() {
    for more in [&[][..], &["--json"], &["--replay", "-"]] {
        let ran = bindery_to(closed_pipe(), ["explore", "--model", RC5].iter().chain(more));
        assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{more:?}");
    }
}

/// Hundredths of a second for which process `id` has had a processor (`proc_pid_stat(5)`: utime and stime).
fn worked(id: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// An exploration of hours, and a signal once it runs.
fn interrupted(signal: &str, args: &[&str]) -> (i32, String, String) {
    let endless =
        ["--model", "linux-6.12", "--faults", "9", "--preemptions", "9", "--bound", "states=0,paths=100000000000"];
    let mut child = command()
        .arg("explore")
        .args(endless)
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Until the handler is there, a signal ends the program without a report, and the exploration has to come to a finding.
    while worked(child.id()) < 150 {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code().expect("ended by itself"), out, err)
}

#[test]
fn an_interrupt_ends_the_exploration_with_a_report() {
    let (code, out, err) = interrupted("-INT", &[]);
    assert_eq!((code, err.as_str()), (130, ""), "{out}");
    assert!(out.contains("mode         partial: cancelled, the rest is unknown"), "{out}");
    assert!(out.contains("BROKEN P7") && out.contains("the shortest known path"), "{out}");
    let (code, out, _) = interrupted("-TERM", &["--json", "--shard", "1/2"]);
    let report = json(&out);
    assert_eq!((code, &report["mode"], &report["why"]), (130, &json("\"partial\""), &json("\"cancelled\"")));
    assert!(report["paths"].as_u64().unwrap() > 0);
}

#[test]
fn a_bound_that_ends_the_exploration_is_named_and_random_paths_follow_on_request() {
    let out = broken(&["--model", RC5, "--bound", "paths=5", "--threads", "1"]);
    assert!(out.contains("mode         partial: the bound of 5 paths was met"), "{out}");
    let sampled = |seed| {
        let args = [
            "--model",
            RC5,
            "--bound",
            "paths=5,states=100",
            "--paths",
            "50",
            "--seed",
            seed,
            "--json",
            "--threads",
            "1",
        ];
        json(&broken(&args))
    };
    let report = sampled("7");
    assert_eq!((&report["mode"], &report["samples"], &report["seed"]), (&json("\"sampled\""), &json("50"), &json("7")));
    assert_eq!(report["coverage"], sampled("7")["coverage"], "the same seed draws the same paths");
    assert_ne!(report["coverage"], sampled("8")["coverage"]);
}
