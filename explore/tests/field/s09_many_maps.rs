//! As many maps as a user may have, an IOMMU that hangs, and the host that wants its device back.
use super::dma::*;
use bindery::addr::DeviceAddr;
use bindery::dma::DmaMemory;
use bindery::env::Env;
use bindery::iommu::Prot;
use bindery_drivers::vfio::VfioError;
use bindery_sim::board::Stuck;

fn many(maps: u64, stuck: bool) -> (f64, f64, String) {
    let r = rig();
    r.machine.settle();
    r.give(SATA);
    let s = r.open(SATA).unwrap();
    let m = DmaMemory::allocate(r.machine.memory(), 4096).unwrap();
    for n in 0..maps {
        s.map(DeviceAddr(0x1000_0000 + n * 8192), &m, 0, 4096, Prot::READ).unwrap();
    }
    if maps == 65_535 {
        assert_eq!(s.map(DeviceAddr(0x1000), &m, 0, 4096, Prot::READ), Err(VfioError::TooManyMaps(65_535)));
    }
    r.board.take_events();
    r.board.set_stuck(Stuck::IpmmuFlush, stuck);
    let (board, host) = (r.board.now(), std::time::Instant::now());
    r.machine.unbind(SATA, "vfio-platform").unwrap();
    let quarantined = r.board.take_events().iter().filter(|e| e.kind.to_string().contains("quarantine")).count();
    (
        r.board.now().since(board).as_secs_f64(),
        host.elapsed().as_secs_f64(),
        format!("{} events of quarantine, {} runs listed; {}", quarantined, r.machine.quarantine().len(), r.verdict()),
    )
}

#[test]
fn a_working_iommu() {
    for maps in [1_000, 65_535] {
        println!("{maps}: {:?}", many(maps, false));
    }
}

#[test]
fn a_hung_iommu_delays_tear_down_once_and_not_for_each_map() {
    let mut times = Vec::new();
    for maps in [10, 1_000, 65_535] {
        let t = many(maps, true);
        println!("{maps}: {t:?}");
        times.push(t.0);
    }
    assert!(times[2] < 6.0, "board seconds from the request to the end: {times:?}, the deadline is 5");
}
