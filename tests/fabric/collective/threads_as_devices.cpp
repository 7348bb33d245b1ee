// The calls of CUDA that a group and its devices make, played by threads: device memory is the host's, and
// what is given to a stream is done at once.
#include <weft/kernels/cuda/ordered_sums.hpp>

#include "cuda/ordered_sums_body.hpp"
#include "played_streams.hpp"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

using weft::collective::testing::give;
using weft::collective::testing::played;
using weft::collective::testing::played_stream;
using weft::collective::testing::wait_until_free;

namespace {

constexpr int devices = 64;

std::mutex memory_mutex;
std::map<const char*, std::size_t> device_memory;  // bytes by where they begin

thread_local int current_device = 0;

using played_graph = std::vector<std::function<void()>>;

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  properties->major = 9;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) {
  return "an error";
}
cudaError_t cudaGetLastError() {
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *free = *total = std::size_t{1} << 30U;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const std::scoped_lock lock(memory_mutex);
  *memory = std::malloc(bytes);
  device_memory[static_cast<const char*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  const std::scoped_lock lock(memory_mutex);
  device_memory.erase(static_cast<const char*>(memory));
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::malloc(bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void*, size_t, unsigned) {
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void*) {
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const std::scoped_lock lock(memory_mutex);
  const auto* const at = static_cast<const char*>(pointer);
  const auto behind = device_memory.upper_bound(at);
  const bool inside =
      behind != device_memory.begin() && at < std::prev(behind)->first + std::prev(behind)->second;
  attributes->type = inside ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(new played_stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete &played(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  wait_until_free(played(stream));
  return cudaSuccess;
}
// Of memory that is not pinned: it waits for the stream.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  wait_until_free(played(stream));
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
// Done at once: there is nothing to wait for.
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) {
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) {
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  played(stream).captures = true;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = played(stream).captures ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  played(stream).captures = false;
  *graph = reinterpret_cast<cudaGraph_t>(new played_graph(std::exchange(played(stream).captured, {})));
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable =
      reinterpret_cast<cudaGraphExec_t>(new played_graph(*reinterpret_cast<const played_graph*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const auto& work : *reinterpret_cast<const played_graph*>(executable))
    give(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<played_graph*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete reinterpret_cast<played_graph*>(executable);
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) {
  return cudaSuccess;
}

}  // extern "C"

namespace weft::kernels::cuda {

cudaError_t sum_in_order(const float* values, std::size_t stride, std::uint32_t ranks, std::size_t count,
                         float* out, cudaStream_t stream) {
  give(stream, [=] {
    for (std::size_t i = 0; i < count; ++i)
      out[i] = ordered_sum(values, stride, ranks, i);
  });
  return cudaSuccess;
}

}  // namespace weft::kernels::cuda
