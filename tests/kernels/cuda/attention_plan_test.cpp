#include <weft/kernels/cuda/attention_plan.hpp>

#include <doctest/doctest.h>

#include <random>

using namespace weft::kernels::cuda;

TEST_CASE("the tasks of a plan are the rows of all runs for all lines, each once") {
  std::mt19937 random(3);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::vector<std::uint32_t>> runs(1 + random() % 5);
    for (auto& head : runs)
      for (auto count = random() % 4; count > 0; --count)
        head.push_back(random() % 4 == 0 ? 0 : static_cast<std::uint32_t>(random() % 50'000));
    const auto lines = static_cast<std::uint32_t>(random() % 500);
    attention_plan plan;
    plan.assign(runs, lines, 1 + static_cast<std::uint32_t>(random() % 500));
    const std::uint32_t groups = (lines + tile_lines - 1) / tile_lines;
    REQUIRE(plan.merges().size() == runs.size() * groups);
    std::uint32_t task = 0;
    for (std::size_t i = 0; i < plan.merges().size(); ++i) {
      const auto& merge = plan.merges()[i];
      REQUIRE(merge.head == i / groups);
      REQUIRE(merge.first_line == i % groups * tile_lines);
      REQUIRE(merge.first_task == task);
      for (std::uint32_t run = 0; run < runs[merge.head].size(); ++run)
        for (std::uint32_t row = 0; row < runs[merge.head][run]; ++task) {
          const auto& part = plan.tasks()[task];
          REQUIRE(part.head == merge.head);
          REQUIRE(part.first_line == merge.first_line);
          REQUIRE(part.run == run);
          REQUIRE(part.first_row == row);
          REQUIRE(part.rows > 0);
          row += part.rows;
          REQUIRE(row <= runs[merge.head][run]);
        }
      REQUIRE(merge.tasks == task - merge.first_task);
    }
    REQUIRE(task == plan.tasks().size());
  }
}

TEST_CASE("few lines over many rows are cut into as many tasks as there are thread blocks") {
  attention_plan plan;
  plan.assign(std::vector<std::vector<std::uint32_t>>(8, {32'768}), 80, 264);
  CHECK(plan.tasks().size() >= 264);
  CHECK(plan.tasks().size() <= 4 * 264);
}
