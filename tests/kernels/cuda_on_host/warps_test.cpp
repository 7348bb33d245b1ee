// What lanes hand each other, against the definitions, and lanes that wait in vain.
#include "on_host.hpp"
#include <cuda/elements.hpp>
#include <cuda/matrix_instructions.cuh>
#include <cuda/warp.cuh>

#include <cstdint>

namespace weft::kernels::cuda_on_host {
namespace {

constexpr unsigned every_lane = 0xFFFFFFFFU;

struct lane_results {
  std::uint64_t of_5, up_3;
  float xor_12;
  unsigned odd, same_third;
  std::uint32_t running;
};

__global__ void exchange(lane_results* out) {
  const unsigned lane = threadIdx.x % 32;
  const std::uint64_t own = (std::uint64_t{threadIdx.x} << 40) + 1;
  lane_results& results = out[threadIdx.x];
  results.of_5 = __shfl_sync(every_lane, own, 5);
  results.up_3 = __shfl_up_sync(every_lane, own, 3);
  results.xor_12 = __shfl_xor_sync(every_lane, static_cast<float>(threadIdx.x), 12);
  results.odd = __ballot_sync(every_lane, lane % 2);
  const cuda::device_warp warp;
  cuda::device_warp::each_lanes<std::uint32_t> values;
  values[lane] = threadIdx.x;
  results.running = warp.running_sums(values)[lane];
  if (lane >= 24) return;
  results.same_third = __match_any_sync(0x00FFFFFFU, threadIdx.x % 3);
}

TEST_CASE("lanes hand each other what CUDA says") {
  shared_array<lane_results> out(96);
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    draw_orders_from(seed);
    REQUIRE(launch_kernel<exchange>({1, 96}, nullptr, out.data()) == cudaSuccess);
    std::uint32_t sum = 0;
    for (std::uint32_t i = 0; i < out.size(); ++i) {
      const std::uint32_t lane = i % 32;
      const std::uint32_t first = i - lane;
      REQUIRE(out[i].of_5 == (std::uint64_t{first + 5} << 40) + 1);
      REQUIRE(out[i].up_3 == (std::uint64_t{lane < 3 ? i : i - 3} << 40) + 1);
      REQUIRE(out[i].xor_12 == static_cast<float>(first + (lane ^ 12U)));
      REQUIRE(out[i].odd == 0xAAAAAAAAU);
      sum = lane == 0 ? i : sum + i;
      REQUIRE(out[i].running == sum);
      if (lane >= 24) continue;
      for (std::uint32_t other = 0; other < 32; ++other)
        REQUIRE((out[i].same_third >> other & 1U) == (other < 24 && (first + other) % 3 == i % 3 ? 1 : 0));
    }
  }
}

__global__ void name_others_only(unsigned* out) {
  out[threadIdx.x] = __ballot_sync(0x0000FFFFU, 1);
}
__global__ void read_beyond_mask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0x0000FFFFU, 1.0F, 16);
}
__global__ void end_before_others(float* out) {
  if (threadIdx.x == 63) return;
  out[threadIdx.x] = __shfl_xor_sync(every_lane, 1.0F, 1);
}
__global__ void name_lanes_that_are_not_there(unsigned* out) {
  out[threadIdx.x] = __ballot_sync(every_lane, 1);
}
__global__ void come_to_two_places(float* out) {
  if (threadIdx.x % 2 == 0)
    out[threadIdx.x] = __shfl_xor_sync(every_lane, 1.0F, 2);
  else
    out[threadIdx.x] = __shfl_xor_sync(every_lane, 2.0F, 2);
}

TEST_CASE("lanes that are missing are told of, with the kernel and the warp") {
  shared_array<float> out(64);
  shared_array<unsigned> bits(64);
  std::string report = report_of<name_others_only>({1, 32}, bits.data());
  CHECK(has(report, "name_others_only, block (0, 0, 0), lane "));
  CHECK(has(report, " of warp 0: it waits in __ballot_sync (warps_test.cpp:"));
  CHECK(has(report, "for lanes 0xffff, and is none of them"));

  report = report_of<read_beyond_mask>({1, 32}, out.data());
  CHECK(has(report, "it reads lane 16 in __shfl_sync, which is not in the mask that it names"));

  report = report_of<end_before_others>({1, 64}, out.data());
  CHECK(has(report, "end_before_others"));
  CHECK(has(report, "warp 1"));
  CHECK((report.find("have ended") != report.npos || report.find("it has ended") != report.npos));

  report = report_of<name_lanes_that_are_not_there>({1, 48}, bits.data());
  CHECK(has(report, "lanes 0xffff0000, which have ended or are none of the block"));

  report = report_of<come_to_two_places>({1, 32}, out.data());
  CHECK(has(report, "lanes wait for each other at different places"));
  CHECK(has(report, "lanes 0x55555555 of warp 0 wait in __shfl_xor_sync"));
  CHECK(has(report, "lanes 0xaaaaaaaa of warp 0 wait in __shfl_xor_sync"));
}

__global__ void wait_for_lanes_that_end() {
  if (threadIdx.x < 20) __syncwarp();
}

TEST_CASE("lanes that wait for memory are told of, too") {
  CHECK(has(report_of<wait_for_lanes_that_end>({1, 32}), "__syncwarp (warps_test.cpp:"));
}

template <class Rows>
__device__ void load_from(const Rows& rows, std::uint32_t* out) {
  std::uint32_t m[4];
  cuda::load_matrices<false>(rows, m[0], m[1], m[2], m[3]);
  for (int i = 0; i < 4; ++i)
    out[4 * threadIdx.x + i] = m[i];
}
__global__ void load_from_device_memory(const std::uint16_t* rows, std::uint32_t* out) {
  load_from(rows + std::size_t{8} * threadIdx.x, out);
}
__global__ void load_between_rows(std::uint32_t* out) {
  WEFT_SHARED(std::uint16_t[33 * 8], rows);
  rows[threadIdx.x] = 0;
  load_from(rows + std::size_t{8} * threadIdx.x + 4, out);
}
// Lane 8 m + r brings row r of matrix m: its element c is 1000 m + 10 r + c.
__global__ void load_four_matrices(std::uint32_t* out) {
  WEFT_SHARED(std::uint16_t[32 * 8], rows);
  for (std::uint32_t c = 0; c < 8; ++c)
    rows[8 * threadIdx.x + c] = static_cast<std::uint16_t>(threadIdx.x / 8 * 1000 + threadIdx.x % 8 * 10 + c);
  load_from(rows + std::size_t{8} * threadIdx.x, out);
}

TEST_CASE("matrices are loaded from the block's memory, at multiples of 16 bytes, and from nowhere else") {
  shared_array<std::uint16_t> rows(std::size_t{33} * 8);
  shared_array<std::uint32_t> out(std::size_t{4} * 32);
  CHECK(has(report_of<load_from_device_memory>({1, 32}, rows.data(), out.data()),
            "is given what is not the block's memory"));
  CHECK(has(report_of<load_between_rows>({1, 32}, out.data()), "is given an address that is not aligned"));
  REQUIRE(launch_kernel<load_four_matrices>({1, 32}, nullptr, out.data()) == cudaSuccess);
  for (std::uint32_t lane = 0; lane < 32; ++lane)
    for (std::uint32_t m = 0; m < 4; ++m) {
      const std::uint32_t low = 1000 * m + 10 * (lane / 4) + 2 * (lane % 4);
      REQUIRE(out[4 * lane + m] == (low | (low + 1) << 16));
    }
}

// Every element of A is 2, of B its column plus 1 (f32 of bf16), of C its row.
__global__ void multiply_constants(float* out) {
  const auto both = [](float x) {
    const std::uint32_t bits = cuda::bf16_elements::narrow(x);
    return bits | bits << 16;
  };
  const std::uint32_t lane = threadIdx.x;
  const std::uint32_t a = both(2.0F);
  const std::uint32_t row = lane / 4;
  const std::uint32_t b = both(static_cast<float>(row + 1));
  float c[4];
  for (std::uint32_t i = 0; i < 4; ++i)
    c[i] = static_cast<float>(i < 2 ? row : row + 8);
  cuda::multiply_add<cuda::bf16_elements>(a, a, a, a, b, b, c[0], c[1], c[2], c[3]);
  for (std::uint32_t i = 0; i < 4; ++i)
    out[(lane / 4 + i / 2 * 8) * 8 + 2 * (lane % 4) + i % 2] = c[i];
}

TEST_CASE("products are those of the matrices that the lanes hold") {
  shared_array<float> out(std::size_t{16} * 8);
  REQUIRE(launch_kernel<multiply_constants>({1, 32}, nullptr, out.data()) == cudaSuccess);
  for (std::uint32_t row = 0; row < 16; ++row)
    for (std::uint32_t column = 0; column < 8; ++column)
      REQUIRE(out[8 * row + column] == static_cast<float>(row + 16 * 2 * (column + 1)));
}

}  // namespace
}  // namespace weft::kernels::cuda_on_host
