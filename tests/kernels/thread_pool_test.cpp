#include <weft/kernels/thread_pool.hpp>

#include <doctest/doctest.h>

#include <cpu/row_tasks.hpp>

#include <atomic>
#include <numeric>
#include <vector>

namespace weft::kernels {
namespace {

TEST_CASE("every index is handed out once, whatever the number of threads and tasks") {
  for (const unsigned threads : {1U, 2U, 3U, 8U}) {
    thread_pool pool(threads);
    CHECK(pool.threads() == threads);
    for (const std::size_t count : {0UL, 1UL, 2UL, 7UL, 1000UL}) {
      std::vector<std::atomic<int>> seen(count);
      std::atomic<bool> worker_in_range{true};
      pool.parallel_for(count, [&](std::size_t index, unsigned worker) {
        seen[index].fetch_add(1);
        if (worker >= threads) worker_in_range = false;
      });
      for (const auto& times : seen)
        REQUIRE(times.load() == 1);
      CHECK(worker_in_range);
    }
  }
}

TEST_CASE("every row is handed out once, however many are taken at a time") {
  thread_pool pool(3);
  for (const std::size_t row_bytes : {0UL, 4UL, 30000UL, 65536UL, 1UL << 30}) {
    for (const std::size_t rows : {0UL, 1UL, 2UL, 7UL, 1000UL}) {
      std::vector<std::atomic<int>> seen(rows);
      parallel_for_rows(pool, rows, row_bytes, [&](std::size_t row, unsigned) { seen[row].fetch_add(1); });
      for (const auto& times : seen)
        REQUIRE(times.load() == 1);
    }
  }
}

TEST_CASE("what tasks wrote is there when the region ends") {
  thread_pool pool(4);
  std::vector<std::size_t> values(64);
  for (std::size_t round = 0; round < 5000; ++round) {
    pool.parallel_for(values.size(), [&](std::size_t index, unsigned) { values[index] = index + round; });
    const std::size_t sum = std::accumulate(values.begin(), values.end(), std::size_t{0});
    REQUIRE(sum == 64 * round + 63 * 32);
  }
}

TEST_CASE("tasks that run at the same time have different workers") {
  thread_pool pool(4);
  std::vector<std::atomic<bool>> busy(4);
  std::atomic<int> clashes{0};
  for (int round = 0; round < 200; ++round) {
    pool.parallel_for(64, [&](std::size_t, unsigned worker) {
      if (busy[worker].exchange(true)) ++clashes;
      busy[worker] = false;
    });
  }
  CHECK(clashes == 0);
}

TEST_CASE("a worker's scratch memory grows and stays") {
  thread_pool pool(2);
  const std::byte* const first = pool.scratch(1).reserve(1000).data();
  CHECK(pool.scratch(1).reserve(500).data() == first);
  CHECK(pool.scratch(0).reserve(1000).data() != first);
  CHECK(pool.scratch(1).reserve(100000).size() == 100000);
}

}  // namespace
}  // namespace weft::kernels
