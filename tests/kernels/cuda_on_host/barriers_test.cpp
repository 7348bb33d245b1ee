// Threads that wait for each other, and those that wait in vain.
#include "on_host.hpp"

#include <cstdint>

namespace weft::kernels::cuda_on_host {
namespace {

// Rounds of neighbours' values, whose sums are wrong if a barrier lets anyone through early.
__global__ void pass_around(std::uint32_t rounds, std::uint32_t* out) {
  WEFT_SHARED(std::uint32_t[1024], values);
  values[threadIdx.x] = threadIdx.x;
  __syncthreads();
  for (std::uint32_t round = 0; round < rounds; ++round) {
    const std::uint32_t next = values[(threadIdx.x + 1) % blockDim.x];
    __syncthreads();
    values[threadIdx.x] = next;
    __syncthreads();
  }
  out[threadIdx.x] = values[threadIdx.x];
}

TEST_CASE("a barrier lets nobody through before all have come") {
  for (const unsigned threads : {1U, 31U, 64U, 1000U}) {
    CAPTURE(threads);
    shared_array<std::uint32_t> out(threads);
    REQUIRE(launch_kernel<pass_around>({1, threads}, nullptr, 9U, out.data()) == cudaSuccess);
    for (unsigned i = 0; i < threads; ++i)
      REQUIRE(out[i] == (i + 9) % threads);
  }
}

__global__ void ask_all(std::uint32_t who, int* out) {
  for (std::uint32_t i = 0; i < 4; ++i)
    out[i * blockDim.x + threadIdx.x] = __syncthreads_or(i % 2 == 1 && threadIdx.x == who ? 8 : 0);
}

TEST_CASE("a barrier tells all threads what one of them brought") {
  shared_array<int> out(std::size_t{4} * 96);
  REQUIRE(launch_kernel<ask_all>({1, 96}, nullptr, 77U, out.data()) == cudaSuccess);
  for (unsigned i = 0; i < out.size(); ++i)
    REQUIRE((out[i] != 0) == (i / 96 % 2 == 1));
}

__global__ void leave_early(std::uint32_t stay, std::uint32_t* out) {
  WEFT_SHARED(std::uint32_t[128], values);
  if (threadIdx.x >= stay) return;
  values[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = values[stay - 1 - threadIdx.x];
}

TEST_CASE("a barrier does not wait for threads that have ended") {
  shared_array<std::uint32_t> out(50);
  REQUIRE(launch_kernel<leave_early>({1, 128}, nullptr, 50U, out.data()) == cudaSuccess);
  for (unsigned i = 0; i < out.size(); ++i)
    REQUIRE(out[i] == 49 - i);
}

__global__ void wait_in_two_places() {
  if (threadIdx.x < 40) __syncthreads();
  if (threadIdx.x >= 40) __syncthreads();
}

__global__ void wait_for_lanes_that_wait_for_all(float* out) {
  if (threadIdx.x < 16)
    __syncthreads();
  else
    out[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFU, 1.0F, 1);
}

TEST_CASE("threads at different barriers are told of, with the kernel, the block and where they wait") {
  const std::string report = report_of<wait_in_two_places>({dim3(1, 2), 64});
  CHECK(has(report, "wait_in_two_places, block (0, "));
  CHECK(has(report, "threads wait at different barriers"));
  CHECK(has(report, "lanes 0xffffffff of warp 0 wait in __syncthreads (barriers_test.cpp:"));
  CHECK(has(report, "lanes 0xff of warp 1 wait in __syncthreads"));
  CHECK(has(report, "lanes 0xffffff00 of warp 1 wait in __syncthreads"));
}

TEST_CASE("threads that nobody can wake are told of") {
  shared_array<float> out(64);
  const std::string report = report_of<wait_for_lanes_that_wait_for_all>({1, 32}, out.data());
  CHECK(has(report, "nobody can go on"));
  CHECK(has(report, "lanes 0xffff of warp 0 wait in __syncthreads"));
  CHECK(has(report, "lanes 0xffff0000 of warp 0 wait in __shfl_xor_sync (barriers_test.cpp:"));
  CHECK(has(report, "for lanes 0xffffffff"));
}

TEST_CASE("nothing runs after a launch was given up until the device is reset") {
  shared_array<std::uint32_t> out(32);
  out[0] = 7;
  CHECK(launch_kernel<wait_in_two_places>({1, 64}, nullptr) == cudaErrorLaunchFailure);
  CHECK(launch_kernel<pass_around>({1, 32}, nullptr, 1U, out.data()) == cudaErrorLaunchFailure);
  CHECK(out[0] == 7);
  CHECK(cudaDeviceReset() == cudaSuccess);
  CHECK(launch_kernel<pass_around>({1, 32}, nullptr, 1U, out.data()) == cudaSuccess);
  CHECK(out[0] == 1);
}

}  // namespace
}  // namespace weft::kernels::cuda_on_host
