//! Random steps: one or two pipelines, which two threads write properties of all the while, are
//! started, stopped, sought, flushed, given other caps, taken apart and put together again. No step
//! hangs, no error comes that no step explains, GLib has nothing critical to say, and at the end no
//! object is left and no memory has been lost. (GStreamer itself may leave one behind, an allocation query
//! about once in 100,000 steps; so what is left must be left again.)
//!
//! `STEPS=200000 SEED=7 cargo test -p tunableconv -p gst-plugin-tunableconv --test steps -- --nocapture`
//! makes it that many steps, other ones. With `GST_TRACERS="leaks(stack-traces-flags=full)"` objects
//! that are left are told with the place where they were made. Threads run as they like, so that a seed gives the same
//! steps but not always the same failure.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "steps/guard.rs"]
mod guard;
#[path = "steps/knobs.rs"]
mod knobs;
#[path = "steps/parts.rs"]
mod parts;
#[path = "steps/stage.rs"]
mod stage;

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::time::Instant;

use common::{Model, Random};
use guard::Guard;
use knobs::Writers;
use stage::Stage;

const STEPS: usize = 10_000;
const SEED: u64 = 1;

/// Steps after which all pipelines are new ones.
const LIFE: usize = 100;

/// What the heap may grow by in the last two thirds, less than a small frame for each step: how far
/// caches are filled, and how many threads are about to go, differs.
const MAX_GROWTH_BYTES: usize = 2 << 20;

/// What the process may grow by: the heap has holes, more or less of them.
const MAX_RESIDENT_GROWTH_BYTES: usize = 8 << 20;

/// Set in the process that takes the steps: tracers are chosen before GStreamer starts, and a failure
/// aborts.
const IS_CHILD: &str = "TUNABLECONV_STEPS_CHILD";

/// How that process ends when objects are left and nothing else is wrong.
const OBJECTS_ARE_LEFT: i32 = 3;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// A number below `end`.
fn below(random: &mut Random, end: usize) -> usize {
    let unit = f64::from(random.next() + 1.0) / 2.0;
    ((unit * end as f64) as usize).min(end - 1)
}

/// One of these.
fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[below(random, of.len())]
}

#[test]
fn random_steps_leave_nothing_behind() {
    if std::env::var_os(IS_CHILD).is_some() {
        return run();
    }
    let mut output = run_child();
    if output.status.code() == Some(OBJECTS_ARE_LEFT) {
        println!("once more: {}", String::from_utf8_lossy(&output.stderr));
        output = run_child();
    }
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
}

fn run_child() -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "random_steps_leave_nothing_behind", "--nocapture"])
        .env(IS_CHILD, "1")
        .env("GST_TRACERS", std::env::var("GST_TRACERS").unwrap_or("leaks".into()))
        .env("G_DEBUG", "fatal-criticals")
        // What threads that have ended leave in arenas of their own is no leak.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap()
}

fn run() {
    let steps = number("STEPS").map_or(STEPS, |steps| steps as usize);
    let seed = number("SEED").unwrap_or(SEED);
    let guard = Guard::new(seed);
    common::init();
    let model = Model::new();
    let mut random = Random(seed);
    // The first number of near seeds is nearly the same.
    random.next();

    let objects = guard.live_objects();
    let begin = Instant::now();
    let mut taken = BTreeMap::new();
    take(&guard, &model, &mut random, 0..steps / 3, &mut taken);
    let memory = guard::memory();
    take(&guard, &model, &mut random, steps / 3..steps, &mut taken);
    let memory_after = guard::memory();
    let objects_after = guard.objects_left(&objects);

    println!(
        "{steps} steps of seed {seed} in {:.1} s; heap {} KiB after a third and {} KiB at the end, \
         of a process of {} and {} KiB; {} objects before and {} after them",
        begin.elapsed().as_secs_f64(),
        memory.used_bytes >> 10,
        memory_after.used_bytes >> 10,
        memory.resident_bytes >> 10,
        memory_after.resident_bytes >> 10,
        objects.values().sum::<usize>(),
        objects_after.values().sum::<usize>(),
    );
    println!("{taken:?}");
    assert!(memory_after.used_bytes <= memory.used_bytes + MAX_GROWTH_BYTES);
    let resident = (memory.resident_bytes, memory_after.resident_bytes);
    assert!(resident.1 <= resident.0 + MAX_RESIDENT_GROWTH_BYTES, "{resident:?}");
    let untaken: Vec<_> =
        stage::WEIGHTS.iter().filter(|(step, _)| !taken.contains_key(step)).collect();
    assert!(untaken.is_empty() || steps < STEPS, "steps that were never possible: {untaken:?}");
    if objects_after != objects {
        eprintln!("objects are left: {objects_after:?}, expected {objects:?}");
        std::process::exit(OBJECTS_ARE_LEFT);
    }
}

/// Takes steps with pipelines of its own, and counts them by name.
fn take(
    guard: &Guard,
    model: &Model,
    random: &mut Random,
    steps: std::ops::Range<usize>,
    taken: &mut BTreeMap<&'static str, usize>,
) {
    let mut step = steps.start;
    while step < steps.end {
        let writers = Writers::new(random);
        let mut stages: Vec<Stage> = (0..1 + below(random, 2))
            .map(|index| Stage::new(model, index, random, &writers, guard))
            .collect();
        let end = steps.end.min(step + LIFE);
        while step < end {
            let index = below(random, stages.len());
            *taken.entry(stages[index].step(random, step)).or_default() += 1;
            writers.tick();
            for stage in &mut stages {
                stage.check_messages();
            }
            step += 1;
        }
        // Of two pipelines either may be the last.
        if below(random, 2) == 0 {
            stages.reverse();
        }
        for stage in stages {
            guard.enter(format!("{step}: end of {}", stage.name()));
            stage.end();
        }
        guard.enter(format!("{step}: end of the writers"));
        drop(writers);
    }
}
