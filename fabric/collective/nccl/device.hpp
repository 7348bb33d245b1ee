// What a group has of a CUDA device: a stream, memory, and where pointers point to.
#pragma once

#include <weft/base/error.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>

namespace weft::collective {

result<void> check(cudaError_t status, const std::string& what);

// `unsupported` unless there is a CUDA device of this number.
result<void> need_device(int device);

struct stream_deleter {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
using unique_stream = std::unique_ptr<CUstream_st, stream_deleter>;

struct device_memory_deleter {
  void operator()(std::byte* memory) const { cudaFree(memory); }
};
using device_memory = std::unique_ptr<std::byte, device_memory_deleter>;

// On the current device.
result<unique_stream> make_stream();
result<device_memory> make_device_memory(std::size_t bytes);

// Whether a kernel of any device may use this pointer as it is.
bool is_of_device(const void* pointer);

}  // namespace weft::collective
