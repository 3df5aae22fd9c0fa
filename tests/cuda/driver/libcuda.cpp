// What the engine uses of NVIDIA's driver, with the emulator for a device. A kernel is known by the name of
// the entry in its PTX.
//
// What is put into a stream is done as late as can be: when the stream, or an event of it, is waited for. So a
// stream that does not wait for what it needs finds that it is not done.
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

using Launch = void (*)(const void *, const unsigned *, unsigned, std::size_t);

#define KERNEL_FUNCTIONS(name)                                                                \
    extern "C" void launch_##name(const void *, const unsigned *, unsigned, std::size_t);     \
    extern "C" std::size_t argument_bytes_##name();
#define KERNELS(each) each(conv_f16) each(conv_f32) each(read_video_f16) each(read_video_f32) each(write_video)
KERNELS(KERNEL_FUNCTIONS)

namespace {

using Handle = void *;
using Address = unsigned long long;

constexpr int SUCCESS = 0, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500, NOT_READY = 600;
constexpr std::size_t MEMORY_BYTES = 64 << 20;

std::map<Address, std::size_t> allocated;
std::size_t allocated_bytes = 0;
int context;
// Whether it is that of the thread.
thread_local bool is_current = false;

// What is to be done, in order; where it was waited for, what is left of it.
struct Stream {
    std::deque<std::function<void()>> work;
    std::size_t done = 0;

    // All up to what was the `count`th to be put in.
    void run(std::size_t count) {
        while (done < count) {
            const auto next = std::move(work.front());
            work.pop_front();
            done++;
            next();
        }
    }
    std::size_t count() const { return done + work.size(); }
};

// What a stream has to have done.
struct Event {
    Stream *stream = nullptr;
    std::size_t count = 0;

    void run() const {
        if (stream != nullptr) {
            stream->run(count);
        }
    }
};

// What is put into no stream; the others do not wait for it.
Stream null;
std::vector<Stream *> streams{&null};
std::set<void *> pinned;

Stream &stream_of(Handle stream) { return *static_cast<Stream *>(stream); }

bool is_idle() {
    for (const Stream *stream : streams) {
        if (!stream->work.empty()) {
            return false;
        }
    }
    return true;
}

// Where a new block begins.
constexpr std::size_t UNIT = 256;

struct Function {
    const char *name;
    Launch launch;
    std::size_t argument_bytes;
};

const Function *function_of(const char *name) {
#define FUNCTION(kernel) Function{#kernel, launch_##kernel, argument_bytes_##kernel()},
    static const Function functions[] = {KERNELS(FUNCTION)};
    for (const Function &function : functions) {
        if (std::strcmp(name, function.name) == 0) {
            return &function;
        }
    }
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
int cuCtxSetCurrent(Handle) { return is_current = true, SUCCESS; }
int cuCtxGetCurrent(Handle *own) { return *own = is_current ? &context : nullptr, SUCCESS; }
int cuCtxSynchronize() {
    for (Stream *stream : streams) {
        stream->run(stream->count());
    }
    return SUCCESS;
}
int cuStreamCreate(Handle *own, unsigned) {
    streams.push_back(new Stream);
    return *own = streams.back(), SUCCESS;
}
// It stays, as events may know it.
int cuStreamDestroy_v2(Handle) { return SUCCESS; }
int cuStreamSynchronize(Handle stream) { return stream_of(stream).run(stream_of(stream).count()), SUCCESS; }
int cuEventCreate(Handle *own, unsigned) { return *own = new Event, SUCCESS; }
int cuEventDestroy_v2(Handle event) { return delete static_cast<Event *>(event), SUCCESS; }
int cuEventRecord(Handle event, Handle stream) {
    *static_cast<Event *>(event) = {&stream_of(stream), stream_of(stream).count()};
    return SUCCESS;
}
int cuEventSynchronize(Handle event) { return static_cast<Event *>(event)->run(), SUCCESS; }
int cuStreamWaitEvent(Handle stream, Handle event, unsigned) {
    const Event waited = *static_cast<Event *>(event);
    return stream_of(stream).work.push_back([waited] { waited.run(); }), SUCCESS;
}

int cuGetErrorString(int error, const char **text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : "an error";
    return SUCCESS;
}

int cuMemAlloc_v2(Address *at, std::size_t bytes) {
    if (!is_current) {
        return INVALID_CONTEXT;
    }
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
    if (!is_idle()) {
        return NOT_READY;
    }
    allocated_bytes -= block->second;
    allocated.erase(block);
    std::free(reinterpret_cast<void *>(at));
    return SUCCESS;
}

int cuMemsetD8_v2(Address at, unsigned char value, std::size_t bytes) {
    return null.work.push_back([=] { std::memset(reinterpret_cast<void *>(at), value, bytes); }), SUCCESS;
}

int cuMemHostAlloc(Handle *own, std::size_t bytes, unsigned) {
    *own = std::malloc(bytes);
    return pinned.insert(*own), SUCCESS;
}

int cuMemFreeHost(Handle at) {
    if (!is_idle()) {
        return NOT_READY;
    }
    const bool was_there = pinned.erase(at) > 0;
    std::free(at);
    return was_there ? SUCCESS : NOT_FOUND;
}

int cuMemcpyHtoDAsync_v2(Address to, const void *from, std::size_t bytes, Handle stream) {
    auto *at = reinterpret_cast<void *>(to);
    if (!is_current) {
        return INVALID_CONTEXT;
    }
    stream_of(stream).work.push_back([=] { std::memcpy(at, from, bytes); });
    return SUCCESS;
}

int cuMemcpyDtoHAsync_v2(void *to, Address from, std::size_t bytes, Handle stream) {
    stream_of(stream).work.push_back([=] { std::memcpy(to, reinterpret_cast<void *>(from), bytes); });
    return SUCCESS;
}

int cuModuleLoadData(Handle *module, const void *image) {
    return *module = new std::string(static_cast<const char *>(image)), SUCCESS;
}

int cuModuleUnload(Handle module) { return delete static_cast<std::string *>(module), SUCCESS; }

int cuModuleGetFunction(Handle *function, Handle module, const char *name) {
    const std::string entry = std::string(".visible .entry ") + name + "(";
    const bool is_there = static_cast<std::string *>(module)->find(entry) != std::string::npos;
    *function = is_there ? const_cast<Function *>(function_of(name)) : nullptr;
    return *function == nullptr ? NOT_FOUND : SUCCESS;
}

int cuFuncSetAttribute(Handle, int, int) { return SUCCESS; }

int cuLaunchKernel(Handle function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                   unsigned shared_bytes, Handle stream, void **parameters, void **) {
    if (!is_current) {
        return INVALID_CONTEXT;
    }
    const Function own = *static_cast<Function *>(function);
    std::vector<unsigned long long> argument((own.argument_bytes + 7) / 8);
    std::memcpy(argument.data(), parameters[0], own.argument_bytes);
    stream_of(stream).work.push_back([=] {
        const unsigned grid[3] = {x, y, z};
        own.launch(argument.data(), grid, threads, shared_bytes);
    });
    return SUCCESS;
}
}
