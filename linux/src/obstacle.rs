//! Obstacles of a hand-over, with remedies.

use serde::Serialize;

/// The class of an obstacle. It decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Refused by a rule of this tool.
    Policy,
    /// The device or its group cannot be assigned.
    NotViable,
    /// Somebody uses the device.
    InUse,
    /// The device may be in use, and its use cannot be ruled out.
    CannotTell,
}

/// A reason why a device cannot be handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The device that it is about.
    pub device: String,
    /// Its class.
    pub class: Class,
    /// A word for programs: `mounted`, `default-route`.
    pub kind: &'static str,
    /// The obstacle, with names.
    pub what: String,
    /// The remedy.
    pub remedy: String,
    /// True when the caller has overridden it.
    pub overridden: bool,
}

impl Obstacle {
    /// An obstacle of a device.
    pub fn new(
        device: &str,
        class: Class,
        kind: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { device: device.into(), class, kind, what: what.into(), remedy: remedy.into(), overridden: false }
    }

    /// True when `--force-in-use` can override it.
    pub fn is_use(&self) -> bool {
        matches!(self.class, Class::InUse | Class::CannotTell)
    }
}

/// Findings about a device: obstacles, warnings and remarks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Findings {
    /// Obstacles.
    pub obstacles: Vec<Obstacle>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// Remarks.
    pub remarks: Vec<String>,
}

impl Findings {
    /// Adds an obstacle, once.
    pub fn obstacle(&mut self, obstacle: Obstacle) {
        if !self.obstacles.contains(&obstacle) {
            self.obstacles.push(obstacle);
        }
    }

    /// Adds a warning, once.
    pub fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    /// Adds a remark, once.
    pub fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
    }

    /// Adds all that `other` found.
    pub fn add(&mut self, other: Self) {
        other.obstacles.into_iter().for_each(|o| self.obstacle(o));
        other.warnings.into_iter().for_each(|w| self.warn(w));
        other.remarks.into_iter().for_each(|r| self.remark(r));
    }
}
