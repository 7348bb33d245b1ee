#include <weft/device/cuda_device.hpp>
#include <weft/device/recording.hpp>

#include <cuda_runtime_api.h>

namespace weft::device {

namespace {

// Of compute capabilities: bf16 on tensor cores.
constexpr int least_major = 8;

result<void> check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return {};
  const errc code = status == cudaErrorMemoryAllocation ? errc::out_of_space : errc::internal;
  return fail(code, std::string(what) + ": CUDA says " + cudaGetErrorString(status));
}

// Of this thread.
result<void> make_current(int number) {
  return check(cudaSetDevice(number), "choosing CUDA device " + std::to_string(number));
}

struct stream_deleter {
  void operator()(cudaStream_t handle) const { cudaStreamDestroy(handle); }
};
using unique_stream = std::unique_ptr<CUstream_st, stream_deleter>;

struct event_deleter {
  void operator()(cudaEvent_t handle) const { cudaEventDestroy(handle); }
};
using unique_event = std::unique_ptr<CUevent_st, event_deleter>;

struct graph_deleter {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
};
struct executable_deleter {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
struct cuda_recording final : recording {
  explicit cuda_recording(cudaGraphExec_t graph) : executable(graph) {}
  std::unique_ptr<CUgraphExec_st, executable_deleter> executable;
};

class cuda_stream final : public recording_stream {
 public:
  // This thread's, if one records.
  static thread_local cuda_stream* recording_here;

  cuda_stream(int number, unique_stream made) : number_(number), handle_(std::move(made)) {}
  // Memory that the stream still uses may be released right behind it.
  ~cuda_stream() override {
    if (recording_) (void)end_recording();
    cudaStreamSynchronize(handle());
  }
  cuda_stream(const cuda_stream&) = delete;
  cuda_stream& operator=(const cuda_stream&) = delete;

  void upload(std::byte* to, const void* from, std::size_t bytes) override {
    if (refused("a copy to the device")) return;
    note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, handle()), "a copy to the device");
  }
  void download(void* to, const std::byte* from, std::size_t bytes) override {
    if (refused("a copy from the device")) return;
    note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, handle()), "a copy from the device");
  }
  void copy(std::byte* to, const std::byte* from, std::size_t bytes) override {
    if (refused("a copy on the device")) return;
    note(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, handle()), "a copy on the device");
  }
  // An event that is destroyed is still waited for.
  void after(stream& other) override {
    if (refused("another stream")) return;
    auto& before = dynamic_cast<cuda_stream&>(other);
    if (!before.failed_) keep(before.failed_);
    cudaStream_t const later = handle();
    cudaEvent_t made = nullptr;
    note(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "an event");
    const unique_event event(made);
    if (event == nullptr) return;
    note(cudaEventRecord(made, before.handle_.get()), "an event");
    note(cudaStreamWaitEvent(later, made, 0), "waiting for another stream");
  }
  result<void> wait() override {
    if (refused("waiting")) return failed_;
    note(cudaStreamSynchronize(handle()), "a kernel or a copy");
    return std::exchange(failed_, {});
  }

  // Other threads go on as they do.
  void begin_recording() override {
    failed_before_ = std::exchange(failed_, {});
    note(cudaStreamBeginCapture(handle(), cudaStreamCaptureModeThreadLocal), "the begin of a recording");
    recording_ = true;
    recording_here = this;
  }
  result<std::unique_ptr<recording>> end_recording() override {
    recording_ = false;
    recording_here = nullptr;
    cudaGraph_t captured = nullptr;
    note(cudaStreamEndCapture(handle(), &captured), "a recording");
    const std::unique_ptr<CUgraph_st, graph_deleter> graph(captured);
    cudaGraphExec_t executable = nullptr;
    if (failed_) note(cudaGraphInstantiate(&executable, captured, 0), "a recording");
    const auto outcome = std::exchange(failed_, std::exchange(failed_before_, {}));
    if (!outcome) {
      cudaGetLastError();  // or the next launch would report it
      return tl::unexpected(outcome.error());
    }
    return std::make_unique<cuda_recording>(executable);
  }
  void launch(const recording& recorded) override {
    if (refused("a recording")) return;
    note(cudaGraphLaunch(dynamic_cast<const cuda_recording&>(recorded).executable.get(), handle()),
         "a recording's launch");
  }

  cudaStream_t handle() {
    if (auto made = make_current(number_); !made) keep(std::move(made));
    return handle_.get();
  }
  void note(cudaError_t status, std::string_view what) {
    if (status == cudaSuccess) return;
    keep(check(status, std::string(what) + " of CUDA device " + std::to_string(number_)));
    cudaGetLastError();  // or the next launch would report it
  }
  // Whether this records, and so cannot take it.
  bool refused(const std::string& what) {
    if (recording_)
      keep(fail(errc::internal,
                "a recording of CUDA device " + std::to_string(number_) + " cannot hold " + what));
    return recording_;
  }

 private:
  void keep(result<void> failed) {
    if (failed_) failed_ = std::move(failed);
  }

  int number_;
  unique_stream handle_;
  bool recording_ = false;
  result<void> failed_;
  result<void> failed_before_;  // the recording began
};

thread_local cuda_stream* cuda_stream::recording_here = nullptr;

bool refused_by_recording(const std::string& what) {
  cuda_stream* const recording = cuda_stream::recording_here;
  return recording != nullptr && recording->refused(what);
}

class cuda_device final : public device {
 public:
  cuda_device(int number, std::string model) : number_(number), model_(std::move(model)) {}

  std::string name() const override { return "cuda:" + std::to_string(number_) + " (" + model_ + ")"; }
  memory_size sizes() const override {
    memory_size size;
    if (!make_current(number_) || cudaMemGetInfo(&size.free_bytes, &size.total_bytes) != cudaSuccess)
      return {};
    return size;
  }
  result<std::unique_ptr<stream>> make_stream() override {
    if (auto current = make_current(number_); !current) return tl::unexpected(current.error());
    cudaStream_t handle = nullptr;
    if (auto made =
            check(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "making a stream of " + name());
        !made)
      return tl::unexpected(made.error());
    return std::make_unique<cuda_stream>(number_, unique_stream(handle));
  }

 private:
  std::byte* take(place where, std::size_t bytes) override {
    if (refused_by_recording("memory that is taken") || !make_current(number_)) return nullptr;
    void* data = nullptr;
    const cudaError_t status =
        where == place::device ? cudaMalloc(&data, bytes) : cudaMallocHost(&data, bytes);
    if (status == cudaSuccess) return static_cast<std::byte*>(data);
    cudaGetLastError();  // or the next launch would report it
    return nullptr;
  }
  // What a recording refuses is given back all the same.
  void release(place where, std::byte* data) noexcept override {
    auto mode = cudaStreamCaptureModeRelaxed;
    const bool refused = refused_by_recording("memory that is given back");
    if (refused) cudaThreadExchangeStreamCaptureMode(&mode);
    (void)make_current(number_);  // or the first device's context would be made for a thread without one
    if (where == place::device)
      cudaFree(data);
    else
      cudaFreeHost(data);
    if (refused) cudaThreadExchangeStreamCaptureMode(&mode);
  }

  int number_;
  std::string model_;
};

}  // namespace

result<std::shared_ptr<device>> open_cuda(unsigned number) {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0)
    return fail(errc::unsupported, std::string("there is no CUDA device here (") +
                                       cudaGetErrorString(status) + "); take the CPU");
  if (number >= static_cast<unsigned>(devices))
    return fail(errc::unsupported, "there is no CUDA device " + std::to_string(number) +
                                       "; devices are 0 to " + std::to_string(devices - 1));
  const int index = static_cast<int>(number);
  cudaDeviceProp properties{};
  if (auto asked =
          check(cudaGetDeviceProperties(&properties, index), "asking CUDA device " + std::to_string(number));
      !asked)
    return tl::unexpected(asked.error());
  if (properties.major < least_major)
    return fail(errc::unsupported, "CUDA device " + std::to_string(number) + " (" + properties.name +
                                       ") has compute capability " + std::to_string(properties.major) + "." +
                                       std::to_string(properties.minor) +
                                       ", and the kernels need 8.0; take the CPU");
  return std::make_shared<cuda_device>(index, properties.name);
}

result<pinned_range> pin(std::span<std::byte> bytes) {
  if (auto done = check(cudaHostRegister(bytes.data(), bytes.size(), cudaHostRegisterPortable),
                        "pinning " + std::to_string(bytes.size()) + " bytes of the host's memory");
      !done) {
    cudaGetLastError();  // or the next launch would report it
    return tl::unexpected(done.error());
  }
  int number = 0;
  cudaGetDevice(&number);
  return pinned_range(bytes.data(), [number](const void* data) {
    cudaSetDevice(number);
    cudaHostUnregister(const_cast<void*>(data));
  });
}

CUstream_st* cuda_handle(stream& s) {
  return dynamic_cast<cuda_stream&>(s).handle();
}

void note_cuda(stream& s, int status, std::string_view what) {
  dynamic_cast<cuda_stream&>(s).note(static_cast<cudaError_t>(status), what);
}

}  // namespace weft::device
