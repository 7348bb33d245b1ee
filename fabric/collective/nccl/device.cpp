#include "device.hpp"

namespace weft::collective {

result<void> check(cudaError_t status, const std::string& what) {
  if (status == cudaSuccess) return {};
  const errc code = status == cudaErrorMemoryAllocation ? errc::out_of_space : errc::internal;
  return fail(code, what + ": CUDA says " + cudaGetErrorString(status));
}

result<void> need_device(int device) {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0)
    return fail(errc::unsupported, std::string("a group over NCCL needs a CUDA device, and there is none (") +
                                       cudaGetErrorString(status) + "); make it over UCX");
  if (device < 0 || device >= devices)
    return fail(errc::unsupported, "there is no CUDA device " + std::to_string(device) +
                                       "; devices are 0 to " + std::to_string(devices - 1));
  return {};
}

result<unique_stream> make_stream() {
  cudaStream_t stream = nullptr;
  if (auto made = check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream"); !made)
    return tl::unexpected(made.error());
  return unique_stream(stream);
}

result<device_memory> make_device_memory(std::size_t bytes) {
  void* memory = nullptr;
  if (auto made = check(cudaMalloc(&memory, bytes),
                        "allocating " + std::to_string(bytes) + " bytes of device memory for a group");
      !made)
    return tl::unexpected(made.error());
  return device_memory(static_cast<std::byte*>(memory));
}

bool is_of_device(const void* pointer) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, pointer) != cudaSuccess) {
    cudaGetLastError();  // or the next call would report it
    return false;
  }
  return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
}

}  // namespace weft::collective
