//! Threads that write and read properties all the while.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use gst::prelude::*;
use gstreamer as gst;

use super::common::Random;
use super::{below, pick};

const THREADS: u64 = 2;

/// Writes for each tick.
const BURST: usize = 4;

#[derive(Default)]
struct State {
    filters: Vec<gst::Element>,
    ticks: u64,
    is_over: bool,
}

/// They write a few values at each tick, so that they leave the machine to others.
pub struct Writers {
    shared: Arc<(Mutex<State>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

/// Ticks from any thread.
#[derive(Clone)]
pub struct Ticker(Arc<(Mutex<State>, Condvar)>);

impl Ticker {
    pub fn tick(&self) {
        self.0.0.lock().unwrap().ticks += 1;
        self.0.1.notify_all();
    }

    /// Writes to this filter too from now on.
    pub fn add(&self, filter: &gst::Element) {
        self.0.0.lock().unwrap().filters.push(filter.clone());
    }

    /// Leaves this filter alone, but for what is being written.
    pub fn remove(&self, filter: &gst::Element) {
        self.0.0.lock().unwrap().filters.retain(|other| other != filter);
    }
}

impl Writers {
    pub fn new(random: &mut Random) -> Self {
        let shared = Arc::<(Mutex<State>, Condvar)>::default();
        let threads = (0..THREADS)
            .map(|index| {
                let (shared, seed) = (Arc::clone(&shared), random.0 ^ (index + 1));
                std::thread::spawn(move || write(&shared, Random(seed)))
            })
            .collect();
        Self { shared, threads }
    }

    pub fn ticker(&self) -> Ticker {
        Ticker(Arc::clone(&self.shared))
    }

    pub fn tick(&self) {
        self.ticker().tick();
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap().is_over = true;
        self.shared.1.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

fn write((state, ticked): &(Mutex<State>, Condvar), mut random: Random) {
    let mut seen = 0;
    loop {
        let filters = {
            let state = state.lock().unwrap();
            let state = ticked.wait_while(state, |s| s.ticks == seen && !s.is_over).unwrap();
            if state.is_over {
                return;
            }
            seen = state.ticks;
            state.filters.clone()
        };
        for _ in 0..BURST {
            for filter in &filters {
                write_one(filter, &mut random);
            }
        }
    }
}

fn write_one(filter: &gst::Element, random: &mut Random) {
    match below(random, 9) {
        0 | 1 => filter.set_property("alpha", pick(random, &[0.0, 0.0, 0.3, 1.0])),
        2 | 3 => filter.set_property("beta", pick(random, &[0.0, 0.0, 0.0, 0.5])),
        4 => filter.set_property_from_str("compare", pick(random, &["none", "split"])),
        5 => {
            filter.set_property_from_str("overload", pick(random, &["auto", "wait", "passthrough"]))
        }
        6 => filter.set_property("post-messages", below(random, 2) == 0),
        7 => match below(random, 3) {
            0 => filter.set_property("threads", below(random, 3) as u32),
            1 => filter.set_property_from_str("precision", pick(random, &["auto", "f32"])),
            // The same file, by another path.
            _ => {
                let path = filter.property::<String>("model");
                let (folder, name) = path.rsplit_once('/').unwrap();
                let longer = format!("{folder}/./{name}");
                let other = folder.strip_suffix("/.").map_or(longer, |f| format!("{f}/{name}"));
                filter.set_property("model", other);
            }
        },
        _ => {
            let stats = filter.property::<gst::Structure>("stats");
            assert!(stats.get::<u64>("frames").is_ok());
        }
    }
}
