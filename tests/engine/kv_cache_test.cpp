#include <weft/engine/kv_cache.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <numeric>
#include <stdexcept>

using weft::engine::kv_cache;
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
