//! Threads that wait for work: waking them allocates nothing.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::{Error, Result};

/// What every worker calls with its index. The lifetime is a lie that [`Workers::run`] makes true
/// by waiting for all of them.
type Job = &'static (dyn Fn(usize) + Sync);

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Counts jobs, so that no worker takes one twice.
    generation: u64,
    /// Workers that have not finished the job.
    busy: usize,
    panicked: bool,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a new job, or the end.
    start: Condvar,
    /// The last worker has finished.
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside the lock, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fixed number of workers; the caller is worker 0.
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// `count` workers; 0 for one per core.
    ///
    /// # Errors
    /// [`Error::Device`] when a thread cannot be started.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let count = if count == 0 { cores() } else { count };
        let mut workers = Self { shared: Arc::default(), threads: Vec::new() };
        for index in 1..count {
            let shared = Arc::clone(&workers.shared);
            let thread = std::thread::Builder::new()
                .name(format!("tunableconv-{index}"))
                .spawn(move || work(&shared, index))
                .map_err(|e| Error::Device {
                    device: format!("cpu with {count} threads"),
                    reason: e.to_string(),
                })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Number of workers.
    pub(crate) fn count(&self) -> usize {
        self.threads.len() + 1
    }

    /// Calls `job` once on every worker, at once, with the worker's index; returns when all have
    /// returned.
    ///
    /// # Panics
    /// If a job panics.
    pub(crate) fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.threads.is_empty() {
            return job(0);
        }
        // SAFETY: the workers are done with the job when this function returns: `finish` waits
        // for them, and nothing between here and there unwinds.
        let job_for_workers = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        let mut state = self.shared.lock();
        state.job = Some(job_for_workers);
        state.generation += 1;
        state.busy = self.threads.len();
        drop(state);
        self.shared.start.notify_all();
        let own = catch_unwind(AssertUnwindSafe(|| job(0)));
        let mut state = self.shared.lock();
        while state.busy > 0 {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.job = None;
        let panicked = std::mem::take(&mut state.panicked);
        drop(state);
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!panicked, "a worker panicked");
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.start.notify_all();
        for thread in self.threads.drain(..) {
            // A job's panic was caught, so there is nothing to learn from the result.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut generation = 0;
    loop {
        let mut state = shared.lock();
        while !state.stop && state.generation == generation {
            state = shared.start.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stop {
            return;
        }
        generation = state.generation;
        let job = state.job.expect("a new generation has a job");
        drop(state);
        let result = catch_unwind(AssertUnwindSafe(|| job(index)));
        let mut state = shared.lock();
        state.panicked |= result.is_err();
        state.busy -= 1;
        if state.busy == 0 {
            shared.done.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_worker_runs_every_job_once() {
        for count in [1, 2, 5] {
            let mut workers = Workers::new(count).unwrap();
            let calls: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..200 {
                workers.run(&|index| {
                    calls[index].fetch_add(1, Ordering::Relaxed);
                });
            }
            for calls in calls {
                assert_eq!(calls.into_inner(), 200);
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_workers_live_on() {
        let mut workers = Workers::new(3).unwrap();
        for bad in 0..3 {
            let run = AssertUnwindSafe(|| workers.run(&|index| assert_ne!(index, bad)));
            assert!(catch_unwind(run).is_err());
            workers.run(&|_| ());
        }
    }
}
