//! The rows of the table: what is measured, and the goal.

use super::figures::{Counts, Figures};

/// One row.
pub(crate) struct Row {
    pub(crate) operation: &'static str,
    pub(crate) measure: Measure,
}

/// How a row is made from figures, and its goal.
pub(crate) enum Measure {
    /// Counts of one operation, at most these; `without` is another row that is not part of it.
    Counts { row: &'static str, without: Option<&'static str>, most: Counts },
    /// Instructions of each row against those of its base, at most `most` times as many.
    Growth { rows: &'static [(&'static str, &'static str)], most: f64 },
    /// Time against the peer's in the same run, at most `most` times.
    Peer { rows: &'static [&'static str], peer: &'static str, most: f64 },
    /// Instructions of each row, without those of another one that is part of it, against the peer's.
    Part { rows: &'static [(&'static str, &'static str)], peer: &'static str, most: f64 },
    /// Time of one row against that of another.
    Against { rows: &'static [(&'static str, &'static str)], peer: &'static str, most: f64 },
    /// A figure, at most this.
    Most { figure: &'static str, unit: &'static str, most: f64 },
    /// A figure, at least this.
    Least { figure: &'static str, unit: &'static str, least: f64 },
    /// A figure without a goal that one run can show.
    Plain { figure: &'static str, unit: &'static str },
}

const fn at_most(instructions: f64, atomics: f64, allocations: f64) -> Counts {
    Counts { instructions, atomics, allocations }
}

const ANY: f64 = f64::INFINITY;

/// The table, in order.
pub(crate) const ROWS: &[Row] = &[
    counts("streaming map + address + unmap 4 KiB, strict", "strict.4k", at_most(400.0, 4.0, 0.0)),
    counts("the same by `Dma::map`, without an arena", "mapped.4k", at_most(ANY, ANY, ANY)),
    counts("the same, the only mapping of its domain", "strict.4k.only", at_most(400.0, 4.0, 0.0)),
    counts("streaming map + address + unmap 4 KiB, lazy, of 512 buffers in turn", "lazy.4k", at_most(350.0, 4.0, 0.0)),
    counts("the same, always of one buffer", "lazy.4k.same", at_most(350.0, 4.0, 0.0)),
    Row {
        operation: "ring, 65,536 live against 64: newest, oldest, random first",
        measure: Measure::Growth {
            rows: &[
                ("ring.newest.65536", "ring.newest.64"),
                ("ring.oldest.65536", "ring.oldest.64"),
                ("ring.random.65536", "ring.random.64"),
            ],
            most: 1.3,
        },
    },
    Row {
        operation: "ring, 4,096 live against 64: newest, oldest, random first",
        measure: Measure::Growth {
            rows: &[
                ("ring.newest.4096", "ring.newest.64"),
                ("ring.oldest.4096", "ring.oldest.64"),
                ("ring.random.4096", "ring.random.64"),
            ],
            most: 1.3,
        },
    },
    counts("64 KiB contiguous, map + unmap", "strict.64k", at_most(700.0, ANY, ANY)),
    counts("1 MiB contiguous, map + unmap", "strict.1m", at_most(3500.0, ANY, ANY)),
    counts("16 x 4 KiB scatter-gather into one range", "sg.16x4k", at_most(1500.0, 6.0, 0.0)),
    Row {
        operation: "64 buffers unmapped together: flushes waited for",
        measure: Measure::Most { figure: "batch.64.waits", unit: "waits", most: 1.0 },
    },
    counts("64 buffers mapped, then unmapped together", "batch.64", at_most(ANY, ANY, 0.0)),
    Row {
        operation: "coherent 4 KiB alloc + free, zeroing aside",
        measure: Measure::Counts { row: "coherent.4k", without: Some("zero.4k.peer"), most: at_most(800.0, ANY, ANY) },
    },
    peer("IOVA 4 KiB", &["iova.4k"], "`range-alloc`", 0.5),
    peer("IOVA mixed sizes / fragmented", &["iova.mixed", "iova.fragmented"], "`offset-allocator`", 0.5),
    peer("page table map + unmap 4 KiB, tables kept", &["table.4k"], "`page_table_multiarch`", 1.0),
    Row {
        operation: "page frames, order 0 / order 9, zeroing aside",
        measure: Measure::Part {
            rows: &[("frame.0", "memset.4k.peer"), ("frame.9", "memset.2m.peer")],
            peer: "`free-list`",
            most: 1.0,
        },
    },
    Row {
        operation: "page frames taken zeroed and given back, order 0 / order 9",
        measure: Measure::Against {
            rows: &[("frame.0", "memset.4k.peer"), ("frame.9", "memset.2m.peer")],
            peer: "`memset`",
            most: 1.1,
        },
    },
    Row {
        operation: "two threads, a device each, against one thread",
        measure: Measure::Least { figure: "threads.apart", unit: "x", least: 1.9 },
    },
    Row {
        operation: "two threads, one device, against one thread",
        measure: Measure::Least { figure: "threads.one", unit: "x", least: 1.3 },
    },
    peer("register read / write, directly mapped", &["register.read", "register.write"], "a raw access", 1.5),
    counts("interrupt delivered to a handler", "interrupt", at_most(120.0, 0.0, 0.0)),
    peer("match a device among 16,000 ids", &["match.16000"], "`HashMap`", 0.5),
    Row {
        operation: "1,000,000 devices enumerated, bound, unbound",
        measure: Measure::Plain { figure: "devices.seconds", unit: "s" },
    },
    Row {
        operation: "memory of each of them while bound",
        measure: Measure::Most { figure: "devices.bytes", unit: "bytes", most: 600.0 },
    },
    counts("each of 1,000 devices enumerated, bound, unbound", "devices", at_most(ANY, ANY, 3.0)),
    Row {
        operation: "streaming map + unmap 4 KiB with the DMA checker, against without",
        measure: Measure::Growth { rows: &[("strict.4k.checked", "strict.4k")], most: 2.0 },
    },
];

const fn counts(operation: &'static str, row: &'static str, most: Counts) -> Row {
    Row { operation, measure: Measure::Counts { row, without: None, most } }
}

const fn peer(operation: &'static str, rows: &'static [&'static str], peer: &'static str, most: f64) -> Row {
    Row { operation, measure: Measure::Peer { rows, peer, most } }
}

/// A row as the table has it: what was measured, the goal, and whether it is reached.
pub(crate) type Shown = (String, String, Option<bool>);

impl Measure {
    /// `None` when a figure is missing.
    pub(crate) fn show(&self, figures: &Figures) -> Option<Shown> {
        match *self {
            Self::Counts { row, without, most } => {
                let mut c = *figures.counts.get(row)?;
                if let Some(without) = without {
                    c.instructions -= figures.counts.get(without)?.instructions;
                }
                let met = c.instructions.round() <= most.instructions
                    && c.atomics.round() <= most.atomics
                    && c.allocations.round() <= most.allocations;
                let wants = words(most);
                Some(if wants.is_empty() { (words(c), "-".to_owned(), None) } else { (words(c), wants, Some(met)) })
            }
            Self::Growth { rows, most } => {
                let growth = |(row, base): &(&str, &str)| {
                    Some(figures.counts.get(*row)?.instructions / figures.counts.get(*base)?.instructions)
                };
                Some(ratios(&rows.iter().map(growth).collect::<Option<Vec<_>>>()?, "instructions", most))
            }
            Self::Peer { rows, peer, most } => {
                let ratio = |row: &&str| figures.pairs.get(*row).map(|(own, peer)| own / peer);
                Some(ratios(&rows.iter().map(ratio).collect::<Option<Vec<_>>>()?, &format!("time of {peer}"), most))
            }
            Self::Part { rows, peer, most } => {
                let instructions = |row: &str| figures.counts.get(row).map(|c| c.instructions);
                let ratio = |(row, part): &(&str, &str)| {
                    Some((instructions(row)? - instructions(part)?) / instructions(&format!("{row}.peer"))?)
                };
                Some(ratios(
                    &rows.iter().map(ratio).collect::<Option<Vec<_>>>()?,
                    &format!("instructions of {peer}"),
                    most,
                ))
            }
            Self::Against { rows, peer, most } => {
                let ratio = |(row, base): &(&str, &str)| Some(figures.times.get(*row)? / figures.times.get(*base)?);
                Some(ratios(&rows.iter().map(ratio).collect::<Option<Vec<_>>>()?, &format!("time of {peer}"), most))
            }
            Self::Most { figure, unit, most } => {
                let value = *figures.others.get(figure)?;
                Some((format!("{value:.0} {unit}"), format!("≤ {most} {unit}"), Some(value <= most)))
            }
            Self::Least { figure, unit, least } => {
                let value = *figures.others.get(figure)?;
                Some((format!("{value:.2} {unit}"), format!("≥ {least} {unit}"), Some(value >= least)))
            }
            Self::Plain { figure, unit } => {
                Some((format!("{:.2} {unit}", figures.others.get(figure)?), "-".to_owned(), None))
            }
        }
    }
}

fn ratios(ratios: &[f64], of: &str, most: f64) -> Shown {
    let met = ratios.iter().all(|r| *r <= most);
    let text: Vec<_> = ratios.iter().map(|r| format!("{r:.2}")).collect();
    (format!("{} x the {of}", text.join(" / ")), format!("≤ {most} x"), Some(met))
}

fn words(counts: Counts) -> String {
    let Counts { instructions, atomics, allocations } = counts;
    let parts = [(instructions, "instructions"), (atomics, "atomics"), (allocations, "allocations")];
    let finite = parts.into_iter().filter(|(value, _)| value.is_finite());
    finite.map(|(value, unit)| format!("{value:.0} {unit}")).collect::<Vec<_>>().join(", ")
}
