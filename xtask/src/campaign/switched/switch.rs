//! Which mutant is switched on: the one that `MUTANT_ON` names. With `MUTANT_REACHED`, none is, and the file of that name
//! gets a byte for each one that is asked for.
#![feature(core_intrinsics, const_eval_select)]
#![allow(internal_features)]

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

const UNKNOWN: usize = usize::MAX;
const RECORDS: usize = usize::MAX - 1;

static ON: AtomicUsize = AtomicUsize::new(UNKNOWN);
static REACHED: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

unsafe extern "C" {
    fn mmap(at: *mut u8, len: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
}

/// Whether mutant `n` is on. In a constant, none is.
pub const fn on(n: usize) -> bool {
    std::intrinsics::const_eval_select((n,), never, ask)
}

/// Whether none of `first..end` is on.
pub const fn none(first: usize, end: usize) -> bool {
    std::intrinsics::const_eval_select((first, end), always, ask_none)
}

const fn never(_: usize) -> bool {
    false
}

const fn always(_: usize, _: usize) -> bool {
    true
}

#[inline]
fn ask(n: usize) -> bool {
    !ask_none(n, n + 1)
}

#[inline]
fn ask_none(first: usize, end: usize) -> bool {
    let on = ON.load(Relaxed);
    if on >= RECORDS { slow(first, end) } else { on < first || on >= end }
}

#[cold]
fn slow(first: usize, end: usize) -> bool {
    if ON.load(Relaxed) == UNKNOWN {
        begin();
        return ask_none(first, end);
    }
    let reached = REACHED.load(Relaxed);
    for n in first..end {
        // SAFETY: the file has a byte for each mutant, and stays mapped until the process ends.
        unsafe { reached.add(n).write_volatile(1) };
    }
    true
}

fn begin() {
    if let Some(path) = std::env::var_os("MUTANT_REACHED") {
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        // SAFETY: a new mapping, of the length of the file, at an address that the kernel chooses.
        let at = unsafe { mmap(std::ptr::null_mut(), len, 3, 1, file.as_raw_fd(), 0) };
        assert!(at as isize != -1);
        REACHED.store(at, Relaxed);
        ON.store(RECORDS, Relaxed);
    } else {
        let named = std::env::var("MUTANT_ON").ok();
        ON.store(named.map_or(RECORDS - 1, |n| n.parse().unwrap()), Relaxed);
    }
}
