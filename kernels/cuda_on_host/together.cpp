#include "cuda_on_host/together.hpp"

#include "cuda_on_host/multiprocessor.hpp"
#include "cuda_on_host/sanitizers.hpp"

namespace weft::kernels::cuda_on_host {

namespace {

constexpr std::uint32_t every_lane = 0xFFFFFFFFU;

}  // namespace

int wait_for_block(const char* what, int value, source_place at) {
  return multiprocessor::running().wait_for_block(what, value, at);
}

void wait_for_lanes(std::uint32_t mask, source_place at) {
  multiprocessor::running().wait_for_lanes(mask, at);
}

std::uint32_t ballot(std::uint32_t mask, bool value, source_place at) {
  const std::uint64_t brought = value ? 1 : 0;
  std::uint64_t given = 0;
  multiprocessor::running().meet(
      "__ballot_sync", mask, &brought, &given,
      [](const lane_words& words) {
        std::uint64_t all = 0;
        for (std::uint32_t lane = 0; lane < warp_lanes; ++lane)
          if (words.brought[lane] != nullptr) all |= *words.brought[lane] << lane;
        for (std::uint64_t* const to : words.given)
          if (to != nullptr) *to = all;
      },
      at);
  return static_cast<std::uint32_t>(given);
}

std::uint32_t lanes_that_equal(std::uint32_t mask, std::uint32_t value, source_place at) {
  const std::uint64_t brought = value;
  std::uint64_t given = 0;
  multiprocessor::running().meet(
      "__match_any_sync", mask, &brought, &given,
      [](const lane_words& words) {
        for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
          if (words.given[lane] == nullptr) continue;
          std::uint64_t equal = 0;
          for (std::uint32_t other = 0; other < warp_lanes; ++other)
            if (words.brought[other] != nullptr && *words.brought[other] == *words.brought[lane])
              equal |= std::uint64_t{1} << other;
          *words.given[lane] = equal;
        }
      },
      at);
  return static_cast<std::uint32_t>(given);
}

std::uint64_t value_of_lane(const char* what, std::uint32_t mask, std::uint64_t value,
                            std::uint32_t from_lane, source_place at) {
  if ((mask >> from_lane & 1U) == 0) {
    const hidden from_sanitizers;
    multiprocessor::running().give_up("it reads lane ", from_lane, " in ", what,
                                      ", which is not in the mask that it names");
  }
  const std::uint64_t brought[] = {value, from_lane};
  std::uint64_t given = 0;
  multiprocessor::running().meet(
      what, mask, brought, &given,
      [](const lane_words& words) {
        for (std::uint32_t lane = 0; lane < warp_lanes; ++lane)
          if (words.given[lane] != nullptr) *words.given[lane] = words.brought[words.brought[lane][1]][0];
      },
      at);
  return given;
}

void work_together(const char* what, std::span<const std::uint64_t> brought, std::span<std::uint64_t> given,
                   void (*work)(const lane_words&), source_place at) {
  multiprocessor::running().meet(what, every_lane, brought.data(), given.data(), work, at);
}

}  // namespace weft::kernels::cuda_on_host
