//! How much memory pictures may take.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Bytes where it cannot be told how much memory there is.
const SMALL_CACHE: u64 = 1 << 30;

/// A quarter of the memory that the process may use, in bytes.
#[must_use]
pub fn default_cache() -> u64 {
    let memory = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
    system.map_or(SMALL_CACHE, |system| {
        let group = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory);
        system.total_memory().min(group) / 4
    })
}
