//! Modules as a graph of imports: its circles, and what it is told against the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::imports::{Import, Source};
use super::table::Table;

/// Modules, and where one imports another.
pub(super) struct Graph {
    modules: BTreeSet<String>,
    /// Places by importing and imported module.
    edges: BTreeMap<(String, String), Vec<Import>>,
}

impl Graph {
    /// Graph of `source`, whose files are shown below `folder`.
    pub(super) fn new(source: Source, folder: &Path) -> Self {
        let mut edges: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for mut import in source.imports {
            import.file = folder.join(&import.file);
            edges.entry((import.from.clone(), import.to.clone())).or_default().push(import);
        }
        Self { modules: source.modules, edges }
    }

    /// Circles, each with its modules: everything in one reaches everything else in it.
    fn circles(&self) -> Vec<Vec<&str>> {
        let mut left: Vec<&str> = self.modules.iter().map(String::as_str).collect();
        let mut circles = Vec::new();
        while let Some(module) = left.pop() {
            let below = self.reached_from(module);
            let (mut circle, rest): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|other| below.contains(other) && self.reached_from(other).contains(module));
            left = rest;
            if !circle.is_empty() {
                circle.push(module);
                circles.push(circle);
            }
        }
        circles.reverse();
        circles
    }

    /// Modules that `module` imports, directly or through others.
    fn reached_from<'a>(&'a self, module: &'a str) -> BTreeSet<&'a str> {
        let (mut reached, mut due) = (BTreeSet::new(), vec![module]);
        while let Some(from) = due.pop() {
            let next = self.edges.keys().filter(|(f, _)| f == from).map(|(_, to)| to.as_str());
            due.extend(next.filter(|to| reached.insert(*to)).collect::<Vec<_>>());
        }
        reached
    }

    /// Edges to a higher floor.
    fn upward<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = (&'a str, &'a str, &'a [Import])> {
        self.edges.iter().filter_map(|((from, to), places)| {
            let up = table.floor(from)? < table.floor(to)?;
            up.then_some((from.as_str(), to.as_str(), places.as_slice()))
        })
    }

    /// Everything that is not as `table` says, one line each.
    pub(super) fn problems(&self, table: &Table) -> Vec<String> {
        let mut problems = Vec::new();
        let mut named = BTreeSet::new();
        for name in table.floors.iter().flatten() {
            if !named.insert(name) {
                problems.push(format!("`{name}` stands on two floors: leave it on one"));
            }
        }
        problems.extend(
            self.modules.iter().filter(|m| !named.contains(m)).map(|m| format!("`{m}` stands on no floor: place it")),
        );
        problems.extend(
            named
                .iter()
                .filter(|m| !self.modules.contains(**m))
                .map(|m| format!("there is no module `{m}`: remove it")),
        );
        let mut seen = BTreeSet::new();
        for (from, to, places) in self.upward(table) {
            seen.insert((from, to));
            let (allowed, count) = (table.allowed(from, to), places.len());
            if count > allowed {
                let places: Vec<String> = places.iter().map(place).collect();
                problems.push(format!(
                    "`{from}` imports `{to}`, which stands above it, in {count} places, {allowed} allowed: {}",
                    places.join(", ")
                ));
            } else if count < allowed {
                problems.push(format!(
                    "`{from}` imports `{to}` in {count} places, {allowed} allowed: lower the number to {count}"
                ));
            }
        }
        for (from, edges) in &table.upward {
            let gone = edges.keys().filter(|to| !seen.contains(&(from.as_str(), to.as_str())));
            problems.extend(gone.map(|to| format!("`{from}` does not import `{to}` upwards: remove it from the list")));
        }
        let circle: BTreeSet<String> = self.circles().into_iter().flatten().map(str::to_owned).collect();
        problems.extend(
            circle
                .difference(&table.circle)
                .map(|m| format!("`{m}` is now in a circle: `cargo xtask floors` prints it")),
        );
        problems.extend(
            table.circle.difference(&circle).map(|m| format!("`{m}` is in no circle: remove it from the list")),
        );
        problems
    }

    /// Circles and imports upwards, for people.
    pub(super) fn text(&self, table: &Table) -> String {
        let mut text = String::new();
        let circles = self.circles();
        for circle in &circles {
            let _ = writeln!(text, "circle of {} modules: {}", circle.len(), circle.join(", "));
            for ((from, to), places) in &self.edges {
                if circle.contains(&from.as_str()) && circle.contains(&to.as_str()) {
                    let up = table.floor(from) < table.floor(to);
                    let _ = writeln!(text, "  {from} -> {to}: {}{}", places.len(), if up { ", upwards" } else { "" });
                    // Downward edges are as they should be; to open the circle is to take the others out.
                    if table.floor(from) <= table.floor(to) {
                        for import in places {
                            let _ = writeln!(text, "      {}", place(import));
                        }
                    }
                }
            }
        }
        let (edges, places) = self.upward(table).fold((0, 0), |(e, n), (_, _, places)| (e + 1, n + places.len()));
        let inside: usize = circles.iter().map(Vec::len).sum();
        let _ = writeln!(
            text,
            "{inside} of {} modules in a circle; {edges} edges upwards, in {places} places",
            self.modules.len()
        );
        text
    }

    /// Circles and all imports, for programs.
    pub(super) fn json(&self, table: &Table) -> Value {
        let edges = self.edges.iter().map(|((from, to), places)| {
            let places = places.iter().map(|p| json!({ "file": p.file, "line": p.line, "path": p.path }));
            json!({
                "from": from,
                "to": to,
                "upward": table.floor(from) < table.floor(to),
                "places": places.collect::<Vec<_>>(),
            })
        });
        json!({
            "floors": table.floors,
            "modules": self.modules,
            "circles": self.circles(),
            "edges": edges.collect::<Vec<_>>(),
            "problems": self.problems(table),
        })
    }
}

fn place(import: &Import) -> String {
    format!("{}:{} {}", import.file.display(), import.line, import.path)
}
