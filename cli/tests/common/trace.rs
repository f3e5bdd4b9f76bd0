//! Reading a trace as Perfetto does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// Contents of a trace, each with its machine and device: `host ee300000.sata`.
#[derive(Default)]
pub struct Trace {
    /// `B` to `E`.
    pub slices: BTreeSet<(String, String)>,
    /// `b` to `e`.
    pub spans: BTreeSet<(String, String)>,
    /// `i`, in the order of time.
    pub instants: Vec<(String, String)>,
    /// Time of each instant.
    pub times: Vec<f64>,
}

/// Reads the trace in `path`: every track is named before it is used, times ascend, and what begins ends.
#[track_caller]
pub fn read(path: &Path) -> Trace {
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut trace = Trace::default();
    let mut machines: BTreeMap<String, String> = BTreeMap::new();
    let mut devices: BTreeMap<String, String> = BTreeMap::new();
    let mut open: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut lent = BTreeSet::new();
    let mut last = 0.0;
    for e in json["traceEvents"].as_array().unwrap() {
        let track = format!("{} {}", e["pid"], e["tid"]);
        let (ph, name) = (e["ph"].as_str().unwrap(), e["name"].as_str().unwrap().to_string());
        if ph == "M" {
            let named = e["args"]["name"].as_str().unwrap();
            if name == "process_name" {
                machines.insert(e["pid"].to_string(), named.to_owned());
            } else {
                devices.insert(track, format!("{} {named}", machines[&e["pid"].to_string()]));
            }
            continue;
        }
        let device = devices.get(&track).unwrap_or_else(|| panic!("a track is named before it is used: {e}")).clone();
        let ts = e["ts"].as_f64().unwrap();
        assert!(ts >= last, "{e}");
        last = ts;
        // An `id` is that of the whole trace, whichever process has it.
        let id = format!("{} {}", e["cat"], e["id"]);
        match ph {
            "B" => open.entry(track).or_default().push(name),
            "E" => {
                assert_eq!(open.get_mut(&track).and_then(Vec::pop).as_ref(), Some(&name), "{e}");
                trace.slices.insert((device, name));
            }
            "b" => assert!(lent.insert(id), "{e}"),
            "e" => {
                assert!(lent.remove(&id), "{e}");
                trace.spans.insert((device, name));
            }
            "i" => {
                trace.instants.push((device, name));
                trace.times.push(ts);
            }
            other => panic!("{other}"),
        }
    }
    assert!(open.values().all(Vec::is_empty) && lent.is_empty(), "{open:?} {lent:?}");
    trace
}
