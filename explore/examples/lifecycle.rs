//! Explores the disk controller's lifecycle: `cargo run --release -p bindery-explore --example lifecycle FAULTS PREEMPTIONS`.
use bindery_explore::{Bounded, boards, device};
fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse().expect("a number"));
    let (faults, preemptions) = (args.next().unwrap_or(1), args.next().unwrap_or(0));
    let lifecycle = device("ee300000.sata").on(boards::salvator_xs()).faults(faults).preemptions(preemptions);
    let mut engine =
        lifecycle.engine().progress(|p| eprintln!("{} paths, {} states, {:.1} %", p.paths, p.states, p.done * 100.0));
    if let Some(t) = args.next() {
        engine = engine.threads(t as usize);
    }
    println!("{}", lifecycle.run(&engine).unwrap());
}
