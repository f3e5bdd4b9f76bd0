//! References with the wrong number of cells, or to a node that does not exist.
use super::dma::*;
use bindery::machine::Policy;
use bindery_sim::salvator::Salvator;

fn with(blob: &[u8]) -> (Option<&'static str>, usize, String) {
    let board = Salvator::new().disk(disk());
    let r = rig_on(board, Policy::default(), blob, |_| ());
    let notes: Vec<_> = bindery::firmware::fdt::describe(blob, &mut Default::default())
        .unwrap()
        .notes
        .iter()
        .map(|n| format!("{n}"))
        .collect();
    r.machine.settle();
    let said: Vec<_> = r
        .events()
        .into_iter()
        .filter(|l| l.starts_with(SATA) && (l.contains("not bound") || l.contains("disk") || l.contains("join")))
        .collect();
    let errors = r.board.model_errors();
    let text = format!(
        "{:?}; by hand {:?}; notes {notes:?}; said {said:?}; {} model errors, first {:?}; promises {:?}",
        r.driver(SATA),
        r.machine.bind(SATA, "sata_rcar").map_err(|e| e.to_string()).err(),
        errors.len(),
        errors.first().map(ToString::to_string),
        r.machine.promises().broken()
    );
    (r.driver(SATA), errors.len(), text)
}

#[test]
fn a_clock_that_cannot_be_read() {
    let (driver, errors, text) = with(include_bytes!("trees/s28_clock_cut.dtb"));
    println!("{text}");
    assert!(errors == 0, "its registers are used without a clock ({driver:?}): on real hardware this hangs the bus");
}
#[test]
fn a_reset_that_nobody_gives() {
    let (driver, errors, text) = with(include_bytes!("trees/s28_reset_dangling.dtb"));
    println!("{text}");
    assert!(errors == 0, "{driver:?}");
}
#[test]
fn a_power_domain_that_cannot_be_read() {
    let (driver, errors, text) = with(include_bytes!("trees/s28_power_cut.dtb"));
    println!("{text}");
    assert!(errors == 0 && driver.is_none(), "bound without its power domain");
}
#[test]
fn an_iommu_without_its_stream() {
    let (driver, errors, text) = with(include_bytes!("trees/s28_iommu_cut.dtb"));
    println!("{text}");
    assert!(errors == 0 && driver.is_none(), "P10");
}
