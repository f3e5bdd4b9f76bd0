//! Figures by the number of live mappings, threads and devices, as tables and pictures.

use std::fs;

use plotters::prelude::*;

use super::figures::Figures;
use super::table::machine;
use crate::outcome::{Outcome, Trouble};
use crate::tool::root;

const LIVE: [u32; 6] = [64, 256, 1024, 4096, 16_384, 65_536];
const DEVICES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// One picture: lines over the same numbers, which grow by factors.
struct Picture {
    file: &'static str,
    title: &'static str,
    across: &'static str,
    up: &'static str,
    lines: Vec<Line>,
}

/// The name of a line, and its points.
type Line = (&'static str, Vec<(f64, f64)>);

/// Measures, prints tables, and writes the pictures.
pub(super) fn run() -> Outcome {
    let counted = Figures::counted("curves")?;
    let mut timed = Figures::default();
    timed.timed(&["time", "curves"])?;
    let mut devices = Vec::new();
    for number in DEVICES {
        let mut figures = Figures::default();
        figures.timed(&["devices", &number.to_string()])?;
        devices.push(figures);
    }
    let line = |name, numbers: &[u32], of: &dyn Fn(usize, u32) -> Option<f64>| {
        let points = numbers.iter().enumerate().map(|(at, n)| Some((f64::from(*n), of(at, *n)?)));
        let missing = || Trouble::Broken(format!("{name}: not measured"));
        points.collect::<Option<Vec<_>>>().map(|points| (name, points)).ok_or_else(missing)
    };
    let ring = |name, order: &str| {
        line(name, &LIVE, &|_, live| Some(counted.counts.get(&format!("ring.{order}.{live}"))?.instructions))
    };
    let threads =
        |name, who: &str| line(name, &LIVE, &|_, live| timed.others.get(&format!("threads.{who}.{live}")).copied());
    let first = devices[0].times.get("devices").copied();
    let pictures = [
        Picture {
            file: "live.svg",
            title: "Unmap one buffer, map it again",
            across: "live mappings",
            up: "instructions",
            lines: vec![
                ring("newest first", "newest")?,
                ring("oldest first", "oldest")?,
                ring("random order", "random")?,
            ],
        },
        Picture {
            file: "threads.svg",
            title: "Throughput, against one thread with 64 live mappings",
            across: "live mappings of each thread",
            up: "times",
            lines: vec![
                threads("one thread", "alone")?,
                threads("two threads, a device each", "apart")?,
                threads("two threads, one device", "one")?,
            ],
        },
        Picture {
            file: "devices.svg",
            title: "A device enumerated, bound, unbound: time against one of 1,000",
            across: "devices",
            up: "times",
            lines: vec![line("time of each", &DEVICES, &|at, _| Some(devices[at].times.get("devices")? / first?))?],
        },
        Picture {
            file: "bytes.svg",
            title: "Memory of a bound device",
            across: "devices",
            up: "bytes",
            lines: vec![line("memory of each", &DEVICES, &|at, _| devices[at].others.get("devices.bytes").copied())?],
        },
    ];
    println!("Machine: {}.", machine());
    for picture in &pictures {
        picture.table();
        picture.draw().map_err(|e| Trouble::Broken(format!("{}: {e}", picture.file)))?;
    }
    Ok(())
}

impl Picture {
    fn table(&self) {
        println!("\n{}, {}:\n", self.title, self.up);
        let names: Vec<_> = self.lines.iter().map(|(name, _)| *name).collect();
        println!("| {} | {} |\n|---:|{}", self.across, names.join(" | "), "---:|".repeat(names.len()));
        for at in 0..self.lines[0].1.len() {
            let values: Vec<_> = self.lines.iter().map(|(_, points)| number(points[at].1)).collect();
            println!("| {} | {} |", number(self.lines[0].1[at].0), values.join(" | "));
        }
    }

    fn draw(&self) -> Result<(), Box<dyn std::error::Error>> {
        let folder = root().join("docs/benchmarks");
        fs::create_dir_all(&folder)?;
        let path = folder.join(self.file);
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let across = |pick: fn(f64, f64) -> f64, start| points().map(|p| p.0).fold(start, pick);
        let (from, to) = (across(f64::min, f64::INFINITY), across(f64::max, 0.0));
        let high = points().map(|p| p.1).fold(0.0, f64::max) * 1.15;
        let area = SVGBackend::new(&path, (760, 380)).into_drawing_area();
        // A page may be dark.
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d((from..to).log_scale(), 0.0..high)?;
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .x_label_formatter(&|n| number(*n))
            .y_label_formatter(&|n| number(*n))
            .light_line_style(TRANSPARENT)
            .draw()?;
        // Colours that can be told apart by those who see red and green alike.
        let colours = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115)];
        for ((name, points), colour) in self.lines.iter().zip(colours) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(4);
            let legend = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
            chart.draw_series(line)?.label(*name).legend(legend);
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE)
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// A number as people read it: two digits behind the point when it is small, else thousands apart.
fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let apart = |(at, digit): (usize, char)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(apart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let written = [0.0, 1.05, 64.0, 1024.0, 728.4, 1_000_000.0].map(number);
        assert_eq!(written, ["0", "1.05", "64", "1,024", "728", "1,000,000"]);
    }
}
