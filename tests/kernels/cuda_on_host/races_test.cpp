// ThreadSanitizer finds races of kernels, and none where there is none. Built for it alone.
#include "on_host.hpp"

#include <cstdint>

namespace {
int reports = 0;
}

// What ThreadSanitizer calls for each race that it reports.
extern "C" __attribute__((no_sanitize("thread"))) void __tsan_on_report(void*) {
  ++reports;
}

namespace weft::kernels::cuda_on_host {
namespace {

enum class between { nothing, shuffle, warp_barrier, block_barrier };

// Thread t writes, waits as told, and reads what the next lane, or the next warp, wrote.
template <between Wait>
__global__ void read_next(unsigned step, std::uint32_t* out) {
  WEFT_SHARED(std::uint32_t[64], values);
  values[threadIdx.x] = threadIdx.x;
  std::uint32_t other = 0;
  if constexpr (Wait == between::shuffle) other = __shfl_xor_sync(0xFFFFFFFFU, other, 1);
  if constexpr (Wait == between::warp_barrier) __syncwarp();
  if constexpr (Wait == between::block_barrier) __syncthreads();
  out[blockIdx.x * 64 + threadIdx.x] = other + values[(threadIdx.x + step) % 64];
}

// The barrier that keeps the next round's writers from this round's readers may be left out.
template <bool Second>
__global__ void rounds(std::uint32_t* out) {
  WEFT_SHARED(std::uint32_t[64], values);
  std::uint32_t own = threadIdx.x;
  for (int round = 0; round < 3; ++round) {
    values[threadIdx.x] = own;
    __syncthreads();
    own += values[63 - threadIdx.x];
    if constexpr (Second) __syncthreads();
  }
  out[threadIdx.x] = own;
}

// Each block writes `width` values from the place of its own on.
__global__ void write_apart(std::uint32_t width, std::uint32_t* out) {
  for (std::uint32_t i = threadIdx.x; i < width; i += blockDim.x)
    out[blockIdx.x * 32 + i] = i;
}

template <bool Atomic>
__global__ void count_all(std::uint32_t* count) {
  if constexpr (Atomic)
    atomicAdd(count, 1U);
  else
    ++*count;
}

template <auto* Kernel, class... Arguments>
int races_of(const launch_shape& shape, const Arguments&... arguments) {
  const int before = reports;
  CHECK(launch_kernel<Kernel>(shape, nullptr, arguments...) == cudaSuccess);
  return reports - before;
}

TEST_CASE("threads of a block race unless a barrier stands between them") {
  shared_array<std::uint32_t> out(std::size_t{8} * 64);
  CHECK(races_of<read_next<between::block_barrier>>({8, 64}, 32U, out.data()) == 0);
  CHECK(races_of<read_next<between::warp_barrier>>({8, 64}, 32U, out.data()) > 0);
  CHECK(races_of<read_next<between::nothing>>({1, 64}, 32U, out.data()) > 0);
  CHECK(races_of<rounds<true>>({1, 64}, out.data()) == 0);
  CHECK(races_of<rounds<false>>({1, 64}, out.data()) > 0);
}

__global__ void read_partners_of_pairs(std::uint32_t* out) {
  WEFT_SHARED(std::uint32_t[64], values);
  values[threadIdx.x] = threadIdx.x;
  __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 1U];
}

TEST_CASE("lanes race though they hand each other something, unless they wait for memory") {
  shared_array<std::uint32_t> out(64);
  CHECK(races_of<read_partners_of_pairs>({1, 64}, out.data()) == 0);
  CHECK(races_of<read_next<between::shuffle>>({1, 64}, 1U, out.data()) > 0);
}

TEST_CASE("blocks race where they write the same memory, unless by atomic operations") {
  shared_array<std::uint32_t> out(std::size_t{8} * 32 + 32), count(1);
  CHECK(races_of<write_apart>({8, 32}, 32U, out.data()) == 0);
  CHECK(races_of<write_apart>({8, 32}, 33U, out.data()) > 0);
  count[0] = 0;
  CHECK(races_of<count_all<true>>({8, 32}, count.data()) == 0);
  CHECK(count[0] == 256);
  CHECK(races_of<count_all<false>>({8, 1}, count.data()) > 0);
}

TEST_CASE("launches and the host come one after the other") {
  shared_array<std::uint32_t> out(std::size_t{8} * 32);
  for (int i = 0; i < 3; ++i) {
    CHECK(races_of<write_apart>({8, 32}, 32U, out.data()) == 0);
    CHECK(races_of<write_apart>({4, 64}, 32U, out.data()) == 0);
    const int before = reports;
    for (std::uint32_t at = 0; at < out.size(); ++at)
      out[at] += 1;
    CHECK(reports == before);
  }
}

}  // namespace
}  // namespace weft::kernels::cuda_on_host
