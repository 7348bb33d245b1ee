#include <weft/kernels/thread_pool.hpp>

#include <doctest/doctest.h>

#include <cpu/row_tasks.hpp>

#include <atomic>
#include <numeric>
#include <thread>
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

TEST_CASE("a task beside regions is called once, and is done when it is finished") {
  for (const unsigned threads : {1U, 2U, 4U}) {
    thread_pool pool(threads);
    for (std::size_t round = 0; round < 3000; ++round) {
      std::size_t done = 0;
      auto task = [&] { done += round + 1; };
      const bool away = pool.begin_beside(task);
      CHECK(away == (threads > 1));
      std::vector<std::size_t> values(round % 7);
      pool.parallel_for(values.size(), [&](std::size_t index, unsigned) { values[index] = index + 1; });
      for (std::size_t i = 0; i < values.size(); ++i)
        REQUIRE(values[i] == i + 1);
      if (away) pool.finish_beside();
      REQUIRE(done == round + 1);
    }
  }
}

TEST_CASE("waking workers changes nothing but the time") {
  thread_pool pool(3);
  for (int round = 0; round < 100; ++round) {
    pool.wake();
    std::atomic<int> sum{0};
    pool.parallel_for(round % 5, [&](std::size_t, unsigned) { ++sum; });
    REQUIRE(sum == round % 5);
  }
}

TEST_CASE("regions do not wait for a task beside them") {
  thread_pool pool(2);
  std::atomic<bool> go_on{false};
  bool done = false;
  auto task = [&] {
    while (!go_on.load())
      std::this_thread::yield();
    done = true;
  };
  REQUIRE(pool.begin_beside(task));
  std::atomic<int> sum{0};
  pool.parallel_for(100, [&](std::size_t, unsigned) { ++sum; });
  CHECK(sum == 100);
  go_on = true;
  pool.finish_beside();
  CHECK(done);
}

TEST_CASE("a second task beside regions is called at once") {
  thread_pool pool(3);
  int first = 0;
  int second = 0;
  auto count_first = [&] { ++first; };
  auto count_second = [&] { ++second; };
  REQUIRE(pool.begin_beside(count_first));
  CHECK_FALSE(pool.begin_beside(count_second));
  CHECK(second == 1);
  pool.finish_beside();
  CHECK(first == 1);
}

}  // namespace
}  // namespace weft::kernels
