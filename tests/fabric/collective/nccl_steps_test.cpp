// What a group over NCCL does with what NCCL and CUDA offer, on any machine: see threads_as_devices.cpp.
#include "contract.hpp"
#include "nccl_groups.hpp"
#include <cuda_runtime_api.h>

#include <cstring>

using namespace weft::collective;
using namespace weft::collective::testing;
using weft::errc;

TEST_CASE("sums are those of any group, bit for bit, and so are broadcasts, gathers and barriers") {
  for (unsigned ranks = 1; ranks <= 4; ++ranks) {
    CAPTURE(ranks);
    check_sums<nccl_groups>(ranks);
    check_broadcasts_and_gathers<nccl_groups>(ranks);
  }
  check_barriers<nccl_groups>();
}

TEST_CASE("a rank that NCCL finds lost, and one that is late, end the group") {
  check_leaving<nccl_groups>(2, 1);
  check_leaving<nccl_groups>(4, 400'000);
  check_deadlines<nccl_groups>();
}

TEST_CASE("who is left makes a group without the lost rank") {
  auto group = nccl_groups::make(3, {.timeout = std::chrono::seconds{20}});
  group[2].reset();
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    std::vector<float> values(100, 1.0F);
    const auto lost = here.all_reduce(values);
    if (lost || lost.error().code != errc::unreachable) ++wrong;
  });
  CHECK(wrong == 0);
  check_sums<nccl_groups>(2);
}

TEST_CASE("device memory is summed where it lies") {
  auto group = nccl_groups::make(3, {.timeout = std::chrono::seconds{20}, .piece_bytes = 4096});
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    for (const std::size_t count : {100UL, 20'000UL}) {
      void* memory = nullptr;
      if (cudaMalloc(&memory, count * sizeof(float)) != cudaSuccess) ++wrong;
      auto values = values_of(here.rank(), count, 1);
      std::memcpy(memory, values.data(), count * sizeof(float));
      if (!here.all_reduce({static_cast<float*>(memory), count})) ++wrong;
      std::memcpy(values.data(), memory, count * sizeof(float));
      if (!same_bits(values, sum_in_order(here.size(), count, 1))) ++wrong;
      cudaFree(memory);
    }
  });
  CHECK(wrong == 0);
}
