//! State diagram of a binding, with a count for each transition.

use std::path::PathBuf;
use std::str::FromStr;

use bindery::binding::TRANSITIONS;
use bindery_explore::{Report, diagram};

use crate::failure::Result;
use crate::output::Output;
use crate::record::NewFile;

/// Target of `--diagram`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiagramTarget {
    /// SVG in a file.
    Svg(PathBuf),
    /// Text in a file.
    Text(PathBuf),
    /// Text on standard output, after the report.
    Stdout,
}

impl FromStr for DiagramTarget {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let path = PathBuf::from(text);
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if text == "-" => Ok(Self::Stdout),
            Some("svg") => Ok(Self::Svg(path)),
            Some("txt") => Ok(Self::Text(path)),
            _ => Err("a diagram goes to FILE.svg, to FILE.txt, or as text to standard output (-)".into()),
        }
    }
}

/// An open file for the diagram.
pub(super) enum DiagramFile {
    Svg(NewFile),
    Text(NewFile),
    Stdout,
}

impl DiagramFile {
    /// Creates the file, before an exploration of hours ends at a folder that does not exist.
    pub(super) fn create(target: &DiagramTarget) -> Result<Self> {
        Ok(match target {
            DiagramTarget::Svg(path) => Self::Svg(NewFile::create(path)?),
            DiagramTarget::Text(path) => Self::Text(NewFile::create(path)?),
            DiagramTarget::Stdout => Self::Stdout,
        })
    }

    /// Draws the counts of `report`.
    pub(super) fn draw(self, report: &Report, output: &mut Output<'_>) -> Result<()> {
        // Models have no such phases, and nothing to count.
        let counted = TRANSITIONS.iter().any(|t| report.coverage.contains_key(&diagram::coverage_name(t)));
        let counts = counted.then_some(&report.coverage);
        let (mut file, content) = match self {
            Self::Svg(file) => (file, diagram::svg(counts)),
            Self::Text(file) => (file, diagram::text(counts)),
            Self::Stdout => {
                output.line("")?;
                return diagram::text(counts).lines().try_for_each(|line| output.always(format_args!("   {line}")));
            }
        };
        file.write(content.as_bytes())?;
        file.finish()
    }
}
