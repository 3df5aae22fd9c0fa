//! Threads that wait for work: waking them allocates nothing.
//!
//! Engines that ask for no number of threads share one pool of a thread per core, so that many of
//! them never run more threads than there are cores: a frame waits for a core of its own, and is
//! helped by those that no other frame needs.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use crate::{Error, Result};

/// What workers call with their index. The lifetime is a lie that [`Workers::run`] makes true by
/// waiting for all of them.
type Job = &'static (dyn Fn(usize) + Sync);

/// A frame that is being computed.
struct Frame {
    id: u64,
    job: Job,
    /// Index of the next worker that joins.
    next: usize,
    /// Workers that may join, with the caller.
    limit: usize,
    /// Workers that have not finished, without the caller.
    busy: usize,
    panicked: bool,
}

#[derive(Default)]
struct State {
    frames: Vec<Frame>,
    next_id: u64,
    /// Callers and workers that compute.
    running: usize,
    /// Callers that wait for a core.
    waiting: usize,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A frame may have work, or this is the end.
    work: Condvar,
    /// The last worker of some frame has finished.
    done: Condvar,
    /// A core is free.
    free: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run outside the lock, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition.wait(state).unwrap_or_else(PoisonError::into_inner)
}

/// `count − 1` threads, for callers of which at most `count` compute at once.
struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    count: usize,
}

impl Pool {
    fn new(count: usize) -> Result<Self> {
        let mut pool = Self { shared: Arc::default(), threads: Vec::new(), count };
        // Frames in here at once: beyond this many streams, the first frames allocate.
        pool.shared.lock().frames.reserve(64);
        for index in 1..count {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new()
                .name(format!("tunableconv-{index}"))
                .spawn(move || work(&shared, count))
                .map_err(|e| Error::Device {
                    device: format!("cpu with {count} threads"),
                    reason: e.to_string(),
                })?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// The pool of all cores, which lives as long as someone uses it.
    fn of_all_cores() -> Result<Arc<Self>> {
        static POOL: Mutex<Weak<Pool>> = Mutex::new(Weak::new());
        let mut shared = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = shared.upgrade() {
            return Ok(pool);
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let pool = Arc::new(Self::new(cores)?);
        *shared = Arc::downgrade(&pool);
        Ok(pool)
    }

    fn run(&self, job: Job) {
        let Self { shared, count, .. } = self;
        let mut state = shared.lock();
        state.waiting += 1;
        while state.running >= *count {
            state = wait(&shared.free, state);
        }
        state.waiting -= 1;
        state.running += 1;
        let id = state.next_id;
        state.next_id += 1;
        state.frames.push(Frame { id, job, next: 1, limit: *count, busy: 0, panicked: false });
        drop(state);
        shared.work.notify_all();

        let own = catch_unwind(AssertUnwindSafe(|| job(0)));

        let mut state = shared.lock();
        let frame = loop {
            let at = state.frames.iter().position(|frame| frame.id == id);
            let at = at.expect("only its caller removes a frame");
            // Nobody joins any more.
            state.frames[at].limit = 0;
            if state.frames[at].busy == 0 {
                break state.frames.swap_remove(at);
            }
            state = wait(&shared.done, state);
        };
        state.running -= 1;
        drop(state);
        shared.free.notify_one();
        shared.work.notify_one();
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!frame.panicked, "a worker panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A job's panic was caught, so there is nothing to learn from the result.
            let _ = thread.join();
        }
    }
}

/// Workers of one engine; the caller is worker 0.
pub(crate) struct Workers(Arc<Pool>);

impl Workers {
    /// `count` workers of its own; 0 to share one per core with other engines.
    ///
    /// # Errors
    /// [`Error::Device`] when a thread cannot be started.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let pool = if count == 0 { Pool::of_all_cores() } else { Pool::new(count).map(Arc::new) };
        pool.map(Self)
    }

    /// Most workers that join a job.
    pub(crate) fn count(&self) -> usize {
        self.0.count
    }

    /// Calls `job` with index 0 and, on as many threads as are free, at the same time with other
    /// indices below [`Workers::count`], each at most once; returns when all calls have returned.
    ///
    /// # Panics
    /// If a job panics.
    pub(crate) fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        // SAFETY: the workers are done with the job when this function returns: `Pool::run` waits
        // for them, and nothing between here and there unwinds.
        let job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        self.0.run(job);
    }
}

fn work(shared: &Shared, count: usize) {
    let mut state = shared.lock();
    while !state.stop {
        // Callers that wait come first.
        let is_free = state.running < count && state.waiting == 0;
        let Some(frame) = state.frames.iter_mut().find(|f| is_free && f.next < f.limit) else {
            state = wait(&shared.work, state);
            continue;
        };
        let (id, job, index) = (frame.id, frame.job, frame.next);
        frame.next += 1;
        frame.busy += 1;
        state.running += 1;
        drop(state);
        let result = catch_unwind(AssertUnwindSafe(|| job(index)));
        state = shared.lock();
        state.running -= 1;
        let frame = state.frames.iter_mut().find(|frame| frame.id == id);
        let frame = frame.expect("its caller waits");
        frame.busy -= 1;
        frame.panicked |= result.is_err();
        if frame.busy == 0 {
            shared.done.notify_all();
        }
        shared.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_worker_is_called_at_most_once_and_the_caller_always() {
        for count in [1, 2, 5] {
            let mut workers = Workers::new(count).unwrap();
            for _ in 0..500 {
                let calls: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                workers.run(&|index| {
                    calls[index].fetch_add(1, Ordering::Relaxed);
                });
                let calls: Vec<usize> = calls.into_iter().map(AtomicUsize::into_inner).collect();
                assert!(calls[0] == 1 && calls.iter().all(|&calls| calls <= 1), "{calls:?}");
            }
        }
    }

    #[test]
    fn all_workers_join_a_job_that_waits_for_them() {
        let mut workers = Workers::new(4).unwrap();
        let barrier = std::sync::Barrier::new(4);
        for _ in 0..50 {
            workers.run(&|_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_workers_live_on() {
        let mut workers = Workers::new(3).unwrap();
        let barrier = std::sync::Barrier::new(3);
        for bad in 0..3 {
            let run = AssertUnwindSafe(|| {
                workers.run(&|index| {
                    barrier.wait();
                    assert_ne!(index, bad);
                });
            });
            assert!(catch_unwind(run).is_err());
            workers.run(&|_| ());
        }
    }

    #[test]
    fn many_callers_of_a_pool_run_no_more_threads_than_it_has() {
        const COUNT: usize = 3;
        let pool = Arc::new(Pool::new(COUNT).unwrap());
        let (running, most, calls) =
            (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..7 {
                let mut workers = Workers(Arc::clone(&pool));
                let (running, most, calls) = (&running, &most, &calls);
                scope.spawn(move || {
                    for _ in 0..300 {
                        workers.run(&|index| {
                            most.fetch_max(
                                running.fetch_add(1, Ordering::SeqCst) + 1,
                                Ordering::SeqCst,
                            );
                            std::thread::yield_now();
                            calls.fetch_add(usize::from(index == 0), Ordering::SeqCst);
                            running.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!(calls.into_inner(), 7 * 300);
        let most = most.into_inner();
        assert!((1..=COUNT).contains(&most), "{most} at once");
    }

    #[test]
    fn engines_without_a_number_share_a_pool() {
        let (one, two) = (Workers::new(0).unwrap(), Workers::new(0).unwrap());
        assert!(Arc::ptr_eq(&one.0, &two.0));
        assert!(!Arc::ptr_eq(&Workers::new(2).unwrap().0, &Workers::new(2).unwrap().0));
    }
}
