//! Memory that nothing may be read or written beside.

use super::*;

/// Values at the very end of the memory that may be touched.
pub(super) struct Guarded<T> {
    map: Map,
    of: std::marker::PhantomData<T>,
}

impl<T: Number> Guarded<T> {
    /// Room for so many values.
    pub(super) fn new(values: usize) -> Self {
        Self { map: Map::new(values * size_of::<T>()), of: std::marker::PhantomData }
    }

    pub(super) fn last(&mut self, values: usize) -> &mut [T] {
        let bytes = values * size_of::<T>();
        assert!(bytes <= self.map.len);
        // SAFETY: the map's last bytes, which it owns, all initialised: any bits are a T. Its end
        // is aligned for every T.
        unsafe {
            let first = self.map.start.add(self.map.len - bytes);
            std::slice::from_raw_parts_mut(first.cast(), values)
        }
    }

    pub(super) fn filled(&mut self, from: &[T]) -> &[T] {
        let to = self.last(from.len());
        to.copy_from_slice(from);
        to
    }
}

/// Whole pages, then one that faults.
#[cfg(unix)]
struct Map {
    start: *mut u8,
    len: usize,
    page: usize,
}

#[cfg(unix)]
impl Map {
    pub(super) fn new(bytes: usize) -> Self {
        // SAFETY: asks for a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap();
        let len = bytes.next_multiple_of(page);
        // SAFETY: a new map wherever there is room, and then its last page.
        unsafe {
            let (access, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
            let start = libc::mmap(std::ptr::null_mut(), len + page, access, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            let start = start.cast::<u8>();
            assert_eq!(libc::mprotect(start.add(len).cast(), page, libc::PROT_NONE), 0);
            Self { start, len, page }
        }
    }
}

#[cfg(unix)]
impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: as mapped in `new`; slices of it borrow its owner.
        assert_eq!(unsafe { libc::munmap(self.start.cast(), self.len + self.page) }, 0);
    }
}

/// Where pages cannot be guarded.
#[cfg(not(unix))]
struct Map {
    start: *mut u8,
    len: usize,
    _owner: Aligned<u8>,
}

#[cfg(not(unix))]
impl Map {
    pub(super) fn new(bytes: usize) -> Self {
        let len = bytes.next_multiple_of(LINE_BYTES);
        let mut owner = Aligned::zeroed(len);
        Self { start: owner.as_mut_ptr(), len, _owner: owner }
    }
}
