//! NVIDIA's driver as a [`Gpu`]. Its library is looked for when the first device is opened, so that what is built with
//! it runs where there is none.

use std::collections::{HashMap, VecDeque};
use std::ffi::{CString, c_void};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaEvent, CudaStream, DriverError, result, sys};

use super::gpu::{Address, Gpu, Kernel, Launch, Pinned};
use crate::{Error, Result};

/// Shared memory that a block may have on every GPU since the A100.
const SHARED_BYTES: i32 = 99 << 10;

/// The driver's library.
const LIBRARIES: [&str; 2] = ["libcuda.so.1", "nvcuda.dll"];

/// One device.
pub(crate) struct Driver {
    device: String,
    name: String,
    context: Arc<CudaContext>,
    /// What kernels and unpinned copies are put into.
    kernels: Arc<CudaStream>,
    /// What is sent and fetched.
    copies: Copies,
    modules: Vec<sys::CUmodule>,
    functions: HashMap<Kernel, sys::CUfunction>,
}

// SAFETY: the handles are the driver's, which takes them from any thread; `bind` makes the context that of the thread.
unsafe impl Send for Driver {}

/// Copies of pinned memory, beside the kernels.
struct Copies {
    sending: Arc<CudaStream>,
    fetching: Arc<CudaStream>,
    /// Whether something was sent since a kernel was launched, and launched since something was fetched.
    is_sent: bool,
    is_launched: bool,
    /// Of what is sent; of what is launched.
    sent: CudaEvent,
    launched: CudaEvent,
    /// Of each that is being fetched, in order, and those that are free.
    fetched: VecDeque<CudaEvent>,
    free: Vec<CudaEvent>,
}

impl Copies {
    fn new(context: &Arc<CudaContext>) -> std::result::Result<Self, DriverError> {
        Ok(Self {
            sending: context.new_stream()?,
            fetching: context.new_stream()?,
            is_sent: false,
            is_launched: false,
            sent: context.new_event(None)?,
            launched: context.new_event(None)?,
            fetched: VecDeque::new(),
            free: vec![],
        })
    }
}

/// The kernels as the driver compiles them for its device.
fn source(kernel: Kernel) -> &'static str {
    macro_rules! ptx {
        ($name:literal) => {
            include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx"))
        };
    }
    match kernel {
        Kernel::ConvF16 => ptx!("conv_f16"),
        Kernel::ConvF32 => ptx!("conv_f32"),
        Kernel::ReadVideoF16 => ptx!("read_video_f16"),
        Kernel::ReadVideoF32 => ptx!("read_video_f32"),
        Kernel::WriteVideo => ptx!("write_video"),
    }
}

/// The context of a device, if the driver is there and has it.
///
/// # Errors
/// Why not.
pub(crate) fn context(ordinal: usize) -> std::result::Result<Arc<CudaContext>, String> {
    // The bindings panic where there is no library.
    // SAFETY: what the driver does when it is loaded is what every program that uses it has it do.
    let is_there =
        LIBRARIES.into_iter().any(|name| unsafe { libloading::Library::new(name).is_ok() });
    if !is_there {
        return Err("NVIDIA's driver is not installed (libcuda.so.1 cannot be loaded)".into());
    }
    let failed = |error: DriverError| format!("the driver reports: {}", told(error));
    result::init().map_err(failed)?;
    let count = result::device::get_count().map_err(failed)?;
    if i32::try_from(ordinal).is_ok_and(|ordinal| ordinal < count) {
        return CudaContext::new(ordinal).map_err(failed);
    }
    Err(format!("the driver has {count} devices, counted from 0"))
}

/// What the driver says of an error.
fn told(error: DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy().into_owned());
    text.unwrap_or_else(|_| format!("{:?}", error.0))
}

impl Driver {
    /// Opens a device and gives it the kernels.
    ///
    /// # Errors
    /// [`Error::Device`] naming it and why it cannot be used.
    pub(crate) fn open(ordinal: usize) -> Result<Self> {
        let device = format!("cuda:{ordinal}");
        let context =
            context(ordinal).map_err(|reason| Error::Device { device: device.clone(), reason })?;
        let failed = |error: DriverError| Error::Device {
            device: device.clone(),
            reason: format!("the driver reports: {}", told(error)),
        };
        let name = context.name().map_err(failed)?;
        let kernels = context.new_stream().map_err(failed)?;
        let copies = Copies::new(&context).map_err(failed)?;
        let mut own = Self {
            name: format!("{name} ({device})"),
            device: device.clone(),
            context,
            kernels,
            copies,
            modules: vec![],
            functions: HashMap::new(),
        };
        for kernel in Kernel::ALL {
            own.load(kernel).map_err(|error| Error::Device {
                device: device.clone(),
                reason: format!("kernel {}: {}", kernel.name(), told(error)),
            })?;
        }
        Ok(own)
    }

    fn load(&mut self, kernel: Kernel) -> std::result::Result<(), DriverError> {
        let no_zero = "neither PTX nor names have zeros";
        let source = CString::new(source(kernel)).expect(no_zero);
        let name = CString::new(kernel.name()).expect(no_zero);
        let attribute =
            sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the context was made the thread's when it was opened; the image ends with a zero, and the function
        // is of a module that is unloaded with `self`.
        unsafe {
            let module = result::module::load_data(source.as_ptr().cast::<c_void>())?;
            self.modules.push(module);
            let function = result::module::get_function(module, name)?;
            result::function::set_function_attribute(function, attribute, SHARED_BYTES)?;
            self.functions.insert(kernel, function);
        }
        Ok(())
    }

    fn failed(&self, what: &str, error: DriverError) -> Error {
        Error::Device { device: self.device.clone(), reason: format!("{what}: {}", told(error)) }
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|error| self.failed("the context", error))
    }

    /// Until all streams are done.
    fn synchronize(&self) -> std::result::Result<(), DriverError> {
        let Copies { sending, fetching, .. } = &self.copies;
        // Each, whatever becomes of the others.
        let done = [sending, &self.kernels, fetching].map(|stream| stream.synchronize());
        done.into_iter().collect()
    }
}

impl Gpu for Driver {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address> {
        self.bind()?;
        // SAFETY: what is allocated is given back by `free`.
        let at = unsafe { result::malloc_sync(bytes.max(1)) };
        let at = at.and_then(|at| {
            // SAFETY: as much was allocated there. The streams do not wait for the one that this is put into.
            let zeroed = unsafe { result::memset_d8_sync(at, 0, bytes) };
            zeroed.and_then(|()| self.context.synchronize()).map(|()| at).inspect_err(|_| {
                // SAFETY: nobody has it yet. It is reported why there is none.
                let _ = unsafe { result::free_sync(at) };
            })
        });
        at.map_err(|error| self.failed(&format!("memory for {bytes} bytes"), error))
    }

    fn free(&mut self, at: Address) {
        let freed = self.synchronize().and_then(|()| {
            // SAFETY: it was allocated, and no kernel runs.
            unsafe { result::free_sync(at) }
        });
        if let Err(error) = freed {
            tracing::warn!("{}", self.failed("memory that is given back", error));
        }
    }

    fn pin(&mut self, bytes: usize) -> Result<Pinned> {
        self.bind()?;
        // SAFETY: what is allocated is set to zero before it is read, and given back by `unpin`.
        let at = unsafe {
            result::malloc_host(bytes.max(1), 0).inspect(|at| at.cast::<u8>().write_bytes(0, bytes))
        };
        let at =
            at.map_err(|error| self.failed(&format!("{bytes} bytes of pinned memory"), error))?;
        let at = NonNull::new(at.cast()).expect("the driver has allocated it");
        // SAFETY: it was just allocated.
        Ok(unsafe { Pinned::new(at, bytes) })
    }

    fn unpin(&mut self, memory: Pinned) {
        let freed = self.synchronize().and_then(|()| {
            // SAFETY: `pin` has allocated it, and nothing is copied.
            unsafe { result::free_host(memory.as_ptr().cast()) }
        });
        if let Err(error) = freed {
            tracing::warn!("{}", self.failed("pinned memory that is given back", error));
        }
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller has allocated as much there, and `bytes` lives until the copy is done.
        let written = unsafe { result::memcpy_htod_async(to, bytes, self.kernels.cu_stream()) };
        written
            .and_then(|()| self.kernels.synchronize())
            .map_err(|error| self.failed("a copy to the device", error))
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.bind()?;
        // SAFETY: the caller has allocated as much there, and `bytes` lives until the copy is done.
        let read = unsafe { result::memcpy_dtoh_async(bytes, from, self.kernels.cu_stream()) };
        read.and_then(|()| self.kernels.synchronize())
            .map_err(|error| self.failed("a copy from the device", error))
    }

    fn send(&mut self, to: Address, from: &Pinned, part: Range<usize>) -> Result<()> {
        self.bind()?;
        let stream = self.copies.sending.cu_stream();
        // SAFETY: the caller has allocated as much there, and that part stays until what is begun is done.
        let sent = unsafe { result::memcpy_htod_async(to, from.part(part), stream) };
        self.copies.is_sent = true;
        sent.map_err(|error| self.failed("a copy to the device", error))
    }

    fn fetch(&mut self, from: Address, to: &mut Pinned, part: Range<usize>) -> Result<()> {
        self.bind()?;
        let copies = &mut self.copies;
        let fetch = || {
            if std::mem::take(&mut copies.is_launched) {
                copies.launched.record(&self.kernels)?;
                copies.fetching.wait(&copies.launched)?;
            }
            let event = copies.free.pop().map_or_else(|| self.context.new_event(None), Ok)?;
            let stream = copies.fetching.cu_stream();
            // SAFETY: the caller has allocated as much there, and does not touch that part before it has waited.
            unsafe { result::memcpy_dtoh_async(to.part_mut(part), from, stream)? };
            event.record(&copies.fetching)?;
            copies.fetched.push_back(event);
            Ok(())
        };
        fetch().map_err(|error| self.failed("a copy from the device", error))
    }

    fn wait(&mut self) -> Result<()> {
        let event = self.copies.fetched.pop_front().expect("something is being fetched");
        let waited = event.synchronize();
        self.copies.free.push(event);
        waited.map_err(|error| self.failed("what was fetched", error))
    }

    fn settle(&mut self) {
        if let Err(error) = self.synchronize() {
            tracing::warn!("{}", self.failed("what was begun", error));
        }
        let Copies { fetched, free, .. } = &mut self.copies;
        free.extend(fetched.drain(..));
    }

    fn launch(&mut self, kernel: Kernel, argument: &[u8], launch: Launch) -> Result<()> {
        self.bind()?;
        let Launch { grid: [x, y, z], threads, shared_bytes } = launch;
        let copies = &mut self.copies;
        if std::mem::take(&mut copies.is_sent) {
            let seen = copies.sent.record(&copies.sending);
            let seen = seen.and_then(|()| self.kernels.wait(&copies.sent));
            seen.map_err(|error| self.failed("what was sent", error))?;
        }
        self.copies.is_launched = true;
        let mut parameters = [argument.as_ptr().cast_mut().cast::<c_void>()];
        // SAFETY: the function has one parameter of as many bytes, which is copied before this returns.
        let launched = unsafe {
            result::launch_kernel(
                self.functions[&kernel],
                (x, y, z),
                (threads, 1, 1),
                shared_bytes,
                self.kernels.cu_stream(),
                &mut parameters,
            )
        };
        launched.map_err(|error| self.failed(kernel.name(), error))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // What fails here has failed before.
        let _ = self.synchronize();
        for module in self.modules.drain(..) {
            // SAFETY: none of its kernels runs, or is launched again.
            let _ = unsafe { result::module::unload(module) };
        }
    }
}
