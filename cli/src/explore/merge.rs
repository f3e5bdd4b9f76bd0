//! Merges the reports of shards.

use std::path::PathBuf;

use bindery_explore::Report;
use bindery_explore::engine::{MergeError, Shard};

use super::refusal::Refusal;
use crate::failure::Result;
use crate::load;

/// The report of the whole, from files that hold those of all shards.
pub(super) fn merge(files: &[PathBuf]) -> Result<Report> {
    let mut reports: Vec<Report> = Vec::new();
    let mut origins: Vec<String> = Vec::new();
    for file in files {
        let path = file.display().to_string();
        let bytes = load::reports(file)?;
        let before = reports.len();
        for report in serde_json::Deserializer::from_slice(&bytes).into_iter::<Report>() {
            let report =
                report.map_err(|e| Box::new(Refusal::NotAReport { path: path.clone(), error: e.to_string() }))?;
            if reports.len() == Shard::MOST as usize {
                return Err(Box::new(Refusal::TooMany { path, most: Shard::MOST }).into());
            }
            reports.push(report);
            origins.push(path.clone());
        }
        if reports.len() == before {
            return Err(Box::new(Refusal::Empty { path }).into());
        }
    }
    let shards: Vec<Option<Shard>> = reports.iter().map(|report| report.shard).collect();
    Ok(Report::merge(reports).map_err(|error| Box::new(refusal(&error, &origins, &shards)))?)
}

/// `error` in terms of files.
fn refusal(error: &MergeError, origins: &[String], shards: &[Option<Shard>]) -> Refusal {
    let origin = |position: usize| origins.get(position - 1).cloned().unwrap_or_default();
    match error {
        MergeError::Nothing => Refusal::Empty { path: "--merge".into() },
        MergeError::Whole(position) => {
            Refusal::Mismatched { path: origin(*position), why: "the report is of a whole run, not of a shard".into() }
        }
        MergeError::Other { position, field } => Refusal::Mismatched {
            path: origin(*position),
            why: format!("the report is of another run: its {field} differs from that in {}", origin(1)),
        },
        MergeError::Twice { position, shard } => {
            let first = shards.iter().position(|known| *known == Some(*shard)).map_or(1, |index| index + 1);
            let why = format!("shard {shard} is there already, from {}", origin(first));
            Refusal::Mismatched { path: origin(*position), why }
        }
        MergeError::Missing(list) => {
            let of = shards.first().copied().flatten().map_or(0, Shard::of);
            Refusal::Missing { shards: list.clone(), of }
        }
    }
}
