#include <weft/policies/retrieval/schedule.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

using namespace weft::policies::retrieval;

TEST_CASE("the winners of a period come from the queries of two periods before") {
  for (const std::uint32_t stride : {1U, 2U, 3U, 8U}) {
    CAPTURE(stride);
    period_schedule schedule(stride);
    int attended = -1;  // period whose queries chose the attended blocks; -1: the prompt's
    int ranked = -1;
    int loaded = -1;
    for (int step = 0; step < 5 * static_cast<int>(stride); ++step) {
      const int period = step / static_cast<int>(stride);
      const int within = step % static_cast<int>(stride);
      const auto actions = schedule.next();
      CHECK(actions.swap == (within == 0 && period > 0));
      CHECK(actions.submit == (within == std::min(1, static_cast<int>(stride) - 1)));
      CHECK(actions.begin_load == (within == static_cast<int>(stride) - 1));
      if (actions.swap) attended = loaded;
      CHECK(attended == std::max(-1, period - 2));
      if (actions.submit) ranked = std::max(-1, period - 1);
      if (actions.begin_load) loaded = ranked;
    }
  }
}

TEST_CASE("attended and coming blocks have slots of their own, and only differences are loaded") {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    std::mt19937 engine(seed);
    const std::uint32_t blocks = 40;
    const std::uint32_t winners = 6;
    slot_table table(2 * winners + seed % 3, blocks);
    std::vector<std::uint32_t> contents(2 * winners + seed % 3, UINT32_MAX);
    for (int period = 0; period < 50; ++period) {
      std::vector<std::uint32_t> all(blocks);
      for (std::uint32_t i = 0; i < blocks; ++i)
        all[i] = i;
      std::shuffle(all.begin(), all.begin() + 15, engine);
      all.resize(winners);
      const std::vector<std::uint32_t> before(table.attended().begin(), table.attended().end());
      std::vector<bool> was_resident;
      for (const auto block : all)
        was_resident.push_back(table.resident(block));
      std::size_t missing = 0;
      for (const auto& [block, slot] : table.prepare(all)) {
        contents[slot] = block;
        ++missing;
      }
      CHECK(missing == static_cast<std::size_t>(std::ranges::count(was_resident, false)));
      for (const auto block : before)
        CHECK(contents[table.slot_of(block)] == block);
      CHECK(std::ranges::equal(table.attended(), before));
      table.swap();
      CHECK(std::ranges::is_sorted(table.attended()));
      CHECK(table.attended().size() == winners);
      for (const auto block : all)
        CHECK(contents[table.slot_of(block)] == block);
    }
  }
}

TEST_CASE("the block that was attended longest ago makes room") {
  slot_table table(4, 10);
  const auto attend = [&table](std::vector<std::uint32_t> blocks) {
    const auto loads = table.prepare(blocks).size();
    table.swap();
    return loads;
  };
  CHECK(attend({1, 2}) == 2);
  CHECK(attend({3, 4}) == 2);
  CHECK(attend({1, 3}) == 0);
  CHECK(attend({3, 5}) == 1);
  CHECK(!table.resident(2));
  CHECK(table.resident(1));
}
