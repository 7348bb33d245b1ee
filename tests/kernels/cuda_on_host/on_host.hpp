// Launches of small kernels for tests of what runs them.
#pragma once

#include <doctest/doctest.h>

#include "../cuda/device_memory.hpp"
#include <cuda/block_memory.cuh>
#include <cuda/launch.cuh>
#include <cuda_on_host/report.hpp>

#include <string>

namespace weft::kernels::cuda_on_host {

using cuda::launch_kernel;
using cuda::launch_shape;
using testing::shared_array;

// Of a launch that is given up; whoever comes next launches as if nothing had been.
template <auto* Kernel, class... Arguments>
std::string report_of(const launch_shape& shape, const Arguments&... arguments) {
  CHECK(launch_kernel<Kernel>(shape, nullptr, arguments...) == cudaErrorLaunchFailure);
  // It stays.
  CHECK(cudaGetLastError() == cudaErrorLaunchFailure);
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  std::string report = last_report();
  CHECK(cudaDeviceReset() == cudaSuccess);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(last_report().empty());
  return report;
}

inline bool has(const std::string& text, const std::string& part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE("`", part, "` is not in: ", text);
  return found;
}

}  // namespace weft::kernels::cuda_on_host
