//! What a run must not do: hang, be critical, leak.

use std::backtrace::Backtrace;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

/// Longer than any step takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Steps that are told when one fails.
const TOLD: usize = 20;

/// Objects by type.
pub type Objects = BTreeMap<String, usize>;

/// What a process that makes and drops the same again and again has too much of in the end.
#[derive(Clone, Copy)]
pub struct Memory {
    /// All that the system has given.
    pub resident_bytes: usize,
    /// All that is allocated and not freed.
    pub used_bytes: usize,
}

struct Steps {
    seed: u64,
    entered: u64,
    last: VecDeque<String>,
    pipelines: Vec<glib::WeakRef<gst::Pipeline>>,
}

/// Knows what was done last, and ends the process with it when something is wrong.
#[derive(Clone)]
pub struct Guard(Arc<(Mutex<Steps>, Condvar)>);

impl Guard {
    /// Before GStreamer starts.
    pub fn new(seed: u64) -> Self {
        let steps = Steps { seed, entered: 0, last: VecDeque::new(), pipelines: vec![] };
        let guard = Self(Arc::new((Mutex::new(steps), Condvar::new())));
        let watched = guard.clone();
        std::thread::spawn(move || watched.watch());
        let critical = guard.clone();
        glib::log_set_default_handler(move |domain, level, text| {
            if matches!(level, glib::LogLevel::Critical | glib::LogLevel::Error) {
                critical.fail(&format!("{}: {text}", domain.unwrap_or_default()));
            }
            glib::log_default_handler(domain, level, Some(text));
        });
        let panicked = guard.clone();
        std::panic::set_hook(Box::new(move |info| {
            let trace = Backtrace::force_capture();
            panicked.fail(&format!("{info}\n{trace}"));
        }));
        guard
    }

    /// Begins a step.
    pub fn enter(&self, step: String) {
        let (steps, entered) = &*self.0;
        let mut steps = steps.lock().unwrap();
        if steps.last.len() == TOLD {
            steps.last.pop_front();
        }
        steps.last.push_back(step);
        steps.entered += 1;
        entered.notify_all();
    }

    /// Tells of this pipeline when something hangs.
    pub fn add(&self, pipeline: &gst::Pipeline) {
        let pipelines = &mut self.0.0.lock().unwrap().pipelines;
        pipelines.retain(|pipeline| pipeline.upgrade().is_some());
        pipelines.push(pipeline.downgrade());
    }

    /// Ends the process.
    pub fn fail(&self, reason: &str) -> ! {
        let steps = match self.0.0.lock() {
            Ok(steps) => steps,
            Err(poisoned) => poisoned.into_inner(),
        };
        eprintln!("the last steps:");
        for step in &steps.last {
            eprintln!("    {step}");
        }
        // At the end, where it is found.
        eprintln!("seed {}: {reason}", steps.seed);
        std::process::abort();
    }

    fn watch(&self) {
        let (steps, entered) = &*self.0;
        loop {
            let steps = steps.lock().unwrap();
            let before = steps.entered;
            let (steps, result) =
                entered.wait_timeout_while(steps, PATIENCE, |s| s.entered == before).unwrap();
            let pipelines = result.timed_out().then(|| steps.pipelines.clone());
            drop(steps);
            for pipeline in pipelines.iter().flatten().filter_map(|pipeline| pipeline.upgrade()) {
                tell(&pipeline);
            }
            if result.timed_out() {
                self.fail(&format!("a step takes more than {PATIENCE:?}: {}", threads()));
            }
        }
    }

    /// How many objects of each type are alive, when no more are than `at_least`. GStreamer's own
    /// threads may hold some a little longer than the pipeline.
    pub fn objects_left(&self, at_least: &Objects) -> Objects {
        let begin = Instant::now();
        loop {
            let objects = self.live_objects();
            if objects == *at_least {
                return objects;
            }
            if begin.elapsed() > PATIENCE / 2 {
                self.each_live_object(|text| eprintln!("{text}"));
                return objects;
            }
            std::thread::yield_now();
        }
    }

    /// How many objects of each type are alive.
    pub fn live_objects(&self) -> Objects {
        let mut objects = Objects::new();
        self.each_live_object(|text| {
            let name = text.split_once(',').map_or(text, |(name, _)| name);
            *objects.entry(name.to_owned()).or_default() += 1;
        });
        assert!(!objects.is_empty(), "the tracer says nothing");
        objects
    }

    /// What the tracer `leaks` tells in the log of each object that is alive: its type, and more.
    fn each_live_object(&self, mut tell: impl FnMut(&str)) {
        let tracers = gst::active_tracers();
        let leaks = tracers.iter().find(|tracer| tracer.type_().name() == "GstLeaksTracer");
        let leaks = leaks.expect("the tracer `leaks`");
        let texts = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&texts);
        gst::log::remove_default_log_function();
        gst::log::set_threshold_for_name("GST_TRACER", gst::DebugLevel::Trace);
        let function = gst::log::add_log_function(move |_, _, _, _, _, _, message| {
            let text = message.get().unwrap_or_default();
            if let Some(alive) = text.strip_prefix("object-alive, type-name=(string)") {
                told.lock().unwrap().push(alive.to_owned());
            }
        });
        leaks.emit_by_name::<()>("log-live-objects", &[]);
        gst::log::remove_log_function(function);
        texts.lock().unwrap().iter().for_each(|text| tell(text));
    }
}

/// Tells where a pipeline stands.
fn tell(pipeline: &gst::Pipeline) {
    for element in pipeline.iterate_recurse().into_iter().flatten() {
        eprint!("{}: {:?}", element.name(), element.state(gst::ClockTime::ZERO));
        for pad in element.pads() {
            let flags = (pad.pad_flags(), pad.task_state());
            eprint!(", {} {flags:?}", pad.name());
        }
        eprintln!();
    }
}

/// Names of the threads, to see what hangs.
fn threads() -> String {
    let name = |task: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(name).map(|name| name.trim().to_owned()).collect::<Vec<_>>().join(", ")
}

/// What this process has now.
pub fn memory() -> Memory {
    // SAFETY: they are safe with any threads; the first joins what is free, the second reads counters.
    let heap = unsafe {
        libc::malloc_trim(0);
        libc::mallinfo2()
    };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse().unwrap();
    Memory { resident_bytes: kib << 10, used_bytes: heap.uordblks + heap.hblkhd }
}
