//! Logs in the shapes in which people paste them: lines made up after public reports, each with the verdict that was stated
//! before the auditor was run. docs/audit-shapes.md lists the sources.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod dma;
mod faults;
mod kernels;
mod life;
mod others;
mod places;
mod prefixes;
mod recordings;
mod reports;
mod silence;
mod tracers;
mod traces;
mod wrappers;

use common::audit;

/// The verdict on a whole file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Want {
    /// These rules are violated.
    Violated(&'static [&'static str]),
    CannotTell,
    Nothing,
}
use Want::{CannotTell, Nothing, Violated};

#[derive(Clone, Copy)]
struct Shape {
    /// The report after which it is made.
    source: &'static str,
    text: &'static str,
    want: Want,
    /// Must be said.
    says: &'static [&'static str],
    /// Must not be said.
    hides: &'static [&'static str],
}

fn wanted(shape: &Shape) -> Result<(), String> {
    let audited = audit(shape.text);
    let (want, code) = match shape.want {
        Violated(_) => ("violated", 1),
        CannotTell => ("cannot tell", 3),
        Nothing => ("nothing to judge", 3),
    };
    let told = (audited.report.verdict().to_string(), audited.report.exit_code());
    if told != (want.to_owned(), code) {
        return Err(format!("wanted {want} ({code}), and it is {} ({})\n{}", told.0, told.1, audited.text));
    }
    if let Violated(rules) = shape.want {
        let found = audited.violated();
        if found != rules {
            return Err(format!("wanted {rules:?}, and it is {found:?}\n{}", audited.text));
        }
    }
    if let Some(word) = shape.says.iter().find(|word| !audited.text.contains(**word)) {
        return Err(format!("{word:?} is not said\n{}", audited.text));
    }
    shape
        .hides
        .iter()
        .find(|word| audited.text.contains(**word))
        .map_or(Ok(()), |word| Err(format!("{word:?} is said\n{}", audited.text)))
}

#[test]
fn each_shape_gets_the_verdict_that_was_stated() {
    let shapes = [
        crashes::SHAPES,
        dma::SHAPES,
        faults::SHAPES,
        life::SHAPES,
        others::SHAPES,
        places::SHAPES,
        prefixes::SHAPES,
        reports::SHAPES,
        traces::SHAPES,
        kernels::SHAPES,
        recordings::SHAPES,
        silence::SHAPES,
        tracers::SHAPES,
        wrappers::SHAPES,
    ]
    .concat();
    let wrong: Vec<String> = shapes
        .iter()
        .filter_map(|shape| wanted(shape).err().map(|why| format!("== {}: {why}", shape.source)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} are wrong\n{}", wrong.len(), shapes.len(), wrong.join("\n"));
}
