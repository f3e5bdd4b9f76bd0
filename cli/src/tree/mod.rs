//! `bindery tree`: the devices of a machine, their drivers, what they need, and the IOMMU groups that they fall into.

mod draw;
mod hardware;
mod report;

pub use draw::{draw, name};
pub use hardware::{DmaRow, InterruptRow, RegisterRow, ReservedRow, WindowRow};
pub use report::{Counts, DeviceRow, GroupRow, OtherRow, PciRow, Report, State, SupplierRow};

use crate::args::Tree;
use crate::failure::Result;
use crate::output::Output;
use crate::session::Session;

/// Makes the machine, probes what can be probed, and shows what came of it.
pub fn run(args: &Tree, output: &mut Output<'_>) -> Result<()> {
    let session = Session::new(&args.config())?;
    session.add_drivers();
    session.host.settle();
    session.target.check()?;
    let report = Report::of(&session);
    if args.json {
        let text = serde_json::to_string_pretty(&report).unwrap_or_else(|e| e.to_string());
        output.raw(text.as_bytes())?;
        output.raw(b"\n")
    } else {
        draw(&report, args.long, output)
    }
}
