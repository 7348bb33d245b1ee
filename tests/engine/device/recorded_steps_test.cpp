// Ranks that record their decode steps: each knows other steps, and all do the same.
#include "recorded_steps.hpp"

#include <weft/collective/in_process.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace weft;
using namespace weft::engine;

namespace {

struct numbered_recording final : device::recording {
  explicit numbered_recording(int n) : number(n) {}
  int number;
};

// Writes down what it is asked for.
class noting_stream final : public device::recording_stream {
 public:
  void upload(std::byte*, const void*, std::size_t) override {}
  void download(void*, const std::byte*, std::size_t) override {}
  void copy(std::byte*, const std::byte*, std::size_t) override {}
  void after(device::stream&) override {}
  result<void> wait() override { return {}; }
  void begin_recording() override {
    ++recordings_;
    records = true;
  }
  result<std::unique_ptr<device::recording>> end_recording() override {
    records = false;
    if (refuses) return fail(errc::internal, "refused");
    return std::make_unique<numbered_recording>(recordings_);
  }
  void launch(const device::recording& recorded) override {
    notes.push_back("launched " + std::to_string(dynamic_cast<const numbered_recording&>(recorded).number));
  }

  bool records = false;
  bool refuses = false;
  std::vector<std::string> notes;

 private:
  int recordings_ = 0;
};

struct rank_notes {
  std::vector<std::string> notes;
  std::uint64_t recorded = 0;
  std::uint64_t refused = 0;
};

// Many steps, of which the rank knows some, does some in another way, and whose device refuses some.
rank_notes notes_of(collective::communicator* ranks, unsigned seed) {
  noting_stream stream;
  step_recordings counted;
  group_sums group(ranks);
  recorded_steps steps(stream, counted, group);
  std::mt19937 random(seed);
  const auto one_in = [&random](unsigned n) { return random() % n == 0; };
  for (int step = 0; step < 3000; ++step) {
    stream.notes.push_back("step " + std::to_string(step));
    stream.refuses = one_in(20);
    const auto give = [&]() -> result<void> {
      stream.notes.push_back(stream.records ? "kept" : "given");
      return {};
    };
    if (one_in(30)) {
      REQUIRE(steps.stand_aside());
      REQUIRE(give());
    } else {
      // Most of the time what it was before; now and then more than it can keep.
      REQUIRE(steps.run({one_in(10) ? random() % 100 : random() % 2}, give));
    }
  }
  return {stream.notes, counted.recorded, counted.refused};
}

}  // namespace

TEST_CASE("ranks that know different steps record and launch the same ones") {
  for (const unsigned ranks : {2U, 3U}) {
    auto group = collective::make_in_process_group(ranks, {.timeout = std::chrono::seconds{60}});
    std::vector<rank_notes> all(ranks);
    std::vector<std::thread> threads;
    for (unsigned rank = 0; rank < ranks; ++rank)
      threads.emplace_back([&, rank] { all[rank] = notes_of(group[rank].get(), rank + 1); });
    for (auto& thread : threads)
      thread.join();
    for (const auto& rank : all)
      CHECK(rank.notes == all.front().notes);
    const auto& notes = all.front().notes;
    CHECK(std::ranges::count(notes, "given") > 100);
    CHECK(std::ranges::count(notes, "kept") > 100);
    CHECK(std::ranges::count_if(notes, [](const auto& note) { return note.starts_with("launched"); }) > 100);
    CHECK(
        std::ranges::all_of(all, [](const auto& rank) { return rank.recorded > 100 && rank.refused > 10; }));
  }
}

TEST_CASE("a rank that does not come is an error of a step") {
  auto group = collective::make_in_process_group(2, {.timeout = std::chrono::seconds{60}});
  group.pop_back();
  noting_stream stream;
  step_recordings counted;
  group_sums sums(group.front().get());
  recorded_steps steps(stream, counted, sums);
  const auto done = steps.run({1}, []() -> result<void> { return {}; });
  REQUIRE_FALSE(done);
  CHECK(done.error().code == errc::unreachable);
}
