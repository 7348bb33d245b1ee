// Memory for tests on a device, and whether there is one.
#pragma once

#include <doctest/doctest.h>

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>

namespace weft::kernels::testing {

inline bool has_device() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) return true;
  MESSAGE("no CUDA device: skipped");
  return false;
}

// How much of something a test takes: kernels that run on the processor (kernels/cuda_on_host) take their
// time.
constexpr std::uint32_t as_fits([[maybe_unused]] std::uint32_t device, [[maybe_unused]] std::uint32_t host) {
#if defined(WEFT_CUDA_ON_HOST)
  return host;
#else
  return device;
#endif
}

// Memory that both sides read and write.
template <class T>
class shared_array {
 public:
  explicit shared_array(std::size_t count) : count_(count) {
    void* memory = nullptr;
    if (cudaMallocManaged(&memory, std::max<std::size_t>(count, 1) * sizeof(T)) != cudaSuccess)
      throw std::bad_alloc();
    data_ = static_cast<T*>(memory);
  }
  explicit shared_array(std::span<const T> values) : shared_array(values.size()) {
    std::copy(values.begin(), values.end(), data_);
  }
  ~shared_array() { cudaFree(data_); }
  shared_array(const shared_array&) = delete;
  shared_array& operator=(const shared_array&) = delete;

  T* data() { return data_; }
  std::size_t size() const { return count_; }
  T& operator[](std::size_t i) { return data_[i]; }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

}  // namespace weft::kernels::testing
