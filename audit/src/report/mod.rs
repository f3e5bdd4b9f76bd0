//! The result as text, JSON and `JUnit`.

mod json;
mod junit;
mod text;

use std::sync::Arc;

use crate::model::{Fact, Finding, Life, Model, Verdict};
use crate::shape::{Counts, Place};

pub use json::SCHEMA;
pub use text::{explain, rules};

/// A file that was read.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// Kinds of its lines.
    #[serde(flatten)]
    pub counts: Counts,
}

/// A device's lives.
#[derive(Debug)]
pub struct DeviceReport {
    /// Name.
    pub name: Arc<str>,
    /// Lives, oldest first.
    pub lives: Vec<Life>,
}

/// The result of an audit.
#[derive(Debug)]
pub struct Report {
    /// Files, in the order in which they were read.
    pub files: Vec<FileReport>,
    /// Devices that something was found about, by name.
    pub devices: Vec<DeviceReport>,
    /// Findings that no device can be charged with.
    pub loose: Vec<Finding>,
    /// Facts that no device can be charged with.
    pub facts: Vec<Fact>,
    /// Events that were lost, as far as the files say.
    pub lost: u64,
    /// Devices beyond those that are followed.
    pub untold: u64,
}

impl Report {
    pub(crate) fn new(model: Model, files: Vec<FileReport>) -> Self {
        let Model { devices, loose, facts, lost, untold, suppressed, .. } = model;
        let mut facts = facts;
        for (what, cite, _) in suppressed {
            let words =
                format!("{} messages of {} were suppressed; whose they were is not known", what.count, what.function);
            facts.push(Fact { words, cites: vec![cite] });
        }
        let mut devices: Vec<DeviceReport> =
            devices.into_iter().map(|device| DeviceReport { name: device.name.clone(), lives: device.past }).collect();
        devices.retain(|device| !device.lives.is_empty());
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        Self { files, devices, loose, facts, lost, untold }
    }

    /// The verdict on everything.
    pub fn verdict(&self) -> Verdict {
        let lives = self.devices.iter().flat_map(|device| &device.lives).map(Life::verdict);
        lives.chain(self.loose.iter().map(|finding| finding.verdict)).max().unwrap_or(Verdict::NothingToJudge)
    }

    /// The exit code: 0 proved clean, 1 a violation, 3 cannot tell or nothing to judge.
    pub fn exit_code(&self) -> u8 {
        match self.verdict() {
            Verdict::Proved => 0,
            Verdict::Violated => 1,
            Verdict::CannotTell | Verdict::NothingToJudge => 3,
        }
    }

    /// `FILE:LINE`, or the line alone where there is one file.
    fn place(&self, place: Place) -> String {
        if self.files.len() > 1 {
            let name = self.files.get(place.file as usize).map_or("?", |file| file.name.as_str());
            format!("{name}:{}", place.line)
        } else {
            place.line.to_string()
        }
    }
}
