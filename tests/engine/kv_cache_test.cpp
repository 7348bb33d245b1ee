#include <weft/engine/kv_cache.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <stdexcept>

using weft::engine::kv_cache;
using weft::engine::kv_mirror;
using weft::engine::kv_shape;

namespace {

constexpr kv_shape small{2, 3, 10, weft::kernels::dtype::bf16};

void fill(kv_cache& cache, std::uint32_t layer, std::uint32_t head, std::uint32_t rows) {
  std::iota(cache.positions(layer, head), cache.positions(layer, head) + rows, 0);
  cache.set_rows(layer, head, rows);
}

}  // namespace

TEST_CASE("a cache holds its capacity for every layer and head, each from a 64-byte boundary on") {
  kv_cache cache(small, 7);
  CHECK(cache.capacity_rows() == 7);
  CHECK(cache.allocated_bytes() >= 2U * 3U * 7U * (2U * 10U * 2U + 8U));
  for (std::uint32_t layer = 0; layer < 2; ++layer)
    for (std::uint32_t head = 0; head < 3; ++head) {
      CHECK(cache.rows(layer, head) == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(cache.k(layer, head)) % 64 == 0);
      CHECK(reinterpret_cast<std::uintptr_t>(cache.v(layer, head)) % 64 == 0);
      CHECK(cache.v(layer, head) - cache.k(layer, head) >= 7 * 10 * 2);
    }
  CHECK(cache.k(0, 1) - cache.v(0, 0) >= 7 * 10 * 2);
}

TEST_CASE("truncating forgets positions, however many rows each head has") {
  kv_cache cache(small, 8);
  fill(cache, 0, 0, 8);
  fill(cache, 0, 1, 3);
  fill(cache, 1, 2, 6);
  cache.positions(1, 2)[5] = 90;
  cache.truncate(5);
  CHECK(cache.rows(0, 0) == 5);
  CHECK(cache.rows(0, 1) == 3);
  CHECK(cache.rows(0, 2) == 0);
  CHECK(cache.rows(1, 2) == 5);
  cache.truncate(0);
  CHECK(cache.rows(0, 0) == 0);
}

TEST_CASE("a cache that cannot be is a programming error") {
  CHECK_THROWS_AS(kv_cache(small, 0), std::invalid_argument);
  CHECK_THROWS_AS(kv_cache(kv_shape{0, 1, 8, weft::kernels::dtype::f32}, 4), std::invalid_argument);
  kv_cache cache(small, 4);
  CHECK_THROWS_AS(cache.set_rows(0, 0, 5), std::out_of_range);
}

namespace {

// Has of each piece its own bytes, all alike.
class mirror_of_ones final : public kv_mirror {
 public:
  weft::result<void> bring(std::span<const std::span<std::byte>> pieces) override {
    if (refuses) return weft::fail(weft::errc::internal, "not now");
    for (const auto piece : pieces)
      std::ranges::fill(piece, std::byte{1});
    return {};
  }
  bool refuses = false;
};

}  // namespace

TEST_CASE("keys and values that a mirror has alone are not to be read until they are brought home") {
  kv_cache cache(small, 8);
  fill(cache, 0, 0, 5);
  fill(cache, 0, 1, 5);
  CHECK_THROWS_AS(cache.leave_away(0, 0), std::logic_error);  // with whom
  auto owned = std::make_unique<mirror_of_ones>();
  auto& mirror = *owned;
  cache.keep_mirror(std::move(owned));
  cache.leave_away(0, 0);
  cache.leave_away(1, 1);  // it has no rows
  const kv_cache& looked_at = cache;
  CHECK(!cache.is_home());
  CHECK(!cache.is_home(0, 0));
  CHECK(cache.is_home(0, 1));
  CHECK(cache.is_home(1, 1));
  CHECK_THROWS_AS((void)looked_at.k(0, 0), std::logic_error);
  CHECK_THROWS_AS((void)looked_at.v(0, 0), std::logic_error);
  CHECK_THROWS_AS((void)looked_at.run(0, 0), std::logic_error);
  CHECK_THROWS_AS((void)cache.k(0, 0), std::logic_error);
  CHECK_THROWS_AS((void)cache.v(0, 0), std::logic_error);
  CHECK(looked_at.positions(0, 0)[4] == 4);
  const std::byte other = *looked_at.k(0, 1);
  mirror.refuses = true;
  CHECK(bring_all_home(cache).error().context == "not now");
  CHECK(!cache.is_home());
  mirror.refuses = false;
  REQUIRE(bring_all_home(cache));
  CHECK(cache.is_home());
  const std::size_t bytes = 5 * small.row_bytes();
  for (const std::byte* list : {looked_at.k(0, 0), looked_at.v(0, 0)})
    CHECK(std::all_of(list, list + bytes, [](std::byte b) { return b == std::byte{1}; }));
  CHECK(*looked_at.k(0, 1) == other);
}

TEST_CASE("rows that were with a mirror alone are lost with it, until the cache is empty") {
  kv_cache cache(small, 8);
  fill(cache, 1, 2, 5);
  cache.keep_mirror(std::make_unique<mirror_of_ones>());
  cache.leave_away(1, 2);
  CHECK(!any_lost(cache));
  cache.keep_mirror(nullptr);
  CHECK(any_lost(cache));
  CHECK(cache.bring_home().error().code == weft::errc::internal);
  cache.truncate(2);
  CHECK(any_lost(cache));
  cache.truncate(0);
  CHECK(!any_lost(cache));
  CHECK(cache.bring_home());
  CHECK_NOTHROW((void)cache.k(1, 2));
}
