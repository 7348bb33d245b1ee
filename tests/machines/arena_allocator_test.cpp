#include <weft/machines/arena_allocator.hpp>

#include <doctest/doctest.h>

#include "seeds.hpp"

#include <algorithm>
#include <vector>

namespace weft::machines::test {
namespace {

constexpr std::uint64_t unit = arena_allocator::unit_bytes;

// Sizes as blocks of uneven length have them.
std::uint64_t block_bytes(random_source& random) {
  switch (random.below(4)) {
    case 0:
      return random.between(1, 8 * unit);
    case 1:
      return random.between(8 * unit, 64 * unit);
    default:
      return random.between(64 * unit, 512 * unit);
  }
}

}  // namespace

TEST_CASE("places are aligned, large enough and merge again when freed") {
  arena_allocator arena(8 * unit, 10 * unit);
  const auto a = arena.allocate(1, 1);
  const auto b = arena.allocate(unit + 1, 2);
  const auto c = arena.allocate(7 * unit, 3);
  REQUIRE(a);
  REQUIRE(b);
  REQUIRE(c);
  CHECK(arena.offset(*a) == 8 * unit);
  CHECK(arena.offset(*b) == 9 * unit);
  CHECK(arena.size_bytes(*b) == 2 * unit);
  CHECK(arena.free_bytes() == 0);
  CHECK_FALSE(arena.allocate(1, 4));
  CHECK(arena.before(*b).owner == 1);
  CHECK(arena.behind(*b).owner == 3);
  CHECK_FALSE(arena.behind(*c).exists);
  arena.free(*a);
  arena.free(*c);
  CHECK(arena.largest_hole_bytes() == 7 * unit);
  CHECK_FALSE(arena.allocate(8 * unit, 5));
  arena.free(*b);
  CHECK(arena.largest_hole_bytes() == 10 * unit);
  CHECK(arena.consistent());
  CHECK(arena.allocate(10 * unit, 6));
}

TEST_CASE("nothing fits into nothing, and zero bytes are no place") {
  arena_allocator empty(0, 0);
  CHECK_FALSE(empty.allocate(1, 0));
  CHECK(empty.consistent());
  arena_allocator arena(0, unit);
  CHECK_FALSE(arena.allocate(0, 0));
  CHECK_FALSE(arena.allocate(~std::uint64_t{0}, 0));
  CHECK_THROWS(arena_allocator(1, unit));
  CHECK_THROWS(arena_allocator(0, unit + 1));
}

TEST_CASE("places never overlap and the books always add up") {
  for_each_seed(200, [](random_source& random) {
    const std::uint64_t units = random.between(1, 4'000);
    arena_allocator arena(random.below(100) * unit, units * unit);
    std::vector<arena_allocator::place> taken;
    for (int i = 0; i < 400; ++i) {
      if (random.percent(60)) {
        if (const auto at =
                arena.allocate(random.between(1, random.percent(80) ? 20 * unit : units * unit), 0)) {
          taken.push_back(*at);
        }
      } else if (!taken.empty()) {
        std::swap(taken[random.below(taken.size())], taken.back());
        arena.free(taken.back());
        taken.pop_back();
      }
      if (i % 40 != 0) continue;
      REQUIRE(arena.consistent());
      std::uint64_t used = 0;
      std::ranges::sort(taken, {}, [&](auto p) { return arena.offset(p); });
      for (std::size_t t = 0; t < taken.size(); ++t) {
        used += arena.size_bytes(taken[t]);
        if (t > 0)
          REQUIRE(arena.offset(taken[t - 1]) + arena.size_bytes(taken[t - 1]) <= arena.offset(taken[t]));
      }
      REQUIRE(used == arena.used_bytes());
      REQUIRE(used + arena.free_bytes() == arena.capacity_bytes());
    }
    for (const auto p : taken)
      arena.free(p);
    REQUIRE(arena.consistent());
    REQUIRE(arena.largest_hole_bytes() == arena.capacity_bytes());
  });
}

TEST_CASE("at a load of 95 % less than a tenth of the arena is lost to holes that are too small") {
  random_source random(1);
  arena_allocator arena(0, 2ULL << 30);
  std::vector<arena_allocator::place> taken;
  const auto free_one = [&] {
    std::swap(taken[random.below(taken.size())], taken.back());
    arena.free(taken.back());
    taken.pop_back();
  };
  double worst = 0;
  double sum = 0;
  int refused = 0;
  int asked = 0;
  for (int i = 0; i < 400'000; ++i) {
    if (arena.used_bytes() >= arena.capacity_bytes() / 100 * 95) {
      free_one();
      continue;
    }
    ++asked;
    if (const auto at = arena.allocate(block_bytes(random), 0)) {
      taken.push_back(*at);
      continue;
    }
    const double lost = static_cast<double>(arena.free_bytes()) / static_cast<double>(arena.capacity_bytes());
    ++refused;
    sum += lost;
    worst = std::max(worst, lost);
    free_one();
  }
  MESSAGE("refused " << refused << " of " << asked << ", free then: mean "
                     << (refused == 0 ? 0.0 : sum / refused) << ", worst " << worst);
  CHECK(worst < 0.10);
  CHECK(arena.consistent());
}

}  // namespace weft::machines::test
