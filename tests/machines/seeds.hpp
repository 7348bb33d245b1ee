// Random runs that can be repeated: WEFT_SEED=n runs that seed only, WEFT_SEEDS=n as many as that, from
// WEFT_FIRST_SEED on.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <random>

namespace weft::machines::test {

class random_source {
 public:
  explicit random_source(std::uint64_t seed) : engine_(seed * 0x9e3779b97f4a7c15ULL + 1) {}

  std::uint64_t any() { return engine_(); }
  std::uint64_t below(std::uint64_t end) { return engine_() % end; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  bool percent(std::uint64_t chance) { return below(100) < chance; }

 private:
  std::mt19937_64 engine_;
};

template <class Run>
void for_each_seed(std::uint64_t count, Run run) {
  std::uint64_t first = 1;
  if (const char* one = std::getenv("WEFT_SEED")) {
    first = std::strtoull(one, nullptr, 10);
    count = 1;
  } else if (const char* many = std::getenv("WEFT_SEEDS")) {
    count = std::strtoull(many, nullptr, 10);
    if (const char* start = std::getenv("WEFT_FIRST_SEED")) first = std::strtoull(start, nullptr, 10);
  }
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    CAPTURE(seed);
    random_source random(seed);
    run(random);
  }
}

}  // namespace weft::machines::test
