//! How many threads candle may use: told in the environment, before it starts any.
//!
//! candle's elementwise operations have threads of their own, which spin while they wait for work:
//! on the cores that the convolutions of this project run on, where they cost a fifth of a training
//! step on two cores. And unless it is told a number of threads, candle reads `/proc/cpuinfo` for
//! every matrix product. Both can be set in the environment only, and safe Rust sets that for a new
//! process only; so the program starts once more in its own place.

use std::num::NonZero;
use std::process::Command;
use std::thread::available_parallelism;

use tunableconv_train::tell;

/// Threads of candle's elementwise operations.
const CANDLE: &str = "CANDLE_NUM_THREADS";

/// Threads of everything else.
const RAYON: &str = "RAYON_NUM_THREADS";

/// Starts the program again with `threads` (0: one per core) in the environment, unless it is there
/// already; returns where it is, or where the system cannot do that.
pub fn settle(threads: usize) {
    let rayon = std::env::var(RAYON).ok();
    let is_settled = threads == 0 || rayon == Some(threads.to_string());
    if std::env::var_os(CANDLE).is_some() && is_settled {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return without(threads) };
    let mut again = Command::new(program);
    again.args(std::env::args_os().skip(1));
    if std::env::var_os(CANDLE).is_none() {
        again.env(CANDLE, "1");
    }
    if threads > 0 {
        again.env(RAYON, threads.to_string());
    } else if rayon.is_none() {
        let all = available_parallelism().map_or(1, NonZero::get);
        again.env(RAYON, all.to_string());
    }
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        // Returns only if it failed, and then everything works as well, only slower.
        let error = again.exec();
        tell!("warning: cannot start again with {CANDLE}=1, which is faster: {error}");
    }
    without(threads);
}

/// Makes this thread one of those that compute, so that there are no more than were asked for.
pub fn join() {
    // Fails only where they run already.
    let _ = rayon::ThreadPoolBuilder::new().use_current_thread().build_global();
}

/// Bounds the threads of what is not told in the environment.
fn without(threads: usize) {
    if threads > 0 {
        // Fails only if they run already, and none do.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}
