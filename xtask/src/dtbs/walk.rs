//! The independent reader: `dtc` turns a blob back into source, and a line-by-line walk over that sorts its nodes.
//!
//! It shares no code with the core, so the rules stand here a second time, in other words.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::outcome::Trouble;
use crate::tool::output;

/// Number of times that each path stands among the nodes with a `compatible` that are enabled.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Count {
    /// Below the root or a bus: devices.
    pub(super) devices: BTreeMap<String, usize>,
    /// Elsewhere.
    pub(super) others: BTreeMap<String, usize>,
}

#[derive(Default)]
struct Open {
    path: String,
    compatible: Option<Vec<String>>,
    disabled: bool,
    /// Nodes right below it are devices.
    bus: bool,
    sorted: bool,
}

/// Decompiles a blob.
pub(super) fn source(blob: &Path) -> Result<String, Trouble> {
    output(Command::new("dtc").args(["-q", "-I", "dtb", "-O", "dts"]).arg(blob))
}

/// Sorts the nodes of source as `dtc` writes it: one property, opening or closing brace a line, properties first.
pub(super) fn sort(source: &str) -> Result<Count, String> {
    let mut count = Count::default();
    let mut open: Vec<Open> = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some(name) = line.strip_suffix('{') {
            settle(&mut open, &mut count);
            let name = name.trim().rsplit(": ").next().unwrap_or_default();
            let path = match open.last() {
                None => String::new(),
                Some(parent) => format!("{}/{name}", parent.path),
            };
            open.push(Open { path, ..Open::default() });
        } else if line == "};" {
            settle(&mut open, &mut count);
            open.pop().ok_or(line)?;
        } else if let Some(node) = open.last_mut() {
            let (name, value) =
                line.trim_end_matches(';').split_once(" = ").unwrap_or((line.trim_end_matches(';'), ""));
            match name.rsplit(": ").next().unwrap_or_default() {
                "compatible" => node.compatible = Some(texts(value)),
                "status" => node.disabled = !matches!(value, "\"okay\"" | "\"ok\""),
                _ => {}
            }
        }
    }
    if open.is_empty() { Ok(count) } else { Err("an open node at the end".into()) }
}

/// Sorts the innermost open node, once all its properties are known.
fn settle(open: &mut [Open], count: &mut Count) {
    let depth = open.len();
    let Some((node, above)) = open.split_last_mut() else { return };
    if node.sorted {
        return;
    }
    node.sorted = true;
    node.disabled |= above.last().is_some_and(|p| p.disabled);
    node.bus = depth == 1;
    let (Some(words), false) = (&node.compatible, node.disabled) else { return };
    let Some(parent) = above.last() else { return };
    let has = |any: &[&str]| words.iter().any(|w| any.contains(&w.as_str()));
    let skipped = has(&["operating-points-v2"]);
    let platform = parent.bus && !skipped;
    let memory = has(&["qcom,rmtfs-mem", "qcom,cmd-db", "qcom,smem", "ramoops", "nvmem-rmem", "google,open-dice"]);
    let device = platform || !skipped && (memory || parent.path == "/firmware");
    node.bus = platform && has(&["simple-bus", "simple-mfd", "isa", "arm,amba-bus"]) && !has(&["arm,primecell"]);
    *if device { &mut count.devices } else { &mut count.others }.entry(node.path.clone()).or_default() += 1;
}

/// The quoted texts in a value. `dtc` writes a zero byte within a text as `\0`.
fn texts(value: &str) -> Vec<String> {
    value.split('"').skip(1).step_by(2).flat_map(|s| s.split("\\0")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_sorted_by_what_stands_above_them() {
        let source = r#"
/dts-v1/;
/ {
	compatible = "board";
	a: soc {
		compatible = "vendor,soc\0simple-bus";
		i2c@1 {
			compatible = "i2c";
			chip@2 {
				compatible = "chip";
			};
		};
		off {
			compatible = "off";
			status = "disabled";
			below {
				compatible = "below";
			};
		};
	};
};
"#;
        let count = sort(source).unwrap();
        assert_eq!(count.devices.keys().collect::<Vec<_>>(), ["/soc", "/soc/i2c@1"]);
        assert_eq!(count.others.keys().collect::<Vec<_>>(), ["/soc/i2c@1/chip@2"]);
    }
}
