//! Recordings: a file may hold several, one behind the other, and files of several recordings may be given at once. What lies
//! between two was not recorded.

use super::life::End;
use super::task::TaskKey;
use super::{Fact, Heard, Mark, Model};
use crate::shape::{Place, Stamp};

/// A step back of a trace's clock, in nanoseconds, that no order of CPUs explains.
const BACK: u64 = 1_000_000_000;

impl Model {
    /// A trace's header: a recording begins.
    pub(super) fn begin_recording(&mut self, place: Place) {
        if !self.first_of_cpu.is_empty() {
            self.end_recording(place);
        }
    }

    /// Begins anew where the clock of the trace went back.
    pub(super) fn follow_trace(&mut self, place: Place, stamp: Option<Stamp>) {
        if let (Some(old), Some(new)) = (self.last_stamp, stamp)
            && old.since(new).is_some_and(|back| back > BACK)
        {
            self.end_recording(place);
        }
        self.last_stamp = stamp;
    }

    /// Judges what the recording showed. What it left open is not known to have gone on.
    fn end_recording(&mut self, place: Place) {
        let words = format!(
            "the trace begins anew at line {} of file {}: another recording, or the buffer of another CPU (merge those by time)",
            place.line,
            place.file + 1
        );
        let mark = Mark::new(place, None, "");
        self.fact(Fact { words: words.clone(), cites: vec![mark.cite()] });
        self.settle_all();
        self.taint_by_header();
        self.judge_untranslated();
        self.epoch += 1;
        for id in 0..self.devices.len() {
            let growth = std::mem::take(&mut self.devices[id].growth);
            self.grows(id, &growth);
            let device = &mut self.devices[id];
            if let Some(life) = device.life.as_mut().filter(|life| life.traced) {
                if life.end.is_none() {
                    life.taint.get_or_insert_with(|| words.clone());
                }
                self.close(id, &mark, End::FileEnded);
            }
            let device = &mut self.devices[id];
            device.live.drain();
            device.scatter.drain();
            device.nodes.clear();
            device.sub_pages.clear();
            device.flushes.clear();
            (device.backend, device.deferred, device.group) = (None, None, None);
            (device.frees_coherent, device.joined) = (false, false);
        }
        self.heard = Heard { log: self.heard.log, ..Heard::default() };
        self.by_cpu.clear();
        self.first_of_cpu.clear();
        self.last_of_cpu.clear();
        self.last_stamp = None;
        (self.header, self.lost_before) = (None, self.lost);
    }

    /// Judges what tasks left open, at the end of a recording.
    pub(super) fn settle_all(&mut self) {
        let keys: Vec<TaskKey> = self.tasks.keys().copied().collect();
        self.at_end = true;
        for key in keys {
            self.settle(key);
            self.end_of_task(key);
        }
        self.tasks.clear();
        self.at_end = false;
    }
}
