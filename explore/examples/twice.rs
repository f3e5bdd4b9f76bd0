//! dbg: the same path on a new world, and on one that was used
use bindery_explore::{boards, device, Engine};
fn main() {
    let life = device("ee300000.sata").on(boards::salvator_xs()).faults(1).interrupts(1);
    let engine = life.engine();
    let p: String = std::env::args().nth(1).unwrap();
    let a = life.replay(&engine, &p.parse().unwrap()).unwrap();
    let b = life.replay(&engine, &p.parse().unwrap()).unwrap();
    println!("{} {}", a.steps.len(), b.steps.len());
    for (i, (x, y)) in a.steps.iter().zip(&b.steps).enumerate() { if format!("{x:?}") != format!("{y:?}") { println!("{i}: {x:?} {y:?}"); break; } }
    for l in a.story { println!("{l}"); }
    let _ = Engine::new("x");
}
