// Models whose ranks run on devices, against the whole model on the CPU.
#include <weft/device/host_device.hpp>
#include <weft/engine/host_compute_device.hpp>
#include <weft/engine/step_recordings.hpp>
#include <weft/engine/stitch.hpp>

#include "../group_cases.hpp"
#include "../small_models.hpp"
#include "../stored_document.hpp"
#include "device_groups.hpp"

#include <atomic>
#include <functional>
#include <thread>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;

namespace {

constexpr float largest_difference = 1e-3F;
constexpr std::size_t device_bytes = std::size_t{64} << 20U;

using device_list = std::vector<std::shared_ptr<const compute_device>>;

device_list devices_for(unsigned ranks) {
  device_list made;
  for (unsigned rank = 0; rank < ranks; ++rank)
    made.push_back(host_compute_device(device_bytes));
  return made;
}

runner load_rank(const std::string& name, communicator& group, std::shared_ptr<const compute_device> device) {
  runner_options options = exact_options();
  options.threads = 1;
  options.group = &group;
  options.device = std::move(device);
  return name == "recall" ? load_recall(options) : load_fixture(name, options);
}

// What each rank of a group returns for the same work.
template <class Result>
std::vector<Result> by_ranks(group_list& group, const device_list& devices, const std::string& name,
                             const std::function<Result(runner&)>& work) {
  std::vector<Result> results(group.size());
  std::vector<std::thread> threads;
  for (unsigned rank = 0; rank < group.size(); ++rank)
    threads.emplace_back([&, rank] {
      runner model = load_rank(name, *group[rank], devices[rank]);
      results[rank] = work(model);
    });
  for (auto& thread : threads)
    thread.join();
  return results;
}

std::vector<float> logits_of_whole(const std::string& name) {
  runner whole = name == "recall" ? load_recall(exact_options()) : load_fixture(name);
  return some_logits(whole);
}

const std::vector<case_of_ranks> possible = {
    {"llama", {2, 4}}, {"llama_tied", {3}}, {"qwen2", {2}}, {"qwen3", {2, 4}}, {"recall", {2, 4}}};

}  // namespace

TEST_CASE("every rank on a device has the logits of the whole model, and the others' bits") {
  for (const case_of_ranks& one : possible) {
    const std::string& name = one.model;
    CAPTURE(name);
    const auto wanted = logits_of_whole(name);
    for (const unsigned ranks : one.ranks) {
      CAPTURE(ranks);
      const auto devices = devices_for(ranks);
      std::vector<std::vector<float>> of_both;
      for (const auto sums : {sums_over::host, sums_over::devices}) {
        auto group = make_groups(devices, sums);
        const auto given = by_ranks<std::vector<float>>(group, devices, name, some_logits);
        for (const auto& logits : given) {
          CHECK(distance(logits, wanted) <= largest_difference);
          CHECK(logits == given.front());
        }
        of_both.push_back(given.front());
      }
      CHECK(of_both[0] == of_both[1]);
    }
  }
}

TEST_CASE("ranks on devices and ranks on CPUs are one group") {
  auto devices = devices_for(4);
  devices[0] = devices[2] = nullptr;
  const auto wanted = logits_of_whole("llama");
  auto group = make_groups(devices, sums_over::host);
  const auto given = by_ranks<std::vector<float>>(group, devices, "llama", some_logits);
  for (const auto& logits : given) {
    CHECK(distance(logits, wanted) <= largest_difference);
    CHECK(logits == given.front());
  }
}

namespace {

constexpr std::int32_t steps = 8;

// What becomes of the steps is decided by rank and step.
enum class way_of_step : std::uint8_t { any, not_recorded, observed };
using ways = std::function<way_of_step(unsigned rank, std::int32_t step)>;

// Logits of steps of two sessions behind a prompt each.
std::vector<float> logits_of_steps(runner& model, const compute_device& device, const ways& way) {
  std::vector<kv_cache> caches;
  std::vector<kv_cache*> sessions;
  for (const std::uint32_t rows : {30U, 7U}) {
    caches.emplace_back(model.cache_shape(), 128);
    row_batch batch;
    add_rows(batch, some_tokens(rows, rows), 0);
    run(model, batch, caches.back());
  }
  sessions.reserve(caches.size());
  for (auto& cache : caches)
    sessions.push_back(&cache);
  std::vector<float> all;
  forward_observer watches;
  for (std::int32_t step = 0; step < steps; ++step) {
    row_batch batch;
    batch.add(10 + step, 30 + step, 0, 0);
    batch.add(20 + step, 7 + step, 0, 1);
    batch.logits_rows = {0, 1};
    std::vector<float> logits(std::size_t{2} * model.config().vocab_size);
    const auto wanted = way(model.shard().rank, step);
    recordings_of(device).wanted = wanted != way_of_step::not_recorded;
    const auto done =
        model.forward(batch, sessions, logits, wanted == way_of_step::observed ? &watches : nullptr);
    REQUIRE_MESSAGE(done.has_value(), done.error().context);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

struct step_counts {
  std::uint64_t recorded = 0;
  std::uint64_t launched = 0;
};

// All ranks give these logits, and count so.
std::vector<float> check_steps(const std::string& name, unsigned ranks, const ways& way,
                               const step_counts& wanted) {
  const auto devices = devices_for(ranks);
  auto group = make_groups(devices, sums_over::devices);
  const auto given = by_ranks<std::vector<float>>(group, devices, name, [&](runner& model) {
    return logits_of_steps(model, *devices[model.shard().rank], way);
  });
  for (unsigned rank = 0; rank < ranks; ++rank) {
    const auto& counted = recordings_of(*devices[rank]);
    CHECK(counted.recorded.load() == wanted.recorded);
    CHECK(counted.launched.load() == wanted.launched);
    CHECK(counted.refused == 0);
    CHECK(given[rank] == given.front());
  }
  return given.front();
}

}  // namespace

TEST_CASE("ranks that sum on their devices record their steps together, and launch them") {
  for (const case_of_ranks& one : possible)
    for (const unsigned ranks : one.ranks) {
      const std::string& name = one.model;
      CAPTURE(name);
      CAPTURE(ranks);
      const auto as_they_come =
          check_steps(name, ranks, [](auto...) { return way_of_step::not_recorded; }, {0, 0});
      // The first as it comes, the second recorded.
      const auto recorded =
          check_steps(name, ranks, [](auto...) { return way_of_step::any; }, {1, steps - 1});
      CHECK(as_they_come == recorded);
    }
}

TEST_CASE("a step that one rank does not record no rank records or launches") {
  const auto as_they_come =
      check_steps("llama", 2, [](auto...) { return way_of_step::not_recorded; }, {0, 0});
  const auto one_does_not = [](way_of_step other) {
    return [other](unsigned rank, std::int32_t step) {
      const bool alone = step == 1 || step == 4 || step == 7;
      return alone && rank == static_cast<unsigned>(step % 2) ? other : way_of_step::any;
    };
  };
  // A pass by layers leaves the rank's residual stream elsewhere: the step behind it is a new one there. So
  // both record the fourth and the seventh, which one of them had recorded before.
  CHECK(check_steps("llama", 2, one_does_not(way_of_step::not_recorded), {2, 2}) == as_they_come);
  CHECK(check_steps("llama", 2, one_does_not(way_of_step::observed), {2, 2}) == as_they_come);
  const auto never = [](unsigned rank, auto) { return rank == 1 ? way_of_step::observed : way_of_step::any; };
  CHECK(check_steps("llama", 2, never, {0, 0}) == as_they_come);
}

TEST_CASE("a rank that goes between recorded steps ends the group") {
  const auto devices = devices_for(2);
  auto group = make_groups(devices, sums_over::devices);
  std::atomic<int> lost = 0;
  by_ranks<int>(group, devices, "llama", [&](runner& model) {
    logits_of_steps(model, *devices[model.shard().rank], [](auto...) { return way_of_step::any; });
    if (model.shard().rank == 1) {
      dynamic_cast<weft::collective::device_communicator&>(*group[1]).leave({errc::unreachable, "killed"});
      return 0;
    }
    kv_cache cache(model.cache_shape(), 128);
    row_batch batch;
    add_rows(batch, some_tokens(1, 1), 0);
    kv_cache* const caches[] = {&cache};
    for (int again = 0; again < 2; ++again) {
      const auto done = model.forward(batch, caches, {});
      if (!done && done.error().code == errc::unreachable) ++lost;
    }
    return 0;
  });
  CHECK(lost == 2);
}

TEST_CASE("a device that fails in a recorded step ends the group") {
  const auto devices = devices_for(2);
  auto group = make_groups(devices, sums_over::devices);
  std::vector<errc> codes(2);
  by_ranks<int>(group, devices, "llama", [&](runner& model) {
    const unsigned rank = model.shard().rank;
    kv_cache cache(model.cache_shape(), 128);
    row_batch batch;
    add_rows(batch, some_tokens(20, 1), 0);
    run(model, batch, cache);
    kv_cache* const caches[] = {&cache};
    std::vector<float> logits(model.config().vocab_size);
    for (std::int32_t step = 0; step < 4; ++step) {
      row_batch one;
      one.add(3, 20 + step, 0, 0);
      one.logits_rows = {0};
      // Among the kernels of the step's layers.
      if (rank == 1 && step == 3)
        dynamic_cast<weft::device::host_device&>(*devices[1]->memory)
            .fail_at(12, weft::device::failing::from_then_on);
      const auto done = model.forward(one, caches, logits);
      CHECK(done.has_value() == (step < 3));
      codes[rank] = done ? errc::ok : done.error().code;
    }
    CHECK(recordings_of(*devices[rank]).launched == 3);
    return 0;
  });
  CHECK(codes == std::vector<errc>{errc::unreachable, errc::internal});
}

TEST_CASE("a rank that is lost ends the group, and who is left goes on from stored blocks in another one") {
  const auto tokens = some_tokens(70, 2);
  const auto question = some_tokens(9, 5);
  runner whole = load_fixture("llama");
  const auto encoded = encode_document(whole, tokens);
  REQUIRE(encoded);
  const stored_document stored(*encoded, 32, two_bands);
  const weft::policies::prompt_document part{tokens, true};
  const auto plan = weft::policies::plan_stitch(
      weft::policies::stitch_policy::none, {.opening = {}, .documents = {&part, 1}, .question = question});
  REQUIRE(plan);
  const auto stitched = [&](runner& model) {
    kv_cache cache(model.cache_shape(), 128);
    const document_blocks blocks = stored.blocks();
    REQUIRE(load_documents(model, cache, *plan, {&blocks, 1}));
    std::vector<float> logits(model.config().vocab_size);
    REQUIRE(prefill(model, cache, *plan, logits));
    return logits;
  };
  const auto wanted = stitched(whole);

  for (const auto sums : {sums_over::host, sums_over::devices}) {
    auto devices = devices_for(4);
    auto group = make_groups(devices, sums);
    std::atomic<int> lost = 0;
    by_ranks<int>(group, devices, "llama", [&](runner& model) {
      CHECK(distance(stitched(model), wanted) <= largest_difference);
      kv_cache cache(model.cache_shape(), 128);
      row_batch batch;
      add_rows(batch, some_tokens(20, 1), 0);
      kv_cache* const caches[] = {&cache};
      if (model.shard().rank == 3) {
        dynamic_cast<weft::collective::device_communicator&>(*group[3]).leave({errc::unreachable, "killed"});
        return 0;
      }
      for (int again = 0; again < 2; ++again) {
        const auto done = model.forward(batch, caches, {});
        if (!done && done.error().code == errc::unreachable) ++lost;
      }
      return 0;
    });
    CHECK(lost == 6);
    devices.resize(2);
    auto smaller = make_groups(devices, sums);
    for (const auto& logits : by_ranks<std::vector<float>>(smaller, devices, "llama", stitched))
      CHECK(distance(logits, wanted) <= largest_difference);
  }
}

TEST_CASE("a rank whose device fails halfway ends the group, which does not wait for it") {
  for (const auto sums : {sums_over::host, sums_over::devices}) {
    const device_list devices = {host_compute_device(device_bytes), host_compute_device(device_bytes)};
    auto group = make_groups(devices, sums);
    const auto codes = by_ranks<std::vector<errc>>(group, devices, "llama", [&](runner& model) {
      std::vector<errc> seen;
      kv_cache cache(model.cache_shape(), 64);
      row_batch batch;
      add_rows(batch, some_tokens(20, 1), 0);
      run(model, batch, cache);
      // Its memory is gone when the pass gets there.
      const bool fails = model.shard().rank == 1;
      std::vector<weft::device::memory> taken;
      auto& memory = *devices[model.shard().rank]->memory;
      for (std::size_t bytes = device_bytes; fails && bytes > 0; bytes /= 2)
        while (auto piece = memory.allocate(bytes, "everything"))
          taken.push_back(std::move(*piece));
      row_batch step;
      for (std::int32_t row = 0; row < 20; ++row) {
        step.add(3, 20 + row, 0, 0);
        step.logits_rows.push_back(static_cast<std::uint32_t>(row));
      }
      std::vector<float> logits(step.size() * model.config().vocab_size);
      kv_cache* const caches[] = {&cache};
      for (int again = 0; again < 2; ++again) {
        const auto done = model.forward(step, caches, logits);
        seen.push_back(done ? errc::ok : done.error().code);
      }
      return seen;
    });
    CHECK(codes[0] == std::vector<errc>{errc::unreachable, errc::unreachable});
    CHECK(codes[1] == std::vector<errc>{errc::out_of_space, errc::out_of_space});
  }
}
