// What the threads of a block, or the lanes of a warp, do together: each comes and waits until all have come.
//
// Who waits for a lane that has ended or is not in its own mask, for threads that wait elsewhere, or for
// nobody who could still come, ends the launch with a report (report.hpp). Lanes order memory by
// wait_for_lanes alone, as CUDA has it: ThreadSanitizer takes what they hand each other for no order.
#pragma once

#include "cuda_on_host/place.hpp"

#include <array>
#include <cstdint>
#include <span>

namespace weft::kernels::cuda_on_host {

inline constexpr std::uint32_t warp_lanes = 32;

// All threads of the block that have not ended. Whether `value` is not 0 for one of them.
int wait_for_block(const char* what, int value, source_place at);

void wait_for_lanes(std::uint32_t mask, source_place at);
std::uint32_t ballot(std::uint32_t mask, bool value, source_place at);
std::uint32_t lanes_that_equal(std::uint32_t mask, std::uint32_t value, source_place at);
// What lane `from_lane` brought; `what`: the name of the shuffle.
std::uint64_t value_of_lane(const char* what, std::uint32_t mask, std::uint64_t value,
                            std::uint32_t from_lane, source_place at);

// Words of a warp's lanes.
struct lane_words {
  std::array<const std::uint64_t*, warp_lanes> brought{};
  std::array<std::uint64_t*, warp_lanes> given{};
};
inline constexpr std::size_t most_brought_words = 10;
inline constexpr std::size_t most_given_words = 4;

// All lanes of a warp: the last one to come does the `work` for all of them.
void work_together(const char* what, std::span<const std::uint64_t> brought, std::span<std::uint64_t> given,
                   void (*work)(const lane_words&), source_place at);

}  // namespace weft::kernels::cuda_on_host
