//! The table of floors, and what still imports upwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

/// Contents of `core/floors.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    /// Top-level modules, lowest floor first.
    pub(super) floors: Vec<Vec<String>>,
    /// Modules that import each other in a circle.
    pub(super) circle: BTreeSet<String>,
    /// For each module that imports from a floor above its own, the modules that it imports and in how many places.
    #[serde(default)]
    pub(super) upward: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Table {
    /// Reads the table at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| wrong(&e))?;
        toml::from_str(&text).map_err(|e| wrong(&e))
    }

    /// The floor that `module` stands on, 0 the lowest.
    pub(super) fn floor(&self, module: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.iter().any(|name| name == module))
    }

    /// Number of places of `from` that may import `to`, which stands above it.
    pub(super) fn allowed(&self, from: &str, to: &str) -> usize {
        self.upward.get(from).and_then(|edges| edges.get(to)).copied().unwrap_or(0)
    }
}
