//! A [`Gpu`] whose kernels are compiled for the CPU, see `emulator.hpp`.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use tunableconv::engine::cuda::{Address, Gpu, Kernel, Launch, Pinned};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Bytes before and behind what is allocated, which no kernel may touch.
const MARGIN: usize = 256;

const MARK: u8 = 0x5a;

type LaunchKernel = unsafe extern "C" fn(*const c_void, *const u32, u32, usize);

/// The kernels, compiled for the CPU.
#[derive(Clone)]
pub struct Kernels(Arc<HashMap<Kernel, LaunchKernel>>);

/// Stands for a GPU.
pub struct Emulator {
    kernels: Kernels,
    pub memory: HashMap<Address, Vec<u128>>,
    pub pinned: HashMap<usize, Vec<u8>>,
    pub launches: usize,
    /// Copies that all before were waited for, and those that were not.
    pub writes: usize,
    pub sends: usize,
    fetched: usize,
}

pub fn compiled(sources: &Path, kernels: &[Kernel]) -> Kernels {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("kernels.so");
    let units = kernels.iter().map(|kernel| format!("{ROOT}/tests/cuda/{}.cpp", kernel.name()));
    let output = Command::new(std::env::var("CXX").unwrap_or("c++".into()))
        .args(["-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(sources)
        .arg(format!("-I{ROOT}/tests/cuda"))
        .args(units)
        .arg("-o")
        .arg(&library)
        .output()
        .expect("a C++ compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the library was compiled above, and nothing runs when it is loaded.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    // SAFETY: dlerror gives a text after a failure.
    assert!(!handle.is_null(), "{:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
    let kernels = kernels.iter().map(|&kernel| {
        let name = CString::new(format!("launch_{}", kernel.name())).unwrap();
        // SAFETY: the handle is that of a library, which is never closed.
        let symbol = unsafe { libc::dlsym(handle, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?}");
        // SAFETY: `EXPORT` in the emulator makes a function of this type.
        (kernel, unsafe { std::mem::transmute::<*mut c_void, LaunchKernel>(symbol) })
    });
    Kernels(Arc::new(kernels.collect()))
}

impl Emulator {
    pub fn new(kernels: Kernels) -> Self {
        Self {
            kernels,
            memory: HashMap::new(),
            pinned: HashMap::new(),
            launches: 0,
            writes: 0,
            sends: 0,
            fetched: 0,
        }
    }

    /// With the kernels as they are.
    pub fn usual() -> Self {
        static KERNELS: OnceLock<Kernels> = OnceLock::new();
        let sources = PathBuf::from(format!("{ROOT}/src/engine/cuda/kernels"));
        Self::new(KERNELS.get_or_init(|| compiled(&sources, &Kernel::ALL)).clone())
    }

    /// That so many bytes of a block are there.
    fn check_inside(&self, at: Address, bytes: usize) {
        let is_inside = |(start, block): (&Address, &Vec<u128>)| {
            let end = start + (size_of_val(&block[..]) - 2 * MARGIN) as Address;
            (*start..=end).contains(&at) && at + bytes as Address <= end
        };
        assert!(self.memory.iter().any(is_inside), "{bytes} bytes at {at:#x}");
    }

    fn copy(&self, to: Address, bytes: &[u8]) {
        self.check_inside(to, bytes.len());
        // SAFETY: inside a block, as was checked.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
    }

    fn check(&self) {
        for block in self.memory.values() {
            let bytes: Vec<u8> = block.iter().flat_map(|word| word.to_le_bytes()).collect();
            let (before, behind) = (&bytes[..MARGIN], &bytes[bytes.len() - MARGIN..]);
            assert!(before.iter().chain(behind).all(|byte| *byte == MARK), "written beyond");
        }
    }
}

impl Gpu for Emulator {
    fn name(&self) -> String {
        "an emulator".into()
    }

    fn allocate(&mut self, bytes: usize) -> tunableconv::Result<Address> {
        // Up to the mark nothing is left over.
        let unit = size_of::<u128>();
        let words = bytes.div_ceil(unit) + 2 * MARGIN / unit;
        let mut block = vec![0u128; words];
        let mark = u128::from_le_bytes([MARK; 16]);
        block[..MARGIN / unit].fill(mark);
        block[words - MARGIN / unit..].fill(mark);
        let at = block.as_mut_ptr() as Address + MARGIN as Address;
        self.memory.insert(at, block);
        Ok(at)
    }

    fn free(&mut self, at: Address) {
        self.check();
        assert!(self.memory.remove(&at).is_some(), "nothing was allocated there");
    }

    fn pin(&mut self, bytes: usize) -> tunableconv::Result<Pinned> {
        let mut memory = vec![0; bytes];
        let at = NonNull::new(memory.as_mut_ptr()).unwrap();
        self.pinned.insert(at.as_ptr().addr(), memory);
        // SAFETY: it is kept until it is given back.
        Ok(unsafe { Pinned::new(at, bytes) })
    }

    fn unpin(&mut self, memory: Pinned) {
        assert!(self.pinned.remove(&memory.as_ptr().addr()).is_some());
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> tunableconv::Result<()> {
        self.writes += 1;
        self.copy(to, bytes);
        Ok(())
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> tunableconv::Result<()> {
        self.check_inside(from, bytes.len());
        self.check();
        // SAFETY: inside a block, as was checked.
        unsafe {
            std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len());
        }
        Ok(())
    }

    fn send(&mut self, to: Address, from: &Pinned, part: Range<usize>) -> tunableconv::Result<()> {
        self.sends += 1;
        // SAFETY: nothing is on its way.
        self.copy(to, unsafe { from.part(part) });
        Ok(())
    }

    fn fetch(
        &mut self,
        from: Address,
        to: &mut Pinned,
        part: Range<usize>,
    ) -> tunableconv::Result<()> {
        self.fetched += 1;
        // SAFETY: nothing is on its way.
        self.read(from, unsafe { to.part_mut(part) })
    }

    fn wait(&mut self) -> tunableconv::Result<()> {
        self.fetched = self.fetched.checked_sub(1).expect("something is fetched");
        Ok(())
    }

    fn settle(&mut self) {
        self.fetched = 0;
    }

    fn launch(
        &mut self,
        kernel: Kernel,
        argument: &[u8],
        launch: Launch,
    ) -> tunableconv::Result<()> {
        self.launches += 1;
        // What is 8 bytes long lies at a multiple of 8.
        let words: Vec<u64> =
            argument.chunks(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect();
        let Launch { grid, threads, shared_bytes } = launch;
        let run = self.kernels.0[&kernel];
        // SAFETY: the argument is as the kernel has it (both sides check its size), and kernels that write elsewhere
        // than they should are what is tested for.
        unsafe { run(words.as_ptr().cast(), grid.as_ptr(), threads, shared_bytes as usize) };
        Ok(())
    }
}
