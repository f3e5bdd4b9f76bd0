//! `bindctl status` and `bindctl recover`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::Exit;
use super::apply;
use super::args::Cli;
use super::output::{SCHEMA, print, print_json};
use super::run::{Failure, Host, needs_root, store};
use crate::state::{self, Journal, Recovered, StoreError};

pub(super) fn status(cli: &Cli, host: &Host, desired: Option<&PathBuf>) -> Result<Exit, Failure> {
    let store = store(cli);
    let boot = state::boot(host.face());
    let mut rows = Vec::new();
    for given in store.given()? {
        for device in &given.devices {
            let wanted = given.driver(device).unwrap_or_default().to_owned();
            let actual = given.place(device).and_then(|place| place.driver(host.face()));
            let state = if given.boot != boot {
                "the machine was rebooted"
            } else if actual.as_deref() == Some(wanted.as_str()) {
                "as wanted"
            } else {
                "drift"
            };
            rows.push((device.clone(), wanted, actual, state));
        }
    }
    let mut unfinished = Vec::new();
    for path in store.unfinished()? {
        let resumed = Journal::read(&path).map_err(StoreError::Log)?;
        unfinished.push(format!("{} of {}", resumed.header.purpose, resumed.header.devices.join(", ")));
    }
    let drifted = apply::drift(cli, host, desired)?;
    let drift = !unfinished.is_empty() || !drifted.is_empty() || rows.iter().any(|(.., state)| *state != "as wanted");
    if cli.json {
        let rows = rows.iter().map(|(device, wanted, actual, state)| {
            json!({ "device": device, "wanted": wanted, "actual": actual, "state": state })
        });
        print_json(&json!({
            "schema": SCHEMA,
            "drift": drift,
            "given": rows.collect::<Vec<_>>(),
            "unfinished": unfinished,
            "not_as_desired": drifted
                .iter()
                .map(|(device, wanted, actual)| json!({ "device": device, "wanted": wanted, "actual": actual }))
                .collect::<Vec<_>>(),
        }))?;
    } else {
        let mut lines: Vec<String> = rows
            .iter()
            .map(|(device, wanted, actual, state)| {
                format!("{device}  wanted {wanted}, is {}: {state}", actual.as_deref().unwrap_or("without a driver"))
            })
            .collect();
        lines.extend(unfinished.iter().map(|what| format!("unfinished: {what}; run `bindctl recover`")));
        lines.extend(drifted.iter().map(|(device, wanted, actual)| {
            format!("{device}  desired {wanted}, is {}: drift", actual.as_deref().unwrap_or("without a driver"))
        }));
        if lines.is_empty() {
            lines.push("nothing is given, and all is as desired".into());
        }
        print(&lines)?;
    }
    Ok(if drift { Exit::Drift } else { Exit::Done })
}

pub(super) fn recover(cli: &Cli, host: &Host, timeout: u64) -> Result<Exit, Failure> {
    let store = store(cli);
    let pending = store.unfinished()?;
    if !pending.is_empty() && host.face().has_kernel() {
        needs_root(host.face())?;
        store.prepare()?;
    }
    let mut exit = Exit::Done;
    let mut outcomes = Vec::new();
    let mut lines = Vec::new();
    for path in pending {
        if !host.face().has_kernel() {
            return Err(Failure::Usage("a directory has no kernel behind it: there is nothing to recover".into()));
        }
        let timeout = Duration::from_secs(timeout);
        let (resumed, outcome) = state::recover(host.face(), &store, &path, timeout, &mut |_, _, _, _| {})?;
        let devices = resumed.header.devices.join(", ");
        let purpose = &resumed.header.purpose;
        let (code, word, details) = match outcome {
            Recovered::Finished => (Exit::Done, "finished", Vec::new()),
            Recovered::Undone => (Exit::Done, "undone", Vec::new()),
            Recovered::Rebooted { now } => {
                let details = now
                    .into_iter()
                    .map(|(device, driver)| format!("{device} is now on {}", driver.as_deref().unwrap_or("no driver")));
                (Exit::Done, "void: the machine was rebooted", details.collect())
            }
            Recovered::Failed(failed) => (Exit::RollbackFailed, "not undone", failed),
            Recovered::Busy(who) => (Exit::TimedOut, "still under way", vec![who]),
        };
        if code != Exit::Done {
            exit = code;
        }
        lines.push(format!("{purpose} of {devices}: {word}"));
        lines.extend(details.iter().map(|text| format!("  {text}")));
        outcomes.push(
            json!({ "purpose": purpose, "devices": resumed.header.devices, "outcome": word, "details": details }),
        );
    }
    let boot = state::boot(host.face());
    for given in store.given()?.iter().filter(|given| given.boot != boot && host.face().has_kernel()) {
        store.forget(&given.id)?;
        lines.push(format!("record of {}: void, the machine was rebooted", given.devices.join(", ")));
    }
    if cli.json {
        print_json(&json!({ "schema": SCHEMA, "recovered": outcomes, "exit": exit as u8 }))?;
    } else {
        if lines.is_empty() {
            lines.push("nothing to recover".into());
        }
        print(&lines)?;
    }
    Ok(exit)
}
