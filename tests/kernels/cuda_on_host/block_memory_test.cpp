// Memory that the threads of a block share.
#include "on_host.hpp"

#include <cmath>
#include <cstdint>

namespace weft::kernels::cuda_on_host {
namespace {

// Thread t reads what thread t - 1 wrote; nobody writes for the first one.
__global__ void read_neighbours(float* out, bool write) {
  WEFT_SHARED(float[65], own);
  if (write) own[threadIdx.x + 1] = static_cast<float>(threadIdx.x);
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = own[threadIdx.x];
}

TEST_CASE("what nobody wrote in a block is not a number, whatever the block before it wrote") {
  shared_array<float> out(std::size_t{8} * 64);
  REQUIRE(launch_kernel<read_neighbours>({8, 64}, nullptr, out.data(), true) == cudaSuccess);
  for (unsigned i = 0; i < out.size(); ++i) {
    if (i % 64 == 0)
      CHECK(std::isnan(out[i]));
    else
      REQUIRE(out[i] == static_cast<float>(i % 64 - 1));
  }
  REQUIRE(launch_kernel<read_neighbours>({8, 64}, nullptr, out.data(), false) == cudaSuccess);
  for (unsigned i = 0; i < out.size(); ++i)
    REQUIRE(std::isnan(out[i]));
}

TEST_CASE("device memory that nobody wrote is not a number") {
  shared_array<float> fresh(100);
  for (unsigned i = 0; i < fresh.size(); ++i)
    REQUIRE(std::isnan(fresh[i]));
}

__global__ void use_both(std::uint32_t count, std::uint32_t* out) {
  WEFT_SHARED_OF_LAUNCH(std::uint32_t, asked_for);
  WEFT_SHARED(std::uint32_t[8], first);
  WEFT_SHARED(std::uint32_t[8], second);
  if (threadIdx.x < 8) {
    first[threadIdx.x] = 100 + threadIdx.x;
    second[threadIdx.x] = 200 + threadIdx.x;
  }
  for (std::uint32_t i = threadIdx.x; i < count; i += blockDim.x)
    asked_for[i] = i;
  __syncthreads();
  std::uint32_t sum = first[7] + second[7];
  for (std::uint32_t i = 0; i < count; ++i)
    sum += asked_for[i];
  out[threadIdx.x] = sum;
}

TEST_CASE("variables and what the launch asks for lie apart") {
  shared_array<std::uint32_t> out(32);
  REQUIRE(launch_kernel<use_both>({1, 32, 400 * sizeof(std::uint32_t)}, nullptr, 400U, out.data()) ==
          cudaSuccess);
  for (unsigned i = 0; i < out.size(); ++i)
    REQUIRE(out[i] == 107 + 207 + 399 * 400 / 2);
}

__global__ void take_40_kib() {
  WEFT_SHARED(std::byte[40 << 10], much);
  much[threadIdx.x] = std::byte{1};
}

TEST_CASE("variables and what the launch asks for are 48 KiB at most") {
  CHECK(launch_kernel<take_40_kib>({1, 32, 8 << 10}, nullptr) == cudaSuccess);
  CHECK(has(report_of<take_40_kib>({1, 32, (8 << 10) + 1}), "more than 48 KiB"));
}

}  // namespace
}  // namespace weft::kernels::cuda_on_host
