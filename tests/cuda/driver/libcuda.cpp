// What the engine uses of NVIDIA's driver, with the emulator for a device. A kernel is known by the name of
// the entry in its PTX.
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

using Launch = void (*)(const void *, const unsigned *, unsigned, std::size_t);

#define KERNEL_LAUNCHER(name) extern "C" void launch_##name(const void *, const unsigned *, unsigned, std::size_t);
#define KERNELS(each) each(conv_f16) each(conv_f32) each(read_video_f16) each(read_video_f32) each(write_video)
KERNELS(KERNEL_LAUNCHER)

namespace {

using Handle = void *;
using Address = unsigned long long;

constexpr int SUCCESS = 0, OUT_OF_MEMORY = 2, NOT_FOUND = 500;
constexpr std::size_t MEMORY_BYTES = 64 << 20;

std::map<Address, std::size_t> allocated;
std::size_t allocated_bytes = 0;
int context, stream;
// Where a new block begins.
constexpr std::size_t UNIT = 256;

Launch launcher(const char *name) {
#define NAMED(kernel)                          \
    if (std::strcmp(name, #kernel) == 0) {     \
        return launch_##kernel;                \
    }
    KERNELS(NAMED)
    return nullptr;
}

} // namespace

extern "C" {

int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
int cuDeviceGetAttribute(int *value, int, int) { return *value = 0, SUCCESS; }
int cuDeviceGetName(char *name, int, int) { return std::strcpy(name, "Emulator"), SUCCESS; }
int cuDevicePrimaryCtxRetain(Handle *own, int) { return *own = &context, SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(Handle) { return SUCCESS; }
int cuCtxGetCurrent(Handle *own) { return *own = &context, SUCCESS; }
int cuCtxSynchronize() { return SUCCESS; }
int cuStreamCreate(Handle *own, unsigned) { return *own = &stream, SUCCESS; }
int cuStreamDestroy_v2(Handle) { return SUCCESS; }
int cuStreamSynchronize(Handle) { return SUCCESS; }

int cuGetErrorString(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : "an error";
    return SUCCESS;
}

int cuMemAlloc_v2(Address *at, std::size_t bytes) {
    if (allocated_bytes + bytes > MEMORY_BYTES) {
        return OUT_OF_MEMORY;
    }
    *at = Address(std::aligned_alloc(UNIT, (bytes + UNIT - 1) / UNIT * UNIT));
    allocated[*at] = bytes;
    allocated_bytes += bytes;
    return SUCCESS;
}

int cuMemFree_v2(Address at) {
    const auto block = allocated.find(at);
    if (block == allocated.end()) {
        return NOT_FOUND;
    }
    allocated_bytes -= block->second;
    allocated.erase(block);
    std::free(reinterpret_cast<void *>(at));
    return SUCCESS;
}

int cuMemsetD8_v2(Address at, unsigned char value, std::size_t bytes) {
    return std::memset(reinterpret_cast<void *>(at), value, bytes), SUCCESS;
}

int cuMemcpyHtoDAsync_v2(Address to, const void *from, std::size_t bytes, Handle) {
    return std::memcpy(reinterpret_cast<void *>(to), from, bytes), SUCCESS;
}

int cuMemcpyDtoHAsync_v2(void *to, Address from, std::size_t bytes, Handle) {
    return std::memcpy(to, reinterpret_cast<void *>(from), bytes), SUCCESS;
}

int cuModuleLoadData(Handle *module, const void *image) {
    return *module = new std::string(static_cast<const char *>(image)), SUCCESS;
}

int cuModuleUnload(Handle module) { return delete static_cast<std::string *>(module), SUCCESS; }

int cuModuleGetFunction(Handle *function, Handle module, const char *name) {
    const std::string entry = std::string(".visible .entry ") + name + "(";
    const bool is_there = static_cast<std::string *>(module)->find(entry) != std::string::npos;
    *function = is_there ? reinterpret_cast<Handle>(launcher(name)) : nullptr;
    return *function == nullptr ? NOT_FOUND : SUCCESS;
}

int cuFuncSetAttribute(Handle, int, int) { return SUCCESS; }

int cuLaunchKernel(Handle function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                   unsigned shared_bytes, Handle, void **parameters, void **) {
    const unsigned grid[3] = {x, y, z};
    reinterpret_cast<Launch>(function)(parameters[0], grid, threads, shared_bytes);
    return SUCCESS;
}
}
