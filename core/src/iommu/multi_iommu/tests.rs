use std::collections::BTreeSet;
use std::sync::Mutex;

use super::*;

/// Fake share: the set of mapped page numbers, whether unmaps fail, and whether it answers a flush no longer.
#[derive(Default)]
struct Share(Mutex<BTreeSet<u64>>, bool, AtomicBool);

impl Translation for Share {
    fn map(&self, iova: DeviceAddr, _: PhysAddr, len: u64, _: Prot) -> Result<(), MapError> {
        let mut pages = self.0.lock().unwrap();
        let new = iova.0 / PAGE_SIZE..(iova.0 + len) / PAGE_SIZE;
        if let Some(there) = new.clone().find(|page| pages.contains(page)) {
            return Err(MapError::Exists(DeviceAddr(there * PAGE_SIZE)));
        }
        pages.extend(new);
        Ok(())
    }
    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        if self.1 {
            return Err(MapError::OutOfMemory);
        }
        gather.add(iova, len);
        self.0.lock().unwrap().retain(|page| !(iova.0..iova.0 + len).contains(&(page * PAGE_SIZE)));
        Ok(())
    }
    fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
        if self.2.load(Ordering::Relaxed) { Err(IommuError::Dead) } else { Ok(()) }
    }
    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        self.0.lock().unwrap().contains(&(iova.0 / PAGE_SIZE)).then_some(PhysAddr(iova.0))
    }
    fn label(&self) -> String {
        String::new()
    }
}

#[test]
fn a_failed_map_is_undone_wherever_it_can_be_and_tells_when_it_was_not() {
    let shares =
        [Share::default(), Share(Mutex::default(), true, AtomicBool::default()), Share::default(), Share::default()]
            .map(Arc::new);
    let multi = MultiIommu::new(NodeId(0), Arc::<Share>::clone(&shares[0]));
    for (node, share) in (1..).zip(&shares[1..]) {
        multi.add(NodeId(node), Arc::<Share>::clone(share));
    }
    // Somebody else's at the last one.
    shares[3].0.lock().unwrap().insert(8);
    let at = DeviceAddr(8 * PAGE_SIZE);
    let mapped = multi.map(at, PhysAddr(8 * PAGE_SIZE), PAGE_SIZE, Prot::READ);
    assert_eq!(mapped, Err(MapError::Unconfirmed(at)));
    let left = shares.each_ref().map(|share| share.0.lock().unwrap().len());
    assert_eq!((left, multi.resolve(at)), ([0, 1, 0, 1], Some(PhysAddr(at.0))));
    let gathered = multi.shares.lock().unconfirmed.is_empty();
    assert!(!gathered, "what was removed is flushed later");
}

#[test]
fn a_share_that_has_a_part_of_a_region_gets_the_rest_of_it() {
    let (one, two) = (Arc::new(Share::default()), Arc::new(Share::default()));
    one.0.lock().unwrap().insert(9);
    let multi = MultiIommu::new(NodeId(0), Arc::<Share>::clone(&one));
    multi.add(NodeId(1), Arc::<Share>::clone(&two));
    multi.map_each(DeviceAddr(8 * PAGE_SIZE), PhysAddr(8 * PAGE_SIZE), 3 * PAGE_SIZE, Prot::READ).unwrap();
    for share in [one, two] {
        assert_eq!(*share.0.lock().unwrap(), BTreeSet::from([8, 9, 10]));
    }
}
/// P2: the pages that it may still reach are not free, but nothing new is mapped there, nor asked of it.
#[test]
fn an_iommu_that_leaves_in_silence_is_gone_for_maps_and_holds_back_every_flush_until_it_answers() {
    let [stays, leaves] = [Share::default(), Share::default()].map(Arc::new);
    let multi = MultiIommu::new(NodeId(0), Arc::<Share>::clone(&stays));
    multi.add(NodeId(1), Arc::<Share>::clone(&leaves));
    leaves.2.store(true, Ordering::Relaxed);
    multi.remove(NodeId(1));
    assert!(multi.at(NodeId(1)).is_none() && multi.at(NodeId(0)).is_some());

    let at = DeviceAddr(8 * PAGE_SIZE);
    multi.map(at, PhysAddr(at.0), PAGE_SIZE, Prot::READ).unwrap();
    let mapped = [&stays, &leaves].map(|share| share.0.lock().unwrap().len());
    assert_eq!(mapped, [1, 0], "nothing is mapped through an IOMMU that has left");
    let mut gather = Gather::new();
    multi.unmap(at, PAGE_SIZE, &mut gather).unwrap();
    assert_eq!(multi.flush(&mut gather), Err(IommuError::Dead), "no proof without its confirmation");

    leaves.2.store(false, Ordering::Relaxed);
    multi.flush(&mut gather).unwrap();
    gather.free_tables();
    // It is bound again: a share of its own, beside the one that left.
    multi.add(NodeId(1), Arc::new(Share::default()));
    assert!(multi.at(NodeId(1)).is_some());
    multi.remove(NodeId(1));
    assert!(multi.at(NodeId(1)).is_none(), "the new share goes, and the old one does not come back");
}

#[test]
fn a_flush_goes_on_behind_a_share_that_is_silent_and_asks_only_that_one_again() {
    /// Counts its flushes.
    struct Counting(Share, Mutex<usize>);
    impl Translation for Counting {
        fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
            self.0.map(iova, phys, len, prot)
        }
        fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
            self.0.unmap(iova, len, gather)
        }
        fn flush(&self, gather: &mut Gather) -> Result<(), IommuError> {
            *self.1.lock().unwrap() += usize::from(gather.range().is_some());
            self.0.flush(gather)
        }
        fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
            self.0.resolve(iova)
        }
        fn label(&self) -> String {
            "counting".into()
        }
    }
    let shares = [false, true, false]
        .map(|dead| Arc::new(Counting(Share(Mutex::default(), false, AtomicBool::new(dead)), Mutex::default())));
    let multi = MultiIommu::new(NodeId(0), Arc::<Counting>::clone(&shares[0]));
    for (node, share) in (1..).zip(&shares[1..]) {
        multi.add(NodeId(node), Arc::<Counting>::clone(share));
        assert_eq!(multi.node_of(&(Arc::<Counting>::clone(share) as Arc<dyn Translation>)), Some(NodeId(node)));
    }
    let at = DeviceAddr(8 * PAGE_SIZE);
    multi.map(at, PhysAddr(at.0), PAGE_SIZE, Prot::READ).unwrap();
    let mut gather = Gather::new();
    multi.unmap(at, PAGE_SIZE, &mut gather).unwrap();
    assert_eq!(multi.flush(&mut gather), Err(IommuError::Dead));
    let flushed = shares.each_ref().map(|share| *share.1.lock().unwrap());
    assert_eq!(flushed, [1, 1, 1]);
    assert_eq!(multi.label(), "counting + counting + counting");
    core::mem::forget(gather);
}

/// Share whose pages are what a bit set says, of which an unmap of pages that are not there changes nothing.
#[derive(Default)]
struct Exact(Share, Mutex<usize>);

impl Translation for Exact {
    fn map(&self, iova: DeviceAddr, phys: PhysAddr, len: u64, prot: Prot) -> Result<(), MapError> {
        self.0.map(iova, phys, len, prot)
    }
    fn unmap(&self, iova: DeviceAddr, len: u64, gather: &mut Gather) -> Result<(), MapError> {
        let all = (0..len).step_by(PAGE_SIZE as usize).all(|at| self.resolve(iova + at).is_some());
        if all { self.0.unmap(iova, len, gather) } else { Err(MapError::Missing(iova)) }
    }
    fn flush(&self, gather: &mut Gather) -> Result<(), IommuError> {
        self.0.flush(gather)
    }
    fn retire(&self) {
        *self.1.lock().unwrap() += 1;
    }
    fn resolve(&self, iova: DeviceAddr) -> Option<PhysAddr> {
        self.0.resolve(iova)
    }
    fn label(&self) -> String {
        String::new()
    }
}

fn three() -> (MultiIommu, [Arc<Exact>; 3]) {
    let shares: [Arc<Exact>; 3] = core::array::from_fn(|_| Arc::default());
    let multi = MultiIommu::new(NodeId(0), Arc::<Exact>::clone(&shares[0]));
    for (node, share) in (1..).zip(&shares[1..]) {
        multi.add(NodeId(node), Arc::<Exact>::clone(share));
    }
    (multi, shares)
}

/// Each share has none, one or both pages of what is unmapped, in all combinations.
#[test]
fn an_unmap_succeeds_where_a_share_had_all_and_the_others_all_or_nothing() {
    let (at, len) = (DeviceAddr(8 * PAGE_SIZE), 2 * PAGE_SIZE);
    for (combination, by_remove) in (0..64_u64).flat_map(|n| [(n, false), (n, true)]) {
        let (multi, shares) = three();
        let pages = |n: u64| combination >> (2 * n) & 3;
        for (n, share) in (0..).zip(&shares) {
            share.0.0.lock().unwrap().extend((0..2).filter(|page| pages(n) >> page & 1 != 0).map(|page| 8 + page));
        }
        let partly = (0..3).any(|n| matches!(pages(n), 1 | 2));
        let any_whole = (0..3).any(|n| pages(n) == 3);
        let expected = if !partly && any_whole { Ok(true) } else { Err(MapError::Missing(at)) };
        let mut gather = Gather::new();
        let unmapped = if by_remove {
            Translation::remove(&multi, at, len, &mut gather)
        } else {
            multi.unmap(at, len, &mut gather).map(|()| true)
        };
        assert_eq!(unmapped, expected, "{combination:#b}");
        let last = at + (len - 1);
        assert_eq!(gather.range(), any_whole.then_some((at, last)), "{combination:#b}");
        for (n, share) in (0..).zip(&shares) {
            let left = share.0.0.lock().unwrap().len() as u32;
            assert_eq!(left, if pages(n) == 3 { 0 } else { u64::count_ones(pages(n)) }, "{combination:#b}");
        }
        multi.flush(&mut gather).unwrap();
        gather.free_tables();
    }
}

#[test]
fn runs_are_mapped_at_every_share_one_after_the_other_and_all_retire() {
    let (multi, shares) = three();
    let runs = [(PhysAddr(0), PAGE_SIZE), (PhysAddr(0), 2 * PAGE_SIZE)];
    multi.map_runs(DeviceAddr(8 * PAGE_SIZE), &mut runs.into_iter(), Prot::READ).unwrap();
    multi.retire();
    for share in &shares {
        assert_eq!(*share.0.0.lock().unwrap(), BTreeSet::from([8, 9, 10]));
        assert_eq!(*share.1.lock().unwrap(), 1);
    }
    // Of the second run, the last share has a page already.
    shares[2].0.0.lock().unwrap().insert(21);
    let failed = multi.map_runs(DeviceAddr(20 * PAGE_SIZE), &mut runs.into_iter(), Prot::READ);
    assert_eq!(failed, Err((PAGE_SIZE, MapError::Exists(DeviceAddr(21 * PAGE_SIZE)))));
    for (share, own) in shares.iter().zip([None, None, Some(21)]) {
        let expected: BTreeSet<_> = [8, 9, 10, 20].into_iter().chain(own).collect();
        assert_eq!(*share.0.0.lock().unwrap(), expected, "the run that failed is undone, the one before is not");
    }
}

/// An IOMMU that goes while a call is at it: its error is nobody's.
#[test]
fn a_share_that_is_removed_during_a_call_fails_it_for_nobody() {
    type Call = fn(&MultiIommu, DeviceAddr, PhysAddr) -> Result<(), MapError>;
    /// Removes itself when it is asked for anything, or only fails.
    struct Leaving(std::sync::OnceLock<Arc<MultiIommu>>, bool);
    impl Leaving {
        fn fail(&self) -> MapError {
            if let (Some(multi), true) = (self.0.get(), self.1) {
                multi.remove(NodeId(1));
            }
            MapError::OutOfMemory
        }
    }
    impl Translation for Leaving {
        fn map(&self, _: DeviceAddr, _: PhysAddr, _: u64, _: Prot) -> Result<(), MapError> {
            Err(self.fail())
        }
        fn unmap(&self, _: DeviceAddr, _: u64, _: &mut Gather) -> Result<(), MapError> {
            Err(self.fail())
        }
        fn flush(&self, _: &mut Gather) -> Result<(), IommuError> {
            Ok(())
        }
        fn resolve(&self, _: DeviceAddr) -> Option<PhysAddr> {
            None
        }
        fn label(&self) -> String {
            String::new()
        }
    }
    let (at, phys) = (DeviceAddr(8 * PAGE_SIZE), PhysAddr(8 * PAGE_SIZE));
    for leaves in [true, false] {
        let calls: [Call; 3] = [
            |multi, at, phys| multi.map(at, phys, PAGE_SIZE, Prot::READ),
            |multi, at, phys| multi.map_each(at, phys, PAGE_SIZE, Prot::READ),
            |multi, at, _| multi.unmap(at, PAGE_SIZE, &mut Gather::new()),
        ];
        for call in calls {
            let stays = Arc::new(Exact::default());
            let multi = Arc::new(MultiIommu::new(NodeId(0), Arc::<Exact>::clone(&stays)));
            let leaving = Arc::new(Leaving(std::sync::OnceLock::new(), leaves));
            let _ = leaving.0.set(Arc::clone(&multi));
            multi.add(NodeId(1), Arc::<Leaving>::clone(&leaving));
            assert_eq!(call(&multi, at, phys), if leaves { Ok(()) } else { Err(MapError::OutOfMemory) });
            assert_eq!(multi.at(NodeId(1)).is_some(), !leaves);
        }
    }
}

/// Lives of one IOMMU beside one that stays: each leaves with an answer or in silence, and those that were silent answer later, in any
/// order. P2: a flush is a proof once each life has answered.
#[test]
fn each_life_of_an_iommu_is_confirmed_by_its_own_answer() {
    const LIVES: usize = 3;
    let at = DeviceAddr(8 * PAGE_SIZE);
    for silent in 0..1_u32 << LIVES {
        let multi = MultiIommu::new(NodeId(0), Arc::new(Exact::default()));
        let lives: [Arc<Exact>; LIVES] = core::array::from_fn(|_| Arc::default());
        let flush = || {
            let mut gather = Gather::new();
            multi.map(at, PhysAddr(at.0), PAGE_SIZE, Prot::READ).unwrap();
            multi.unmap(at, PAGE_SIZE, &mut gather).unwrap();
            let flushed = multi.flush(&mut gather).is_ok();
            if flushed {
                gather.free_tables();
            } else {
                core::mem::forget(gather);
            }
            flushed
        };
        for (n, life) in lives.iter().enumerate() {
            multi.add(NodeId(1), Arc::<Exact>::clone(life));
            let before = silent & ((1 << n) - 1);
            assert_eq!(flush(), before == 0, "{silent:#b}: life {n} is there");
            life.0.2.store(silent >> n & 1 != 0, Ordering::Relaxed);
            multi.remove(NodeId(1));
            assert!(multi.at(NodeId(1)).is_none() && multi.at(NodeId(0)).is_some(), "{silent:#b}");
            let left = silent & ((1 << (n + 1)) - 1);
            assert_eq!(flush(), left == 0, "{silent:#b}: life {n} has left");
        }
        // The youngest first.
        let mut left = silent;
        for (n, life) in lives.iter().enumerate().rev() {
            life.0.2.store(false, Ordering::Relaxed);
            left &= !(1 << n);
            assert_eq!(flush(), left == 0, "{silent:#b}: life {n} has answered");
        }
    }
}
